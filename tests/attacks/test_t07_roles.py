"""T7: an application that connects as somebody whom no wall binds. It is refused at the start."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from tests.attacks.conftest import Ground
from tests.attacks.entities import ENTITIES

from tallystick import Tallystick
from tallystick.errors import Denied, NotProvisioned, TallystickError
from tallystick.settings import Settings, build_url, connect_args
from tallystick.stores.embedded import EmbeddedServer

MIGHTY = {
    "superuser": ("SUPERUSER", [], "superuser"),
    "bypassing": ("BYPASSRLS", [], "BYPASSRLS"),
    "making roles": ("CREATEROLE", [], "CREATEROLE"),
    "replicating": ("REPLICATION", [], "REPLICATION"),
    "member of the owner": ("", ["GRANT {owner} TO {role}"], "member"),
    "member of anything": ("", ["GRANT pg_monitor TO {role}"], "member"),
    "member without inheriting": ("NOINHERIT", ["GRANT {owner} TO {role}"], "member"),
    "owner of a table": ("", ["ALTER TABLE tally.errand OWNER TO {role}"], "owns"),
    "owner of a schema": ("", ["ALTER SCHEMA tally_sec OWNER TO {role}"], "owns"),
}


@contextlib.asynccontextmanager
async def role(ground: Ground, attributes: str, *grants: str) -> AsyncIterator[str]:
    """A login of its own kind that may use our schemas; answers its URL."""
    name, password = f"role_{secrets.token_hex(4)}", secrets.token_hex(16)
    owner, database = ground.server.roles.owner, ground.database
    async with ground.connected("superuser") as connection:
        await connection.execute(f"CREATE ROLE {name} LOGIN {attributes} PASSWORD '{password}'")
        await connection.execute(f"GRANT CONNECT ON DATABASE {database} TO {name}")
        for schema in ("tally", "tally_ref", "tally_sec", "tally_audit"):
            await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {name}")
        for statement in grants:
            await connection.execute(statement.format(role=name, owner=owner))
        try:
            target = connect_args(ground.url("app"))
            yield build_url(
                host=target["host"], port=target["port"], user=name, password=password, database=target["database"]
            )
        finally:
            await connection.execute(f"ALTER TABLE tally.errand OWNER TO {owner}")
            await connection.execute(f"ALTER SCHEMA tally_sec OWNER TO {owner}")
            await connection.execute(f"DROP OWNED BY {name}")
            await connection.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize("kind", MIGHTY)
async def test_t07_a_role_that_no_wall_binds_is_refused_at_the_start(ground: Ground, kind: str) -> None:
    attributes, grants, word = MIGHTY[kind]
    async with role(ground, attributes, *grants) as url:
        with pytest.raises(Denied, match=word) as caught:
            async with ground.opened(url):
                pass
        assert caught.value.remedy
        password = connect_args(url)["password"]
        assert password not in f"{caught.value!r} {caught.value}"


@pytest.mark.parametrize("who", ["superuser", "admin"])
async def test_t07_the_superusers_and_the_admins_url_are_refused(ground: Ground, who: str) -> None:
    url = ground.superuser_url() if who == "superuser" else ground.url("admin")
    with pytest.raises(Denied):
        async with ground.opened(url):
            pass


async def test_t07_a_role_without_rights_is_told_to_provision(ground: Ground) -> None:
    async with role(ground, "") as url:
        async with ground.connected("superuser") as connection:
            await connection.execute(f"REVOKE USAGE ON SCHEMA tally FROM {connect_args(url)['user']}")
        with pytest.raises(NotProvisioned):
            found = Settings.load({}, database_url=url)
            async with Tallystick.open(settings=found, entities=ENTITIES, keys=ground.keys):
                pass


async def test_t07_nothing_is_served_when_the_start_was_refused(ground: Ground) -> None:
    tally = Tallystick.open(
        settings=Settings.load({}, database_url=ground.superuser_url()), entities=ENTITIES, keys=ground.keys
    )
    with pytest.raises(Denied):
        await tally.start()
    with pytest.raises(TallystickError):
        async with tally.session("anybody", actor="a"):
            pass


async def test_t07_a_role_made_mighty_later_is_refused_at_the_next_start(ground: Ground) -> None:
    async with role(ground, "") as url, ground.connected("superuser") as connection:
        async with ground.opened(url):
            pass
        await connection.execute(f"ALTER ROLE {connect_args(url)['user']} BYPASSRLS")
        with pytest.raises(Denied):
            async with ground.opened(url):
                pass


async def test_t07_the_embedded_server_is_no_exception(place: Path) -> None:
    server = await EmbeddedServer.start(place / "data", temporary=True)
    try:
        async with Tallystick.open(settings=Settings.load({}, data_dir=place / "data"), domains=["identity"]):
            pass
        superuser = server._url("postgres", server._passwords["postgres"], "postgres")
        connection = await asyncpg.connect(**connect_args(superuser))
        try:
            for might in ("SUPERUSER", "BYPASSRLS", "CREATEROLE"):
                await connection.execute(f"ALTER ROLE {server.roles.app} {might}")
                with pytest.raises((Denied, NotProvisioned), match=f"(?i){might}"):
                    async with Tallystick.open(
                        settings=Settings.load({}, data_dir=place / "data"), domains=["identity"]
                    ):
                        pass
                await connection.execute(f"ALTER ROLE {server.roles.app} NO{might}")
        finally:
            await connection.close()
    finally:
        await server.stop()
