"""``keys``: status, rotate, rewrap, rotate-index, destroy-epoch, verify, escrow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli import exits
from tallystick.cli.run import Answer, Run, command

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.cli.output import Output, Tell
    from tallystick.privacy.rotation import KeyStatus, Verified
    from tallystick.session import Session

app = typer.Typer(help="The keys of encrypted fields: look at them, rotate them, keep a copy.", no_args_is_help=True)

_ACTOR = "operator:keys"
_TAMPERED = 8
_Tenant = Annotated[str | None, typer.Option("--tenant", metavar="SLUG", help="One tenant; without it, every one.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


async def _sessions(
    tally: Tallystick, tenant: str | None, reason: str, *, left: bool = False
) -> AsyncIterator[tuple[str, Session]]:
    """A session of each tenant, closed ones too: their keys are kept, wrapped and in the end destroyed like any other.

    Those that left have no keys any more and are passed over, or refused by name (``Erased``), unless ``left``.
    """
    from tallystick.errors import Erased
    from tallystick.privacy.rotation import has_left

    names = [tenant] if tenant is not None else [s async for _, s, _ in tally.tenants.all()]
    for name in names:
        async with tally._upkeep(name, actor=_ACTOR, permissions=("keys.manage",), reason=reason) as db:
            if left or not await has_left(db):
                yield name, db
            elif tenant is not None:
                raise Erased("The tenant left, and every one of its keys was destroyed.")


@command(app, "status")
async def status(run: Run, *, tenant: _Tenant = None) -> Answer:
    """The key epochs of each tenant and how many data keys each wraps, and blind indexes whose keys were rotated."""
    from tallystick.privacy import rotation

    async with run.opened() as tally:
        found = {
            name: await rotation.status(db) async for name, db in _sessions(tally, tenant, "keys status", left=True)
        }
    rows = [row for name, one in found.items() for row in _rows(name, one)]
    indexes = [row for name, one in found.items() for row in _index_rows(name, one)]

    def show(out: Output) -> None:
        if rows:
            out.table(("tenant", "epoch", "state", "living keys", "erased keys", "erasures"), rows)
        else:
            out.line("There are no keys yet; the first is made with the first encrypted value.")
        if indexes:
            out.table(("tenant", "blind index", "generation", "phase", "since"), indexes)
        else:
            out.line("The keys of all blind indexes are of the first generation.")

    return Answer({"tenants": {name: _document(one) for name, one in found.items()}}, show)


@command(app, "rotate")
async def rotate(run: Run, *, tenant: _Tenant = None) -> Answer:
    """Begin a new key epoch; new data keys are wrapped in it. `rewrap` then moves the others."""
    from tallystick.privacy import rotation

    async with run.opened() as tally:
        found = {name: await rotation.rotate(db) async for name, db in _sessions(tally, tenant, "keys rotate")}

    def show(out: Output) -> None:
        for name, epoch in found.items():
            out.line(f"{name}: epoch {epoch} has begun. Next: `tallystick keys rewrap`.")

    return Answer({"epochs": found}, show)


@command(app, "rewrap")
async def rewrap(
    run: Run,
    *,
    tenant: _Tenant = None,
    batch: Annotated[int, typer.Option("--batch", metavar="KEYS", help="Keys in one transaction.")] = 2_000,
) -> Answer:
    """Wrap every data key in the newest epoch while others work; killed, run it again. Exit code 1: some left."""
    from tallystick.privacy import rotation

    done: dict[str, Any] = {}
    async with run.opened() as tally:
        async for name, db in _sessions(tally, tenant, "keys rewrap"):
            before = await rotation.status(db)
            total = sum(e.live for e in before.epochs if e.epoch != before.current)
            with run.output.progress(f"Wrapping the keys of {name} anew", total) as tell:
                done[name] = await rotation.rewrap(db, batch=batch, report=_steps(tell))

    def show(out: Output) -> None:
        for name, one in done.items():
            left = f"; {one.left:,} are in use all the time, run it again" if one.left else ""
            out.line(f"{name}: {one.done:,} keys wrapped anew in epoch {one.epoch}{left}.")

    left = any(one.left for one in done.values())
    document = {"tenants": {name: asdict(one) for name, one in done.items()}}
    return Answer(document, show, exits.FINDINGS if left else exits.OK)


@command(app, "rotate-index")
async def rotate_index(
    run: Run,
    *,
    tenant: _Tenant = None,
    column: Annotated[
        str | None,
        typer.Option("--column", metavar="TABLE.FIELD", help="One field, say users.email; without it, every index."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", metavar="ROWS", help="Rows in one transaction.")] = 500,
) -> Answer:
    """Give blind indexes a new key and index every value anew while others work; killed, run it again."""
    from tallystick.privacy import reindex

    done: dict[str, tuple[reindex.Reindexed, ...]] = {}
    async with run.opened() as tally:
        async for name, db in _sessions(tally, tenant, "keys rotate-index"):
            with run.output.progress(f"Indexing the values of {name} anew") as tell:
                done[name] = await reindex.rotate_index(db, column, batch=batch, report=_rows_told(tell))

    def show(out: Output) -> None:
        for name, ones in done.items():
            for one in ones:
                index = f"{name}: {one.table}.{one.column}"
                if one.recent:
                    out.line(f"{index} was rotated minutes ago and stays at generation {one.generation}.")
                else:
                    out.line(f"{index}: {one.rows:,} rows indexed anew, generation {one.generation}.")

    return Answer({"tenants": {name: [asdict(one) for one in ones] for name, ones in done.items()}}, show)


@command(app, "destroy-epoch")
async def destroy_epoch(
    run: Run,
    epoch: Annotated[int, typer.Argument(metavar="EPOCH", help="Its number; `tallystick keys status` shows them.")],
    *,
    tenant: Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose it is.")],
    yes: _Yes = False,
) -> Answer:
    """Destroy an epoch's key for good: erasures become final, backups from before the last `rewrap` unreadable."""
    from tallystick.privacy import rotation

    async with run.opened() as tally:
        run.confirm(f"Destroy the key of epoch {epoch} of {tenant}? Older backups cannot be read any more.", yes)
        async for _, db in _sessions(tally, tenant, "keys destroy-epoch", left=True):
            await rotation.destroy_epoch(db, epoch)
    return Answer(
        {"tenant": tenant, "ended": epoch},
        lambda out: out.line(
            f"{tenant}: epoch {epoch} has ended. What was erased in it is gone from every backup too."
        ),
    )


@command(app, "verify")
async def verify(
    run: Run,
    *,
    tenant: _Tenant = None,
    sample: Annotated[int, typer.Option("--sample", metavar="N", help="Keys of each epoch, rows of each table.")] = 100,
) -> Answer:
    """Open a sample of keys of every epoch and of every encrypted column. Exit code 8: something does not open."""
    from tallystick.domains.catalog import entities_of
    from tallystick.entity import spec_of
    from tallystick.extension import living
    from tallystick.privacy import rotation

    found: dict[str, Verified] = {}
    async with run.opened() as tally:
        specs = [spec_of(e) for e in living((*entities_of(tally.domains), *tally.entities))]
        async for name, db in _sessions(tally, tenant, "keys verify"):
            found[name] = await rotation.verify(db, specs, sample=sample)

    def show(out: Output) -> None:
        for name, one in found.items():
            epochs = ", ".join(f"{count} of epoch {epoch}" for epoch, count in one.keys.items()) or "none"
            out.line(f"{name}: keys opened: {epochs}; values opened: {one.values:,}; of erased people: {one.erased:,}.")
            for failure in one.failures:
                out.line(f"  DOES NOT OPEN  {failure}", "bold red")

    failed = any(one.failures for one in found.values())
    return Answer({"tenants": {n: asdict(one) for n, one in found.items()}}, show, _TAMPERED if failed else exits.OK)


@command(app, "officer")
async def officer(
    run: Run, path: Annotated[Path, typer.Argument(metavar="FILE", help="The private key; FILE.pub beside it.")]
) -> Answer:
    """Make an escrow officer's pair of keys, on the officer's own machine. It needs no database."""
    from tallystick.privacy.escrow import create_officer

    public = create_officer(path)
    return Answer(
        {"private": str(path), "public": str(public)},
        lambda out: out.line(f"Keep {path} offline; give {public} to whoever runs `tallystick keys escrow`."),
    )


@command(app, "escrow")
async def escrow(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Written anew; it must not be there yet.")],
    *,
    to: Annotated[list[Path], typer.Option("--to", metavar="PUB", help="An officer's public key; once for each.")],
    tenant: _Tenant = None,
) -> Answer:
    """Write every living key to a file that all named officers have to open together. Losing keys is losing data."""
    from tallystick.privacy.escrow import deposit

    async with run.opened() as tally:
        ids = [db.tenant_id async for _, db in _sessions(tally, tenant, "keys escrow")]
        count = deposit(_keys(tally), ids, to, file)
    return Answer(
        {"file": str(file), "keys": count, "officers": len(to)},
        lambda out: out.line(f"{count} keys are in {file}; all {len(to)} officers are needed to bring them back."),
    )


@command(app, "unescrow")
async def unescrow(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `tallystick keys escrow` wrote.")],
    *,
    officers: Annotated[list[Path], typer.Option("--with", metavar="KEY", help="An officer's private key; each.")],
) -> Answer:
    """Bring keys back into the key folder, wrapped by the root key of now. Epochs that were ended stay ended."""
    from tallystick.privacy.escrow import withdraw

    async with run.opened() as tally:
        made, there = withdraw(_keys(tally), officers, file)
    return Answer(
        {"restored": made, "there": there},
        lambda out: out.line(f"{made} keys were brought back; {there} were there already."),
    )


def _steps(tell: Tell) -> Callable[[int, int], None]:
    last = 0

    def step(done: int, total: int) -> None:
        nonlocal last
        tell(done - last)
        last = done

    return step


def _rows_told(tell: Tell) -> Callable[[str, int], None]:
    return lambda index, rows: tell(0, f"{index}: {rows:,} rows indexed anew")


def _keys(tally: Tallystick) -> Any:
    from tallystick.errors import Unavailable

    if tally.keys is None:
        raise Unavailable("No key provider is configured.", remedy="Set TALLYSTICK_KEY_FILE and TALLYSTICK_KEY_DIR.")
    return tally.keys


def _document(one: KeyStatus) -> dict[str, Any]:
    document = asdict(one)
    for epoch in document["epochs"]:
        epoch["ended"] = epoch["ended"].isoformat() if epoch["ended"] is not None else None
    for index in document["indexes"]:
        index["begun"] = index["begun"].isoformat() if index["begun"] is not None else None
    return document


def _index_rows(name: str, one: KeyStatus) -> list[tuple[Any, ...]]:
    return [
        (name, f"{i.table}.{i.column}", i.generation, i.phase, f"{i.begun:%Y-%m-%d %H:%M}")
        for i in one.indexes
        if i.begun is not None
    ]


def _rows(name: str, one: KeyStatus) -> list[tuple[Any, ...]]:
    def state(epoch: Any) -> str:
        if epoch.ended is not None:
            return f"ended {epoch.ended:%Y-%m-%d}"
        if epoch.epoch == one.current:
            return "current"
        return "closed" if epoch.epoch < one.oldest else "open"

    return [(name, e.epoch, state(e), f"{e.live:,}", f"{e.erased:,}", one.erasures) for e in one.epochs]
