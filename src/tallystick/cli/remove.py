"""``remove``: Tallystick out of a database again, everything else as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli import exits
from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.cli.output import Output
    from tallystick.schema.remove import Removal, RemovalPlan


async def remove(
    run: Run,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it nothing is changed.")] = False,
    data_too: Annotated[
        bool, typer.Option("--data-too", help="Also when tenants have data here, which is lost then.")
    ] = False,
) -> Answer:
    """Take Tallystick out of the database of TALLYSTICK_ADMIN_URL: our schemas, and our roles when nobody needs them.

    Without --yes it only says what would go and what stands in the way (exit code 1). Tables, views and functions of
    the host's are never dropped or altered: while they need ours, the removal is refused with the SQL that frees them.
    """
    from tallystick.errors import NotProvisioned
    from tallystick.schema.remove import plan_removal
    from tallystick.schema.remove import remove as work

    settings = run.settings()
    if settings.admin_url is None:
        raise NotProvisioned(
            "The removal needs the admin role.",
            remedy="Set TALLYSTICK_ADMIN_URL to the database owner's URL (not through a pooler); an embedded server is "
            "removed by stopping it and deleting its directory.",
        )
    if yes:
        done = await work(settings.admin_url, roles=settings.roles, data_too=data_too)
        return Answer(
            {
                "removed": True,
                "database": done.database,
                "schemas": done.schemas,
                "roles": done.roles,
                "kept": done.kept,
            },
            lambda out: _show_done(out, done),
        )
    plan = await plan_removal(settings.admin_url, roles=settings.roles)
    blocked = plan.refusals(data_too=data_too)
    return Answer(
        _document(plan, data_too), lambda out: _show(out, plan, data_too), exits.FINDINGS if blocked else exits.OK
    )


def _document(plan: RemovalPlan, data_too: bool) -> dict[str, Any]:
    return {
        "removed": False,
        "database": plan.database,
        "schemas": [
            {"schema": s.name, "owner": s.owner, "tables": s.tables, "functions": s.functions} for s in plan.schemas
        ],
        "roles": plan.drops,
        "kept": plan.kept,
        "joined": plan.joined,
        "tenants": plan.tenants,
        "data": [{"table": d.table, "bytes": d.bytes, "rows": d.rows} for d in plan.data],
        "host_objects": [{"what": h.what, "sql": h.sql} for h in plan.hanging],
        "sessions": plan.sessions,
        "refusals": [
            {"code": r.code, "problem": r.problem, "remedy": r.remedy} for r in plan.refusals(data_too=data_too)
        ],
    }


def _show(out: Output, plan: RemovalPlan, data_too: bool) -> None:
    if plan.empty:
        out.line(f"{plan.database} has nothing of Tallystick.")
        return
    blocked = plan.refusals(data_too=data_too)
    out.line(f"{plan.database}: would be refused" if blocked else f"{plan.database}: can be removed", "bold")
    out.line("Nothing was changed.")
    rows: list[tuple[str, str]] = [
        (f"schema {s.name}", f"{s.tables} tables and {s.functions} functions") for s in plan.schemas
    ]
    rows += [(f"role {role}", "nothing else needs it") for role in plan.drops]
    rows += [("joining", f"{role} may join sessions to its transactions") for role in plan.joined]
    if plan.tenants != 0 and plan.data:
        size = sum(d.bytes for d in plan.data) // 1024
        most = ", ".join(d.table for d in plan.data[:4])
        rows.append(("data", f"of {plan.tenants or 'unknown'} tenants, {size:,} KiB; most of it in {most}"))
    out.table(("would go", "what"), rows, flexible=("what",))
    for role, why in plan.kept.items():
        out.line(f"Role {role} would stay: {why}.")
    for refusal in blocked:
        out.line(f"stops: {refusal.problem}", "red")
        for line in refusal.remedy.splitlines():
            out.line(f"       {line}", "dim")
    how = "" if blocked else f" To do it: tallystick remove --yes{' --data-too' if data_too else ''}"
    out.line(f"Everything else in the database stays as it is.{how}", "dim")


def _show_done(out: Output, done: Removal) -> None:
    if not done.schemas and not done.roles:
        out.line(f"{done.database} has nothing of Tallystick.")
    else:
        gone = [*(f"schema {s}" for s in done.schemas), *(f"role {r}" for r in done.roles)]
        out.line(f"Removed from {done.database}: {', '.join(gone)}.")
        out.line("Everything else is as it was.")
    for role, why in done.kept.items():
        out.line(f"Role {role} stays: {why}.")
