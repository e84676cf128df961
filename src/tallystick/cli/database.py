"""``init`` and ``provision``: roles, schemas and rights, and then the tables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.cli.output import Output
    from tallystick.schema.provision import ProvisionReport

AppPassword = Annotated[
    str | None,
    typer.Option(
        "--app-password-env",
        metavar="VARIABLE",
        help="The environment variable with the application role's password.",
    ),
]
SealPassword = Annotated[
    str | None,
    typer.Option("--seal-password-env", metavar="VARIABLE", help="The same for the role that seals the audit trail."),
]


async def init(run: Run, app_password_env: AppPassword = None, seal_password_env: SealPassword = None) -> Answer:
    """Provision and migrate: everything a new database needs.

    Without DATABASE_URL and TALLYSTICK_ADMIN_URL it starts an embedded PostgreSQL and sets that up.
    """
    from tallystick.cli.migrations import migrated, show_migration

    report = await _provisioned(run, app_password_env, seal_password_env)
    migration = await migrated(run)

    def show(out: Output) -> None:
        if report is not None:
            _show(out, report)
        show_migration(out, migration)

    document = {"provisioned": None if report is None else _document(report), "migrated": migration}
    return Answer(document, show)


async def provision(
    run: Run,
    *,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL for a DBA; touch nothing.")] = False,
    admin: Annotated[
        str | None, typer.Option("--admin", metavar="ROLE", help="With --sql: the role that will migrate.")
    ] = None,
    database: Annotated[
        str | None, typer.Option("--database", metavar="NAME", help="With --sql: refuse to run in another database.")
    ] = None,
    join: Annotated[
        str | None,
        typer.Option("--join", metavar="ROLE", help="Let this role of yours join sessions to its transactions."),
    ] = None,
    refer: Annotated[
        list[str] | None,
        typer.Option(
            "--refer", metavar="TABLE", help="With --join: a table of ours that its foreign keys may point at."
        ),
    ] = None,
    app_password_env: AppPassword = None,
    seal_password_env: SealPassword = None,
) -> Answer:
    """Make the roles, schemas and rights, as the owner in TALLYSTICK_ADMIN_URL.

    A role that this makes gets the password of its variable, or the one in DATABASE_URL (TALLYSTICK_SEAL_URL) when that
    names the role. Passwords travel as SCRAM verifiers. Run it as often as you like.
    """
    if refer and join is None:
        from tallystick.errors import Invalid

        raise Invalid("--refer needs the role that may refer.", field="join", remedy="Give --join ROLE as well.")
    if sql:
        from tallystick.schema.joining import joining_sql
        from tallystick.schema.provision import provision_sql

        roles = run.settings().roles
        text = provision_sql(roles, database, admin=admin)
        if join is not None:
            text += "-- For PostgreSQL 15 leave WITH INHERIT FALSE, SET TRUE out.\n"
            text += f"BEGIN;\n{joining_sql(join, roles=roles, references=refer or ())}COMMIT;\n"
        return Answer({"sql": text}, lambda out: out.raw(text))
    if join is not None:
        return await _joined(run, join, refer or [], app_password_env, seal_password_env)
    report = await _provisioned(run, app_password_env, seal_password_env)
    if report is None:
        return Answer(
            {"embedded": True},
            lambda out: out.line("The embedded server is provisioned; nothing else is needed."),
        )
    found = report
    return Answer(_document(found), lambda out: _show(out, found))


async def _joined(run: Run, role: str, refer: list[str], app_env: str | None, seal_env: str | None) -> Answer:
    """Provision, and then the right to join; the tables to refer to must have been migrated."""
    from tallystick.schema.joining import allow_joining

    report = await _provisioned(run, app_env, seal_env)
    async with run.administered() as (tally, admin_url):
        await allow_joining(admin_url, role, roles=tally.settings.roles, references=refer)

    def show(out: Output) -> None:
        if report is not None:
            _show(out, report)
        out.line(f"{role} may join sessions to its transactions: tally.session(..., connection=conn).")
        if refer:
            out.line(f"Its foreign keys may point at {', '.join(refer)}, by (tenant_id, id).")

    return Answer({**({} if report is None else _document(report)), "joins": role, "refers": refer}, show)


async def _provisioned(run: Run, app_env: str | None, seal_env: str | None) -> ProvisionReport | None:
    """Provision, or None on the embedded server, which provisions itself when it starts."""
    from tallystick.schema.provision import provision

    settings = run.application().settings
    if settings.admin_url is None:
        async with run.administered(make=True):
            return None
    roles = settings.roles
    report = await provision(
        settings.admin_url, roles=roles, app_password=_password(app_env), seal_password=_password(seal_env)
    )
    bare = report.roles_without_password
    app = _password_in(settings.database_url, roles.app) if roles.app in bare else None
    seal = _password_in(settings.seal_url, roles.seal) if roles.seal in bare else None
    if app is None and seal is None:
        return report
    return _merged(report, await provision(settings.admin_url, roles=roles, app_password=app, seal_password=seal))


def _merged(first: ProvisionReport, second: ProvisionReport) -> ProvisionReport:
    from dataclasses import replace

    return replace(
        first,
        passwords_set=(*first.passwords_set, *second.passwords_set),
        roles_without_password=tuple(r for r in first.roles_without_password if r not in second.passwords_set),
    )


def _password(variable: str | None) -> str | None:
    from tallystick.errors import Invalid

    if variable is None:
        return None
    found = os.environ.get(variable, "")
    if not found:
        raise Invalid(
            "The environment variable that is to hold a password is not set.",
            field="password",
            remedy="Export it first; a password on the command line could be read by others.",
        )
    return found


def _password_in(url: str | None, role: str) -> str | None:
    """The password that a URL holds for a role, if it is that role's URL."""
    from tallystick.settings import connect_args

    arguments = {} if url is None else connect_args(url)
    return arguments.get("password") if arguments.get("user") == role else None


def _document(report: ProvisionReport) -> dict[str, Any]:
    return {
        "database": report.database,
        "server_version": report.server_version,
        "created_roles": report.created_roles,
        "created_schemas": report.created_schemas,
        "passwords_set": report.passwords_set,
        "roles_without_password": report.roles_without_password,
    }


def _show(out: Output, report: ProvisionReport) -> None:
    made = [*report.created_roles, *(f"schema {s}" for s in report.created_schemas)]
    if made:
        out.line(f"Made in {report.database}: {', '.join(made)}.")
    else:
        out.line(f"Roles and schemas of {report.database} were in place.")
    if report.passwords_set:
        out.line(f"Password set for: {', '.join(report.passwords_set)}.")
    for role in report.roles_without_password:
        out.line(f"{role} has no password yet: \\password {role} in psql, or --app-password-env.")
