"""The command tree. Each group is a file; none imports anything heavy until one of its commands runs."""

from __future__ import annotations

import typer

from tallystick.cli import (
    adopt,
    audit,
    audit_reconcile,
    audit_retain,
    bi,
    circles,
    database,
    demo,
    fields,
    harden,
    health,
    keys,
    load,
    loans,
    migrations,
    outbox,
    portfolio,
    privacy,
    proofs,
    remove,
    report,
    schema,
    seed,
    shell,
    tenants,
    vaults,
)
from tallystick.cli.run import command

app = typer.Typer(
    name="tallystick",
    help="Tallystick: the data layer for lending and credit.\n\n"
    "Without DATABASE_URL everything runs on an embedded PostgreSQL in TALLYSTICK_DATA_DIR or .tallystick/.",
    epilog="Exit codes: 0 done, 1 findings, 2 usage, 3 denied or not set up, 4 not found, 5 conflict, 6 unavailable, "
    "7 unsafe migration, 8 tampered, 9 unsupported, 70 a bug, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_SETUP = "Set up"
_DATA = "Data"
_WATCH = "Look"

command(app, "demo", rich_help_panel="Start here")(demo.demo)
command(app, "adopt", rich_help_panel=_SETUP)(adopt.adopt)
command(app, "init", rich_help_panel=_SETUP)(database.init)
command(app, "provision", rich_help_panel=_SETUP)(database.provision)
command(app, "harden", rich_help_panel=_SETUP)(harden.harden)
command(app, "migrate", rich_help_panel=_SETUP)(migrations.migrate)
command(app, "rollback", rich_help_panel=_SETUP)(migrations.rollback)
command(app, "revision", rich_help_panel=_SETUP)(migrations.revision)
command(app, "status", rich_help_panel=_SETUP)(migrations.status)
command(app, "remove", rich_help_panel=_SETUP)(remove.remove)
app.add_typer(proofs.app, name="proofs", rich_help_panel=_SETUP)
app.add_typer(tenants.app, name="tenants", rich_help_panel=_DATA)
app.add_typer(fields.app, name="fields", rich_help_panel=_DATA)
command(app, "seed", rich_help_panel=_DATA)(seed.seed)
app.add_typer(load.app, name="load", rich_help_panel=_DATA)
app.add_typer(loans.app, name="loans", rich_help_panel=_DATA)
command(report.app, "par")(portfolio.par)
command(report.app, "vintage")(portfolio.vintage)
command(report.app, "cash-flow")(portfolio.cash_flow)
command(report.app, "trial-balance")(portfolio.trial_balance)
command(report.app, "circles")(circles.circles)
command(load.app, "savings-groups")(circles.savings_groups)
command(report.app, "vaults")(vaults.vaults)
command(load.app, "aave-reserves")(vaults.reserves)
command(load.app, "aave-positions")(vaults.borrowers)
command(load.app, "aave-liquidations")(vaults.liquidations)
command(load.app, "market-data")(vaults.prices)
app.add_typer(report.app, name="report", rich_help_panel=_WATCH)
command(app, "health", rich_help_panel=_WATCH)(health.health)
command(audit.app, "reconcile")(audit_reconcile.reconcile)
command(audit.app, "retain")(audit_retain.retain)
app.add_typer(audit.app, name="audit", rich_help_panel=_WATCH)
app.add_typer(bi.app, name="bi", rich_help_panel=_WATCH)
app.add_typer(keys.app, name="keys", rich_help_panel=_WATCH)
app.add_typer(outbox.app, name="outbox", rich_help_panel=_WATCH)
app.add_typer(privacy.app, name="privacy", rich_help_panel=_WATCH)
app.add_typer(schema.app, name="schema", rich_help_panel=_WATCH)
command(app, "shell", rich_help_panel=_WATCH)(shell.shell)


def _version(wanted: bool) -> None:
    if wanted:
        from tallystick import __version__

        typer.echo(f"tallystick {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Options that belong to no command."""
