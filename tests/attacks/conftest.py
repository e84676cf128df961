"""A database of the attackers' own, and every way into it: as the application, the owner, the admin, the superuser."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.attacks.entities import ENTITIES, Holder, holder
from tests.audit.conftest import sealed  # noqa: F401  a fixture of these tests too
from tests.privacy.rights import house, office  # noqa: F401

from tallystick import Tallystick
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.privacy import tenant_key
from tallystick.schema.harden import harden
from tallystick.settings import Settings, connect_args
from tallystick.testing import KitServer

KEY = bytes(range(32))
SIGN = tenant_key.signer(KEY)


class Ground:
    """One database on the run's server, with an application open on it."""

    def __init__(self, server: KitServer, database: str, keys: Any) -> None:
        self.server = server
        self.database = database
        self.keys = keys
        self.tally: Tallystick

    def url(self, role: str) -> str:
        return self.server.url(role, self.database)  # type: ignore[arg-type]

    def superuser_url(self) -> str:
        """The embedded server's superuser; a server that somebody named has none for us."""
        if self.server.embedded is None:
            pytest.skip("the superuser of a named server is not ours")
        embedded = self.server.embedded
        return embedded._url("postgres", embedded._passwords["postgres"], self.database)

    @contextlib.asynccontextmanager
    async def connected(self, role: str) -> AsyncIterator[asyncpg.Connection]:
        """A raw connection: "app", "admin", "owner" (the admin by SET ROLE) or "superuser"."""
        url = self.superuser_url() if role == "superuser" else self.url("admin" if role == "owner" else role)
        connection = await asyncpg.connect(**connect_args(url))
        try:
            if role == "owner":
                await connection.execute(f"SET ROLE {self.server.roles.owner}")
            yield connection
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def opened(
        self, url: str | None = None, *, verify: bool = False, entities: Iterable[Any] = ENTITIES, **settings: Any
    ) -> AsyncIterator[Tallystick]:
        """Another application on the database, with settings of its own."""
        found = Settings.load(
            {},
            database_url=url or self.url("app"),
            admin_url=self.url("admin"),
            role_prefix=self.server.roles.prefix,
            **settings,
        )
        made = Tallystick.open(settings=found, entities=entities, keys=self.keys)
        async with made:
            made.store.pool._verify = verify
            yield made

    async def tenants(self, count: int = 2) -> list[TenantInfo]:
        """New, empty tenants."""
        return [await self.tally.tenants.create(f"t-{uuid4().hex}", name="A tenant") for _ in range(count)]


@pytest.fixture(scope="session")
async def ground(tally_server: KitServer, tally: Tallystick) -> AsyncIterator[Ground]:
    template = await tally_server.template(None, ENTITIES, ())
    made = Ground(tally_server, await tally_server.clone(template, "_attacks"), tally.keys)
    async with made.opened() as opened:
        made.tally = opened
        yield made


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that a server's account may enter, as ``tmp_path`` is not."""
    made = Path(tempfile.mkdtemp(prefix="tally-attack-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
async def pair(ground: Ground) -> tuple[TenantInfo, TenantInfo]:
    """Two tenants that know nothing of each other."""
    one, other = await ground.tenants(2)
    return one, other


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key of hardened databases."""
    made = tmp_path_factory.mktemp("keys") / "tenant"
    made.touch(mode=0o600)
    made.write_bytes(KEY)
    return made


@pytest.fixture(scope="module")
async def hard(tally_server: KitServer, tally: Tallystick, key_file: Path) -> AsyncIterator[Ground]:
    """A hardened database, and an application with its key."""
    template = await tally_server.template(None, ENTITIES, ())
    made = Ground(tally_server, await tally_server.clone(template, "_hardened"), tally.keys)
    done = await harden(made.url("admin"), key=KEY, roles=tally_server.roles)
    assert (done.hardened, done.changed) == (True, True)
    assert done.policies >= 2 * len(ENTITIES)
    async with made.opened(tenant_key_file=key_file) as app:
        made.tally = app
        yield made
    await tally_server.drop(made.database)


@pytest.fixture
async def plain(tally_server: KitServer, tally: Tallystick) -> AsyncIterator[Ground]:
    """A database in plain mode, to be hardened."""
    template = await tally_server.template(None, ENTITIES, ())
    made = Ground(tally_server, await tally_server.clone(template, "_to_harden"), tally.keys)
    yield made
    await tally_server.drop(made.database)


@pytest.fixture
async def two(hard: Ground) -> tuple[TenantInfo, TenantInfo]:
    """Two tenants of the hardened database with a holder each."""
    one, other = await hard.tenants(2)
    for tenant in (one, other):
        async with hard.tally.session(tenant, actor="seeder") as db:
            await db[Holder].add(holder(tenant.slug[:40]))
    return one, other
