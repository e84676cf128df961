"""``health``: can this be served from, and if not, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallystick.cli import exits
from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.cli.output import Output
    from tallystick.errors import TallystickError

_QUESTION = """
SELECT current_setting('server_version') AS version, now() AS time, current_user::text AS role,
  (SELECT count(*) FROM pg_catalog.pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND state = 'active') AS active,
  (SELECT numbackends FROM pg_catalog.pg_stat_database WHERE datname = current_database()) AS connections,
  current_setting('max_connections')::int AS most
"""


async def health(run: Run) -> Answer:
    """Server version and time, connections, pool, and whether role and schema are right. Exit code 1: unhealthy."""
    from tallystick.errors import TallystickError

    document: dict[str, Any] = {"healthy": False, "embedded": run.application().settings.embedded}
    checks: dict[str, str] = {}
    try:
        async with run.opened() as tally:
            checks["server"] = "ok"
            checks["role"] = "ok"
            document |= await _ask(tally)
            checks["schema"] = await _schema(tally)
            document["pool"] = _pool(tally)
            document |= await _budget(tally)
    except TallystickError as problem:
        checks[_blamed(problem)] = _line(problem)
    document["checks"] = checks
    document["healthy"] = all(found == "ok" for found in checks.values())
    return Answer(document, lambda out: _show(out, document), exits.OK if document["healthy"] else exits.FINDINGS)


async def _ask(tally: Tallystick) -> dict[str, Any]:
    row = await tally.store.system_row(_QUESTION)
    return {
        "server": f"PostgreSQL {row['version']}",
        "time": row["time"].isoformat(),
        "role": row["role"],
        "active_connections": row["active"],
        "connections": row["connections"],
        "max_connections": row["most"],
        "server_log": None if tally.server is None else str(tally.server.log_file),
    }


async def _schema(tally: Tallystick) -> str:
    from tallystick.errors import NotMigrated

    try:
        await tally.ready()
    except NotMigrated as problem:
        return _line(problem)
    return "ok"


def _pool(tally: Tallystick) -> dict[str, int]:
    stats = tally.store.pool.stats()
    return {
        "open": stats.open,
        "idle": stats.idle,
        "waiting": stats.waiting,
        "max": tally.settings.pool_max,
    }


async def _budget(tally: Tallystick) -> dict[str, Any]:
    found = await tally.connections()
    return {
        "budget": {
            "workers": found.workers,
            "pool_max": found.pool_max,
            "needed": found.needed,
            "available": found.available,
            "fits": found.fits,
        },
        "warnings": [found.warning] if found.warning else [],
    }


def _blamed(problem: TallystickError) -> str:
    """Which check an error of opening speaks about."""
    from tallystick.errors import Denied, NotMigrated, NotProvisioned

    if isinstance(problem, NotMigrated):
        return "schema"
    return "role" if isinstance(problem, Denied | NotProvisioned) else "server"


def _line(problem: TallystickError) -> str:
    return f"{problem.problem} {problem.remedy}".strip()


def _show(out: Output, document: dict[str, Any]) -> None:
    out.line("healthy" if document["healthy"] else "unhealthy", "bold green" if document["healthy"] else "bold red")
    rows: list[tuple[str, Any]] = [(f"check: {name}", found) for name, found in document["checks"].items()]
    if "server" in document:
        where = "embedded" if document["embedded"] else "yours"
        rows += [
            ("server", f"{document['server']} ({where})"),
            ("server time", document["time"]),
            ("role", document["role"]),
            (
                "connections",
                f"{document['active_connections']} active, {document['connections']} of "
                f"{document['max_connections']} open",
            ),
            ("pool", "{open} open, {idle} idle, {waiting} waiting, at most {max}".format(**document["pool"])),
        ]
    if "budget" in document:
        told = "{workers} with {pool_max} each: {needed} of {available} that the server has for them"
        rows.append(("all workers", told.format(**document["budget"])))
        rows += [("warning", warning) for warning in document["warnings"]]
    out.table(("what", "found"), rows, flexible=("found",))
