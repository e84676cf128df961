"""``proofs``: whose word the database takes for a proof."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.cli.run import Answer, Run, command

if TYPE_CHECKING:
    from tallystick.cli.output import Output

app = typer.Typer(help="Enroll and dismiss verifiers of proofs.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The verifier's name, as its application gives it.")]


@command(app, "enroll")
async def enroll(
    run: Run,
    name: Name,
    *,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="PATH", help="The key is in this file, as --new-key made it.")
    ] = None,
    new_key: Annotated[
        Path | None, typer.Option("--new-key", metavar="PATH", help="Make a key in this file (mode 0600) and use it.")
    ] = None,
) -> Answer:
    """Let a verifier reach verdicts, attested with a key; as the admin.

    Another key than before takes its place. The key belongs where proofs are checked and nowhere else: whoever has it
    can mark proofs verified.
    """
    from tallystick.errors import Invalid
    from tallystick.privacy import tenant_key
    from tallystick.schema import verifiers

    if (key is None) == (new_key is None):
        raise Invalid("A verifier is enrolled with one key.", field="key", remedy="Give --key PATH or --new-key PATH.")
    async with run.administered() as (tally, url):
        if new_key is not None:
            secret = tenant_key.create(new_key)
        else:
            assert key is not None
            secret = tenant_key.read(key)
        await verifiers.enroll(url, name, secret, roles=tally.settings.roles)

    def show(out: Output) -> None:
        out.line(f"The database takes verdicts of {name}.")
        if new_key is not None:
            out.line(f"Its key is in {new_key}; open the application that checks proofs with it.")

    return Answer({"enrolled": name, "new_key": None if new_key is None else str(new_key)}, show)


@command(app, "dismiss")
async def dismiss(
    run: Run, name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> Answer:
    """Take no more verdicts of a verifier; those it reached stand. As the admin."""
    from tallystick.schema import verifiers

    run.confirm(f"Take no more verdicts of {name}?", yes)
    async with run.administered() as (tally, url):
        await verifiers.dismiss(url, name, roles=tally.settings.roles)
    return Answer({"dismissed": name}, lambda out: out.line(f"The database takes no more verdicts of {name}."))
