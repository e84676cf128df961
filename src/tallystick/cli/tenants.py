"""``tenants``: list, create, reopen."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.run import Answer, Run, command, wrapped

if TYPE_CHECKING:
    from tallystick.cli.output import Output

app = typer.Typer(help="List the tenants; `create` makes one, `reopen` opens a closed one.")


async def tenants(run: Run) -> Answer:
    """List the tenants; `tallystick tenants create SLUG --name NAME` makes one."""
    async with run.opened() as tally:
        found = [(slug, str(id), active) async for id, slug, active in tally.tenants.all()]

    def show(out: Output) -> None:
        if found:
            out.table(("tenant", "id", "active"), found)
        else:
            out.line("There are no tenants yet: `tallystick tenants create SLUG --name NAME`, or `tallystick seed`.")

    return Answer({"tenants": [{"slug": s, "id": i, "active": a} for s, i, a in found]}, show)


_list = wrapped(tenants)


def _unless_subcommand(context: typer.Context, **given: Any) -> None:
    if context.invoked_subcommand is None:
        _list(**given)


_own = inspect.signature(_list)
_context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
setattr(_unless_subcommand, "__signature__", _own.replace(parameters=[_context, *_own.parameters.values()]))  # noqa: B010
_unless_subcommand.__annotations__ = {**_list.__annotations__, "context": typer.Context}
app.callback(invoke_without_command=True)(_unless_subcommand)


@command(app, "create")
async def create(
    run: Run,
    slug: Annotated[str, typer.Argument(help="Lower-case letters, digits and dashes; it names the tenant.")],
    name: Annotated[str, typer.Option("--name", help="What people call it.")],
    time_zone: Annotated[str, typer.Option("--time-zone", metavar="ZONE", help="Where its day turns.")] = "UTC",
    plan: Annotated[str, typer.Option("--plan", help="free, basic, pro or enterprise.")] = "free",
) -> Answer:
    """Create a tenant."""
    from tallystick.domains.identity.tenants import Plan
    from tallystick.errors import Invalid

    plans = [p.value for p in Plan]
    if plan not in plans:
        raise Invalid("There is no such plan.", field="plan", remedy=f"Plans are: {', '.join(plans)}.")
    async with run.opened() as tally:
        made = await tally.tenants.create(slug, name=name, time_zone=time_zone, plan=plan)
    return Answer(
        {"slug": made.slug, "id": str(made.id), "name": made.name},
        lambda out: out.line(f"Created {made.slug} ({made.id})."),
    )


@command(app, "reopen")
async def reopen(
    run: Run,
    slug: Annotated[str, typer.Argument(help="The tenant that was closed (is_active=False).")],
    reason: Annotated[str, typer.Option("--reason", metavar="WHY", help="Recorded with it: a ticket, a contract.")],
) -> Answer:
    """Open a closed tenant again. One that left, its keys destroyed, stays closed."""
    from tallystick.errors import Erased
    from tallystick.privacy.rotation import has_left

    async with (
        run.opened() as tally,
        tally._upkeep(slug, actor="operator:tenants", permissions=("tenant.manage",), reason=reason) as db,
    ):
        if await has_left(db):
            raise Erased(
                "The tenant left, and every one of its keys was destroyed.",
                remedy="Create another: `tallystick tenants create`.",
            )
        await tally.tenants.update(db, is_active=True)
    return Answer({"slug": slug, "active": True}, lambda out: out.line(f"{slug} is open again."))
