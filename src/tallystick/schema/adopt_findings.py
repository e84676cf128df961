"""What about a database would stop Tallystick, or is worth knowing before it moves in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from tallystick.schema.branches import History
from tallystick.schema.budget import Budget
from tallystick.schema.provision import OLDEST, dangers
from tallystick.schema.roles import ALL_SCHEMAS, Roles

NEWEST = 180_000
"""The newest PostgreSQL that the library is tested on."""


@dataclass(frozen=True, slots=True)
class AdoptionFinding:
    """Something about the database that matters: what ``stops`` has to go first, the rest is worth knowing."""

    code: str
    stops: bool
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Found:
    """The answers, as the server gave them."""

    server: asyncpg.Record
    state: asyncpg.Record
    pooled: bool
    schemas: Mapping[str, asyncpg.Record]
    tables: frozenset[str]
    host: Sequence[asyncpg.Record]
    paths: Sequence[asyncpg.Record]
    own_path: Sequence[str]
    public_creates: bool
    watchers: Sequence[asyncpg.Record]
    publications: Sequence[str]
    versions: tuple[str, ...] | None
    connections: Budget
    joined: Sequence[str]


def judged(found: Found, roles: Roles, rights: Sequence[str], history: History) -> Iterator[AdoptionFinding]:
    """Everything there is to say."""
    yield from _server(found, roles)
    yield from _rights(found, roles, rights)
    yield from _ours(found, roles, history)
    yield from _hazards(found, roles)


def _server(found: Found, roles: Roles) -> Iterator[AdoptionFinding]:
    server = found.server
    if server["version"] < OLDEST:
        yield AdoptionFinding(
            "server-old", True, f"PostgreSQL {server['server']} is too old.", "Upgrade to 15 or later."
        )
    elif server["version"] // 10_000 > NEWEST // 10_000:
        yield AdoptionFinding(
            "server-new",
            False,
            f"PostgreSQL {server['server']} is newer than any that this version was tested on.",
            "Try it on a copy first, or take a newer version of Tallystick.",
        )
    if server["standby"]:
        yield AdoptionFinding("standby", True, "The server is a standby and takes no writes.", "Name the primary.")
    if server["read_only"]:
        yield AdoptionFinding(
            "read-only",
            True,
            "Transactions are read-only here by default.",
            "ALTER DATABASE ... RESET default_transaction_read_only; or except the role that migrates and, once it is "
            f"there, the application's: ALTER ROLE {roles.app} SET default_transaction_read_only = off.",
        )
    if server["encoding"] != "UTF8":
        yield AdoptionFinding(
            "encoding",
            True,
            f"The database is encoded as {server['encoding']}, which cannot hold every name.",
            "Use a database that is encoded as UTF8.",
        )
    if found.pooled:
        yield AdoptionFinding(
            "pooler",
            True,
            "A pooler stands between: another process answers than the one that took the login.",
            "Point TALLYSTICK_ADMIN_URL at the server itself; the application may go through the pooler "
            "(TALLYSTICK_POOLER=transaction).",
        )
    if not server["tls"] and not server["socket"] and not server["local"] and not found.pooled:
        yield AdoptionFinding(
            "tls", False, "The connection is not encrypted.", "Switch TLS on at the server; write sslmode=verify-full."
        )


def _rights(found: Found, roles: Roles, rights: Sequence[str]) -> Iterator[AdoptionFinding]:
    for problem in rights:
        yield AdoptionFinding(
            "right-missing",
            True,
            f"{problem[0].upper()}{problem[1:]}.",
            "Use a role that may, or give the SQL to a DBA.",
        )
    for problem in dangers(found.state, roles):
        remedy = "Mend it as it says; where the role is another application's, set TALLYSTICK_ROLE_PREFIX instead."
        if problem.startswith("schema "):
            remedy = "Rename that schema, or give Tallystick a database of its own: its schemas have fixed names."
        yield AdoptionFinding("name-taken", True, f"{problem[0].upper()}{problem[1:]}.", remedy)
    if found.state["roles"] and not found.schemas:
        yield AdoptionFinding(
            "roles-there",
            False,
            f"This server has {', '.join(sorted(found.state['roles']))} already; another database may live by them.",
            "Set TALLYSTICK_ROLE_PREFIX to have roles of this database's own.",
        )


def _ours(found: Found, roles: Roles, history: History) -> Iterator[AdoptionFinding]:
    tally = found.schemas.get("tally")
    if found.versions == () and tally is not None and tally["things"]:
        yield AdoptionFinding(
            "schema-not-ours",
            True,
            f"Schema tally holds {tally['things']} tables or views, and no revision of ours made them.",
            "Rename that schema, or give Tallystick a database of its own: its schemas have fixed names.",
        )
    if found.versions is None:
        yield AdoptionFinding(
            "revisions-hidden",
            False,
            f"Tallystick is installed, and {found.server['user']} may not read how far.",
            f"Use a role that may become {roles.owner}.",
        )
    if unknown := [v for v in found.versions or () if v not in history.revisions]:
        yield AdoptionFinding(
            "newer-revision",
            True,
            f"The database is at revision {unknown[0]}, which this installation does not know.",
            "Upgrade the library to the version that migrated it, or name the folder of your revisions (--revisions).",
        )


def _hazards(found: Found, roles: Roles) -> Iterator[AdoptionFinding]:
    for row in found.paths:
        if named := sorted(set(_path(row["setting"])) & set(ALL_SCHEMAS)):
            who = f"role {row['role']}" if row["role"] else f"database {row['database']}"
            yield AdoptionFinding(
                "search-path",
                False,
                f"The search path of {who} names {', '.join(named)}: its reflection then calls our tables its own.",
                f"Take {', '.join(named)} off it and write schema names; only {roles.app} has them on its path.",
            )
    if found.public_creates:
        yield AdoptionFinding(
            "public-creates",
            False,
            "Everybody may make objects in schema public, which can hide yours from unqualified names.",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; ours name their schemas and do not care.",
        )
    for row in found.watchers:
        yield AdoptionFinding(
            "event-trigger",
            False,
            f"Event trigger {row['name']} runs {row['function']} at {row['event']}, our migrations included.",
            "Try the migration on a copy; if it fails there, have the trigger ignore schemas named tally*.",
        )
    for name in found.publications:
        yield AdoptionFinding(
            "publication",
            False,
            f"Publication {name} takes every new table, so subscribers would get ours too.",
            "List its tables instead, or make our schemas on the subscribers.",
        )

    if warning := found.connections.warning:
        problem, _, remedy = warning.partition("). ")
        yield AdoptionFinding("connections", False, f"{problem}).", remedy)


def _path(setting: str) -> list[str]:
    return [p.strip(' "') for p in setting.partition("=")[2].split(",")]
