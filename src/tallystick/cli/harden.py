"""``harden``: a database that believes signed tenants only, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.cli.run import Answer, Run

if TYPE_CHECKING:
    from tallystick.cli.output import Output
    from tallystick.settings import Settings


async def harden(
    run: Run,
    *,
    undo: Annotated[bool, typer.Option("--undo", help="Believe bare tenants again and forget the key.")] = False,
    new_key: Annotated[
        Path | None, typer.Option("--new-key", metavar="PATH", help="Make a key in this file (mode 0600) and use it.")
    ] = None,
) -> Answer:
    """Make the database believe signed tenants only, so that injected SQL cannot switch to another tenant.

    It takes the key of TALLYSTICK_TENANT_KEY_FILE, which the application then needs as well. Stop the application
    first: it is refused until it is started with the key. It can be run again, with another key too, and undone.
    """
    from tallystick.errors import Invalid, NotProvisioned
    from tallystick.schema import harden as work

    settings = run.settings()
    if undo and new_key is not None:
        raise Invalid("--undo and --new-key exclude each other.", remedy="Give one of them.")
    if settings.admin_url is None:
        raise NotProvisioned(
            "Hardening needs the admin role.",
            remedy="Set TALLYSTICK_ADMIN_URL to the database owner's URL (not through a pooler).",
        )
    if undo:
        report = await work.soften(settings.admin_url, roles=settings.roles, engine=settings.engine)
    else:
        key = _key(settings, new_key)
        report = await work.harden(settings.admin_url, key=key, roles=settings.roles, engine=settings.engine)

    def show(out: Output) -> None:
        mode = "hardened: it believes signed tenants only" if report.hardened else "plain: it believes any tenant"
        was = "" if report.changed else " already"
        out.line(f"The database is{was} {mode}.")
        if new_key is not None:
            out.line(f"Set TALLYSTICK_TENANT_KEY_FILE={new_key} for the application.")

    return Answer({"hardened": report.hardened, "changed": report.changed, "policies": report.policies}, show)


def _key(settings: Settings, new_key: Path | None) -> bytes:
    from tallystick.errors import Invalid
    from tallystick.privacy import tenant_key

    if new_key is not None:
        return tenant_key.create(new_key)
    if settings.tenant_key_file is None:
        raise Invalid(
            "Hardening needs a key.",
            field="tenant_key_file",
            remedy="Set TALLYSTICK_TENANT_KEY_FILE, or make a key with --new-key PATH.",
        )
    return tenant_key.read(settings.tenant_key_file)
