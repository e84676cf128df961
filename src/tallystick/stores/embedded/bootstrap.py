"""The few statements that the embedded server runs itself: who are you, the admin role, the first database."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg

from tallystick.errors import Invalid, Unavailable
from tallystick.schema.scram import scram_verifier
from tallystick.settings import connect_args

#: Owns the database and makes roles, but is no superuser: exactly what a managed PostgreSQL hands out.
ADMIN = "tally_admin"

DATABASE = "tallystick"

_CONNECT_TIMEOUT = 20


class NotReady(Exception):
    """No query was answered: nobody is there yet, or the password is ``refused``, or every connection is taken."""

    def __init__(self, *, refused: bool = False, full: bool = False) -> None:
        self.refused = refused
        self.full = full
        super().__init__()


async def identify(url: str) -> int:
    """The system identifier of whoever answers a real query there; raises ``NotReady`` when nobody does."""
    try:
        connection = await asyncpg.connect(**connect_args(url), timeout=_CONNECT_TIMEOUT)
        try:
            return int(await connection.fetchval("SELECT system_identifier FROM pg_catalog.pg_control_system()"))
        finally:
            await connection.close(timeout=_CONNECT_TIMEOUT)
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise NotReady(refused=True) from error
    except asyncpg.TooManyConnectionsError as error:
        raise NotReady(full=True) from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise NotReady from error


async def bootstrap(url: Callable[[str], str], admin_password: str) -> None:
    """Make the admin role and the first database as the superuser, which nothing else ever uses."""
    try:
        connection = await asyncpg.connect(**connect_args(url("postgres")), timeout=_CONNECT_TIMEOUT)
        try:
            if not await connection.fetchval("SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = $1", ADMIN):
                await connection.execute(
                    f"CREATE ROLE {ADMIN} LOGIN CREATEROLE CREATEDB NOSUPERUSER NOBYPASSRLS "
                    f"PASSWORD '{scram_verifier(admin_password)}'"
                )
            await _create_database(connection, DATABASE)
        finally:
            await connection.close(timeout=_CONNECT_TIMEOUT)
    except (OSError, asyncpg.PostgresError) as error:
        raise _failed("set up", error) from error


async def make_database(url: str, name: str) -> None:
    """Make a database owned by the admin role unless it exists."""
    if not name or len(name.encode()) > 63 or "\x00" in name:
        raise Invalid("A database name is empty or too long.", field="name", remedy="Use 1 to 63 bytes.")
    try:
        connection = await asyncpg.connect(**connect_args(url), timeout=_CONNECT_TIMEOUT)
        try:
            await _create_database(connection, name)
        finally:
            await connection.close(timeout=_CONNECT_TIMEOUT)
    except (OSError, asyncpg.PostgresError) as error:
        raise _failed("asked for a database", error) from error


async def _create_database(connection: asyncpg.Connection, name: str) -> None:
    if await connection.fetchval("SELECT count(*) FROM pg_catalog.pg_database WHERE datname = $1", name):
        return
    quoted = name.replace('"', '""')
    try:
        await connection.execute(f'CREATE DATABASE "{quoted}" OWNER {ADMIN}')
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        # Another process made it between the question and the answer.
        return


def _failed(what: str, error: Exception) -> Unavailable:
    return Unavailable(
        f"The embedded server could not be {what} ({type(error).__name__}).",
        remedy="Look at server.log in the data directory.",
    )
