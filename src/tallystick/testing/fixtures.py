"""The fixtures of the testing kit. Heavy imports happen when a fixture is first used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tallystick.testing.plugin import RUN, WORKER, admin_url, binaries

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.entity import Entity
    from tallystick.session import Session
    from tallystick.testing.factories import Make
    from tallystick.testing.races import Race
    from tallystick.testing.sandbox import Sandbox
    from tallystick.testing.server import KitServer

_POOL = 10
_NEEDS_LOOP = frozenset({"tally", "tenant", "db", "sandbox", "race"})


@pytest.fixture(scope="session")
def tally_domains() -> Iterable[str] | None:
    """The built-in domains to install; all of them unless overridden."""
    return None


@pytest.fixture(scope="session")
def tally_entities() -> Sequence[type[Entity]]:
    """The application's own entities; override it in ``conftest.py``."""
    return ()


@pytest.fixture(scope="session")
def tally_version_locations() -> Sequence[str | Path]:
    """Folders with the application's own revisions; override it when entities have some."""
    return ()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tally_server(pytestconfig: pytest.Config) -> AsyncIterator[KitServer]:
    """The server of the run, shared by its workers, stopped when the last one leaves."""
    from tallystick.testing.server import KitServer

    server = await KitServer.start(
        pytestconfig.stash[RUN],
        pytestconfig.stash[WORKER],
        binaries=binaries(pytestconfig),
        admin_url=admin_url(pytestconfig),
    )
    try:
        yield server
    finally:
        await server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tally(
    pytestconfig: pytest.Config,
    tally_server: KitServer,
    tally_domains: Iterable[str] | None,
    tally_entities: Sequence[type[Entity]],
    tally_version_locations: Sequence[str | Path],
) -> AsyncIterator[Tallystick]:
    """An open ``Tallystick`` on the worker's own database. What is written through it stays until the run ends."""
    from tallystick.app import Tallystick
    from tallystick.clock import SystemClock
    from tallystick.domains.catalog import chosen
    from tallystick.privacy.keys import LocalKeys
    from tallystick.settings import Settings

    entities = tuple(tally_entities)
    template = await tally_server.template(tally_domains, entities, tally_version_locations)
    database = await tally_server.clone(template)
    settings = Settings.load(
        {},
        database_url=tally_server.url("app", database),
        admin_url=tally_server.url("admin", database),
        seal_url=tally_server.url("seal", database),
        role_prefix=tally_server.roles.prefix,
        pool_max=_POOL,
    )
    made = Tallystick(
        settings,
        chosen(tally_domains),
        entities,
        keys=LocalKeys(blake2b(pytestconfig.stash[RUN].encode(), digest_size=32, person=b"testing kit").digest()),
        clock=SystemClock(),
        version_locations=tuple(tally_version_locations),
    )
    async with made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def tenant(tally: Tallystick) -> str:
    """The slug of a tenant made for this test; it is committed, and empty."""
    slug = f"test-{uuid4().hex}"
    await tally.tenants.create(slug, name="Test tenant")
    return slug


@pytest_asyncio.fixture(loop_scope="session")
async def tally_scope(request: pytest.FixtureRequest, tally: Tallystick) -> AsyncIterator[Any]:
    """Where ``db`` works: in a sandbox, or in the open for a test that also asks for ``race``."""
    from tallystick.testing.sandbox import Sandbox

    if "race" in request.fixturenames:
        yield tally
        return
    async with Sandbox(tally) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def sandbox(tally_scope: Any) -> Sandbox:
    """The test's sandbox; ``sandbox.session(slug)`` opens sessions of any tenant in it."""
    from tallystick.testing.sandbox import Sandbox

    if not isinstance(tally_scope, Sandbox):
        raise pytest.UsageError("A test that races commits, so it has no sandbox. Use `tally.session(...)` in it.")
    return tally_scope


@pytest_asyncio.fixture(loop_scope="session")
async def db(tally_scope: Any, tenant: str) -> AsyncIterator[Session]:
    """A session of ``tenant`` that may do everything and leaves nothing; it commits in tests that ask for ``race``."""
    async with tally_scope.session(tenant, actor="test", permissions=("*",)) as session:
        yield session


@pytest.fixture
def make(request: pytest.FixtureRequest, db: Session) -> Make:
    """Factories from the declarations, storing through ``db``; each test has a seed of its own that never changes."""
    from tallystick.testing.factories import Make

    return Make(db, seed=f"{request.config.getoption('--tally-seed')}:{request.node.nodeid}")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tally_racers(tally: Tallystick) -> AsyncIterator[Race]:
    """The connections that races run on, kept for the whole run."""
    from tallystick.testing.races import Race

    made = Race(tally)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
def race(tally_racers: Race, tenant: str) -> Race:
    """``await race(n, fn)`` for this test's tenant, on connections that commit; ``db`` and ``make`` commit too."""
    return tally_racers.within(tenant)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a test that would run in another event loop than the connections it asks for."""
    if _NEEDS_LOOP.isdisjoint(getattr(item, "fixturenames", ())):
        return
    marker = item.get_closest_marker("asyncio")
    chosen = (marker.kwargs.get("loop_scope") if marker is not None else None) or item.config.getini(
        "asyncio_default_test_loop_scope"
    )
    if chosen != "session" and marker is not None:
        raise pytest.UsageError(
            "Tallystick's fixtures live in the session's event loop. Set asyncio_default_test_loop_scope = \"session\" "
            'and asyncio_default_fixture_loop_scope = "session", or mark the test with '
            'pytest.mark.asyncio(loop_scope="session").'
        )
