"""``privacy``: export, erase, hold, release, restrict, lift, policies, sweep, replay, check, mask, offboard.

Persons are named by the id of their account and never by an address: command lines are kept in histories and lists
of processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from tallystick.cli import exits
from tallystick.cli.run import Answer, Run, command

if TYPE_CHECKING:
    from tallystick.cli.output import Output
    from tallystick.session import Session

app = typer.Typer(help="What persons may ask for: their data, its end, a pause.", no_args_is_help=True)

_ACTOR = "operator:privacy"
_Tenant = Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose person it is.")]
_User = Annotated[str, typer.Argument(metavar="USER", help="The id of the person's account.")]
_Reason = Annotated[str, typer.Option("--reason", metavar="WHY", help="Recorded with it: a ticket, a letter's date.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Made anew; it must not be there yet.")]


@contextlib.asynccontextmanager
async def _desk(run: Run, tenant: str, reason: str) -> AsyncIterator[Session]:
    may = ("privacy.*", "tenant.manage")
    async with run.opened() as tally, tally.session(tenant, actor=_ACTOR, permissions=may, reason=reason) as db:
        yield db


@command(app, "export")
async def export(
    run: Run,
    user: _User,
    folder: _Folder,
    *,
    tenant: _Tenant,
    reason: _Reason,
    over_limit: Annotated[
        bool, typer.Option("--over-limit", help="Although it was exported as often as it may be in a day; recorded.")
    ] = False,
) -> Answer:
    """Write what is held about a person to a folder: signed JSON Lines, with a schema and a manifest."""
    async with _desk(run, tenant, reason) as db:
        found = await db.privacy.export(_id(user), folder, reason=reason, over_limit=over_limit)
    files = [(f.name, f"{f.rows:,}") for f in found.files]

    def show(out: Output) -> None:
        out.table(("file", "rows"), files)
        out.line(f"Written to {folder}, signed by the key {found.public_key}.")

    return Answer({"folder": str(folder), "manifest": _document(found)}, show)


@command(app, "erase")
async def erase(run: Run, user: _User, *, tenant: _Tenant, reason: _Reason, yes: _Yes = False) -> Answer:
    """Record a person's request and carry it out, as far as holds and retention policies let it."""
    async with _desk(run, tenant, reason) as db:
        run.confirm(f"Erase the person {user} of {tenant}? It cannot be undone.", yes)
        done = await db.privacy.erase(await db.privacy.request_erasure(_id(user)))

    def show(out: Output) -> None:
        out.line(f"Erased: {', '.join(done.erased) or 'nothing'} ({done.keys} keys); final {done.final}.")
        for one in done.kept:
            until = f"until {one.until}" if one.until else "while the class is on hold"
            out.line(f"Kept {until}: {one.data_class}, because {one.reason} ({one.citation or one.basis}).")

    return Answer(_document(done) | {"final": done.final}, show)


@command(app, "hold")
async def hold(
    run: Run,
    user: _User,
    *,
    tenant: _Tenant,
    matter: Annotated[str, typer.Option("--matter", metavar="NUMBER", help="The case's number, not its content.")],
) -> Answer:
    """Place a legal hold: nothing of the person is erased until it is released."""
    async with _desk(run, tenant, f"matter {matter}") as db:
        made = await db.privacy.hold(_id(user), matter=matter)
    return Answer(
        {"hold": str(made.id), "matter": made.matter}, lambda out: out.line(f"Held for {made.matter}: {made.id}")
    )


@command(app, "release")
async def release(
    run: Run,
    hold: Annotated[str, typer.Argument(metavar="HOLD", help="Its id, as `hold` told it.")],
    *,
    tenant: _Tenant,
    reason: _Reason,
) -> Answer:
    """End a legal hold."""
    async with _desk(run, tenant, reason) as db:
        ended = await db.privacy.release(_id(hold))
    return Answer({"released": str(ended.id)}, lambda out: out.line(f"Released: {ended.matter}"))


@command(app, "restrict")
async def restrict(
    run: Run,
    user: _User,
    *,
    tenant: _Tenant,
    ground: Annotated[
        str,
        typer.Option(
            "--ground",
            metavar="GROUND",
            help="accuracy_contested, unlawful, needed_for_claims or objection_pending: Art. 18(1)(a) to (d).",
        ),
    ],
) -> Answer:
    """Restrict processing: operations behind a consent are refused until it is lifted."""
    from tallystick.domains.identity.holds import RestrictionGround
    from tallystick.errors import Invalid

    known = {str(g.value): g for g in RestrictionGround}
    if ground not in known:
        raise Invalid("There is no such ground.", field="ground", remedy=f"Grounds are: {', '.join(known)}.")
    async with _desk(run, tenant, ground) as db:
        made = await db.privacy.restrict(_id(user), known[ground])
    return Answer({"restriction": str(made.id)}, lambda out: out.line(f"Restricted since {made.placed_at:%Y-%m-%d}."))


@command(app, "lift")
async def lift(run: Run, user: _User, *, tenant: _Tenant, reason: _Reason) -> Answer:
    """Lift a restriction; the person is to be told before (Art. 18(3))."""
    async with _desk(run, tenant, reason) as db:
        made = await db.privacy.lift(_id(user))
    return Answer({"lifted": str(made.id)}, lambda out: out.line("Lifted."))


@command(app, "policies")
async def policies(run: Run, *, tenant: _Tenant) -> Answer:
    """How long each class of data is kept, and why: the tenant's own policies, and the examples it has not replaced."""
    async with _desk(run, tenant, "privacy policies") as db:
        found = sorted((await db.privacy.policies()).values(), key=lambda p: p.data_class)
    rows = [
        (
            p.data_class,
            str(p.minimum_months or ""),
            str(p.maximum_months or ""),
            "hold" if p.hold else "",
            "example" if p.example else "own",
            f"{p.reason} ({p.citation or p.basis.value})",
        )
        for p in found
    ]
    head = ("class", "least", "most", "", "policy", "why")
    return Answer({"policies": _document(found)}, lambda out: out.table(head, rows, flexible=("why",)))


@command(app, "sweep")
async def sweep(
    run: Run,
    *,
    tenant: _Tenant,
    explain: Annotated[bool, typer.Option("--explain", help="Say what would be done, and do nothing.")] = False,
    batch: Annotated[int, typer.Option("--batch", metavar="PERSONS", help="Persons in one batch.")] = 500,
    yes: _Yes = False,
) -> Answer:
    """Erase what retention policies say is due. It first says what that is; killed, run it again."""
    document: dict[str, Any] = {}
    async with _desk(run, tenant, "retention policies") as db:
        lines = await db.privacy.explain()
        rows = [(x.action, x.data_class, f"{x.persons:,}", ", ".join(x.entities), x.why) for x in lines]
        document["explained"] = _document(lines)
        due = sum(x.persons for x in lines if x.action == "erase")
        persons = held = keys = 0
        if due and not explain:
            run.confirm(f"Erase the data of {due:,} persons of {tenant}? It cannot be undone.", yes)
            with run.output.progress("Erasing", due) as tell:
                async for done in db.privacy.sweep(batch=batch):
                    persons, held, keys = persons + done.persons, held + done.held, keys + done.keys
                    tell(done.persons)
        document |= {"persons": persons, "held": held, "keys": keys}

    def show(out: Output) -> None:
        if rows:
            out.table(("", "class", "persons", "entities", "why"), rows, flexible=("entities", "why"))
        if explain or not due:
            out.line(f"{due:,} persons are due." if due else "Nothing is due.")
        else:
            out.line(f"Erased: {persons:,} persons, {keys:,} keys. Passed over, because they are held: {held:,}.")

    return Answer(document, show)


@command(app, "replay")
async def replay(run: Run) -> Answer:
    """After a restore and before anything else: erase again what the ledger outside the database says was erased."""
    from tallystick.domains.rights.replay import replay_erasures

    async with run.opened() as tally:
        found = await replay_erasures(tally)
    rows = [(r.tenant, f"{r.lines:,}", f"{r.again:,}", f"{r.keys:,}", f"{r.reopened:,}") for r in found]
    return Answer(
        {"tenants": _document(found)},
        lambda out: out.table(("tenant", "erasures", "done again", "keys", "requests open again"), rows),
    )


@command(app, "check")
async def check(
    run: Run,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An export.")],
    *,
    key: Annotated[
        str | None, typer.Option("--key", metavar="HEX", help="The public key it should be signed by.")
    ] = None,
) -> Answer:
    """Check an export: its signature, and that no file was changed, added or removed. It needs no database."""
    from tallystick.domains.rights.export import check_export
    from tallystick.errors import Invalid

    public = None
    if key is not None:
        try:
            public = bytes.fromhex(key)
        except ValueError:
            public = b""
        if len(public) != 32:
            raise Invalid("A public key is 64 hexadecimal digits.", field="key")
    found = check_export(folder, public)
    return Answer(
        {"rows": found.rows, "files": len(found.files), "public_key": found.public_key},
        lambda out: out.line(f"Unchanged: {found.rows:,} rows in {len(found.files)} files, signed {found.made_at:%F}."),
        exits.OK,
    )


@command(app, "mask")
async def mask(
    run: Run,
    *,
    tenant: _Tenant,
    into: Annotated[str, typer.Option("--into", metavar="URL", help="The admin URL of the other database, migrated.")],
    slug: Annotated[str, typer.Option("--as", metavar="SLUG", help="What the copy's tenant is called.")],
    keys: Annotated[
        Path, typer.Option("--keys", metavar="FILE", help="The other database's key file; made when it is not there.")
    ],
) -> Answer:
    """Copy a tenant into another database with made-up persons: every sealed value is replaced and sealed anew."""
    from tallystick.domains.rights.masking import mask_into
    from tallystick.privacy.keys import LocalKeys
    from tallystick.schema.connect import acting_as_owner, connect
    from tallystick.settings import connect_args

    async with run.opened() as tally:
        provider = LocalKeys.from_file(keys) if keys.exists() else LocalKeys.create(keys)
        connection = await connect(connect_args(into, name="--into"), name="--into", statements=100)
        try:
            may = ("privacy.mask",)
            async with tally.session(tenant, actor=_ACTOR, permissions=may, reason="a masked copy") as db:
                with run.output.progress("Masking"):
                    async with acting_as_owner(connection, tally.settings.roles):
                        done = await mask_into(db, connection, provider, slug=slug)
        finally:
            await connection.close()
    total = sum(done.rows.values())
    return Answer(
        _document(done),
        lambda out: out.line(f"{slug}: {total:,} rows in {len(done.rows)} tables, {done.values:,} values made up."),
    )


@command(app, "offboard")
async def offboard(run: Run, folder: _Folder, *, tenant: _Tenant, reason: _Reason, yes: _Yes = False) -> Answer:
    """Export a whole tenant, close it and destroy its keys: what stays behind can never be read again."""
    async with _desk(run, tenant, reason) as db:
        run.confirm(f"Export {tenant} to {folder} and destroy all of its keys? It cannot be undone.", yes)
        done = await db.privacy.offboard(folder, confirm=tenant, reason=reason)
    return Answer(
        {"folder": str(folder), "rows": done.export.rows, "epochs": list(done.epochs)},
        lambda out: out.line(
            f"{tenant} is closed: {done.export.rows:,} rows in {folder}, {len(done.epochs)} key epochs ended."
        ),
    )


def _id(text: str) -> UUID:
    from tallystick.ids import parse_id

    return parse_id(text)


def _document(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)
