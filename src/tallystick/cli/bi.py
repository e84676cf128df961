"""``bi``: masked read views for business intelligence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.cli.run import Answer, Run, command

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.cli.output import Output
    from tallystick.entity import Entity
    from tallystick.schema.bi import BiReport

app = typer.Typer(help="Masked read views for BI tools, bound to the login.", no_args_is_help=True)


@command(app, "grant")
async def grant(
    run: Run,
    role: Annotated[str, typer.Argument(help="A login that exists and has no other right here.")],
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="The tenant that it reads.")] = None,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="It reads every tenant.")] = False,
) -> Answer:
    """Let a login read the masked views of one tenant (schema tally_bi); makes them when they are not there.

    What is personal is masked, amounts are minor units beside whole ones. No setting changes whose rows it sees.
    """
    from tallystick.schema.bi import grant_bi

    async with run.administered() as (tally, url):
        report = await grant_bi(
            url,
            role,
            entities=_entities(tally),
            tenant=tenant,
            all_tenants=all_tenants,
            roles=tally.settings.roles,
            engine=tally.settings.engine,
        )
    whose = "all tenants" if all_tenants else tenant
    return _told(report, f"{role} reads {len(report.views)} views in tally_bi, of {whose}.")


@command(app, "revoke")
async def revoke(run: Run, role: Annotated[str, typer.Argument(help="The login.")]) -> Answer:
    """Take the views away from a login; the login itself stays."""
    from tallystick.schema.bi import revoke_bi

    async with run.administered() as (tally, url):
        gone = await revoke_bi(url, role, roles=tally.settings.roles)
    text = f"{role} reads no views any more." if gone else f"{role} read no views."
    return Answer({"revoked": gone}, lambda out: out.line(text))


@command(app, "refresh")
async def refresh(run: Run) -> Answer:
    """Bring the views to what the tables are now; `tallystick migrate` does it too."""
    from tallystick.schema.bi import refresh_bi

    async with run.administered() as (tally, url):
        report = await refresh_bi(
            url, entities=_entities(tally), roles=tally.settings.roles, engine=tally.settings.engine
        )
    return _told(report, f"{len(report.changed)} of {len(report.views)} views changed.")


@command(app, "list")
async def readers(run: Run) -> Answer:
    """Who reads the views."""
    from tallystick.schema.bi import bi_readers

    async with run.administered() as (tally, url):
        found = await bi_readers(url, roles=tally.settings.roles)
    rows = [(r.role, "all tenants" if r.tenant_id is None else str(r.tenant_id)) for r in found]

    def show(out: Output) -> None:
        if rows:
            out.table(("login", "reads"), rows)
        else:
            out.line("Nobody reads masked views.")

    return Answer({"readers": [{"role": role, "reads": reads} for role, reads in rows]}, show)


def _entities(tally: Tallystick) -> tuple[type[Entity], ...]:
    from tallystick.domains.catalog import entities_of
    from tallystick.extension import living

    return tuple(living((*entities_of(tally.domains), *tally.entities)))


def _told(report: BiReport, text: str) -> Answer:
    document = {
        "views": report.views,
        "changed": report.changed,
        "readers": [{"role": r.role, "tenant": r.tenant_id and str(r.tenant_id)} for r in report.readers],
    }
    return Answer(document, lambda out: out.line(text))
