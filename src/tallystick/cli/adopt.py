"""``adopt``: what Tallystick would add to a database that is in use already, and what is missing for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallystick.cli import exits
from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.cli.output import Output
    from tallystick.schema.adopt import Adoption, HostSchema


async def adopt(run: Run) -> Answer:
    """Look at a live database and say what would be added, what is missing, and what stays as it is.

    It changes nothing: one read-only transaction over the catalogs. It looks at --url, else at TALLYSTICK_ADMIN_URL,
    else at DATABASE_URL; give it the role that is to migrate.

    Exit code 1: something has to be mended first.
    """
    from tallystick.adoption import adopt as work
    from tallystick.errors import Invalid

    tally = run.application()
    settings = tally.settings
    url = run.url or settings.admin_url or settings.database_url
    if url is None:
        raise Invalid(
            "There is no database to look at; the embedded server needs no adoption.",
            field="url",
            remedy="Give --url, or set TALLYSTICK_ADMIN_URL to the URL of the database's owner.",
        )
    with run.output.progress("Looking"):
        found = await work(
            url,
            settings=settings,
            domains=None if run.domains is None and run.app is None else tally.domains,
            entities=tally.entities,
            version_locations=tally.version_locations,
        )
    by_option = run.url is not None
    code = exits.OK if found.ready else exits.FINDINGS
    return Answer(_document(found), lambda out: _show(out, found, by_option=by_option), code)


def _document(found: Adoption) -> dict[str, Any]:
    return {
        "ready": found.ready,
        "adopted": found.adopted,
        "database": found.database,
        "server": found.server,
        "server_version": found.version,
        "user": found.user,
        "superuser": found.superuser,
        "create_role": found.create_role,
        "create_schema": found.create_schema,
        "facts": found.facts,
        "roles": found.roles,
        "schemas": found.schemas,
        "domains": [
            {"domain": d.domain, "missing": d.missing, "there": d.there, "pending": d.pending} for d in found.domains
        ],
        "host": [
            {"schema": h.name, "owners": h.owners, "tables": h.tables, "refer": h.refer, "migrations": h.migrations}
            for h in found.host
        ],
        "findings": [
            {"code": f.code, "stops": f.stops, "problem": f.problem, "remedy": f.remedy} for f in found.findings
        ],
        "connections": {
            "workers": found.connections.workers,
            "pool_max": found.connections.pool_max,
            "needed": found.connections.needed,
            "available": found.connections.available,
            "max_connections": found.connections.max_connections,
            "reserved": found.connections.reserved,
            "others": found.connections.others,
            "limit": found.connections.limit,
            "pooled": found.connections.pooled,
            "fits": found.connections.fits,
        },
        "commands": found.commands,
        "sql": found.sql,
        "join": {"joined": found.joined, "command": found.join_command, "sql": found.join_sql},
    }


def _show(out: Output, found: Adoption, *, by_option: bool) -> None:
    word, style = ("adopted", "bold green") if found.adopted else ("ready", "bold green")
    if not found.ready:
        word, style = "not ready", "bold red"
    out.line(f"{found.database}: {word}", style)
    out.line(f"PostgreSQL {found.server}, looked at as {found.user}{_might(found)}; nothing was changed.")
    out.line()
    for finding in found.findings:
        out.line(("stops: " if finding.stops else "note:  ") + finding.problem, "red" if finding.stops else "yellow")
        out.line(f"       {finding.remedy}", "dim")
    if found.findings:
        out.line()
    _show_ours(out, found)
    _show_host(out, found)
    out.table(("also", "found"), list(found.facts.items()), flexible=("found",))
    out.line("Next, with TALLYSTICK_ADMIN_URL set to the URL of --url" if by_option else "Next", "bold")
    for command in found.commands:
        out.raw(f"  {command}")
    if found.ready and found.join_command:
        out.line(
            "To let your own role join sessions to its transactions (--refer TABLE for foreign keys as well)", "bold"
        )
        out.raw(f"  {found.join_command}")
        if found.joined:
            out.line(f"  may already: {', '.join(found.joined)}")
    if found.ready and any(h.migrations for h in found.host) and not found.adopted:
        out.line("  and in env.py: context.configure(..., **tallystick.beside())")


def _might(found: Adoption) -> str:
    if found.superuser:
        return " (a superuser)"
    lacks = [
        name for name, has in (("CREATEROLE", found.create_role), ("CREATE on it", found.create_schema)) if not has
    ]
    return f" (no superuser; without {' and '.join(lacks)})" if lacks else " (no superuser, and none is needed)"


def _show_ours(out: Output, found: Adoption) -> None:
    rows: list[tuple[Any, ...]] = [
        ("roles", *_count(found.roles), None, ", ".join(found.roles)),
        ("schemas", *_count(found.schemas), None, ", ".join(found.schemas)),
    ]
    for plan in found.domains:
        tables = (*plan.missing, *plan.there)
        name = "your entities" if plan.domain == "yours" else f"domain {plan.domain}"
        told = ", ".join(tables[:4]) + (f", and {len(tables) - 4} more" if len(tables) > 4 else "")
        if tables:
            rows.append((name, len(plan.missing), len(plan.there), len(plan.pending), told))
        else:
            shared = "tenants, assets, audit log, guards" if plan.domain == "kit" else ""
            rows.append((name, None, None, len(plan.pending), shared))
    numbers = ("would add", "there", "revisions to apply")
    out.table(("ours", *numbers, "which"), rows, right=numbers, flexible=("which",))


def _count(there: Any) -> tuple[int, int]:
    here = sum(there.values())
    return len(there) - here, here


def _show_host(out: Output, found: Adoption) -> None:
    if not found.host:
        out.line("The database has no tables but ours.")
        return
    rows = [(f"schema {h.name}", len(h.tables), ", ".join(h.owners), _told(h)) for h in found.host]
    out.table(("yours, not touched", "tables", "owner", "which"), rows, right=("tables",), flexible=("which",))


def _told(host: HostSchema) -> str:
    shown = ", ".join(host.tables[:6]) + (f", and {len(host.tables) - 6} more" if len(host.tables) > 6 else "")
    notes = []
    if host.migrations:
        notes.append(f"migrations: {', '.join(host.migrations)}")
    if host.refer:
        notes.append(f"refer to ours: {', '.join(host.refer)}")
    return "; ".join([shown, *notes])
