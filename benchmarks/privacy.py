"""``./run bench privacy``: what encryption costs, in the process and in a read, beside the same without it.

* **seal, open**: one field of forty characters through what repositories use, keys at hand; aimed at 4 and 3 µs.
* **get**: by id, of an entity with three secret fields, beside one whose columns are the same and hold the same bytes
  as plain ``bytes``; in turns, each with a session and a connection of its own; aimed at 1.25. Once with masks that
  hide everything, and once with three that show the last four, which are opened by who looks at them and not here.
* **page**: twenty of the latter, and the same with every mask looked at.
* **reveal**: one secret, with its permission, its record and its audit entry in one transaction; beside the plain get.
* **rewrap**: keys of people wrapped anew, a second, with their audit entries; only reported.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
import timeit
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from uuid import UUID, uuid4

from benchmarks.arena import connected, new_database, pin_cores
from benchmarks.figures import RATE, TIME, Row, text_of
from benchmarks.runner import note
from tallystick import Entity, Index, LocalKeys, Mask, Rules, Search, Secret, Session, Settings, Tallystick, secret
from tallystick.entity import spec_of
from tallystick.errors import TallystickError
from tallystick.privacy import rotation
from tallystick.schema.provision import provision
from tallystick.settings import connect_args

MISSED = 3
ROWS = 2_000
KEYS = {True: 10_000, False: 50_000}
TEXT = "Forty characters of a person's own data."


class Hidden(Entity):
    """Three secret fields, of which a read shows nothing."""

    number: Annotated[Secret[str], Search("digits")]
    account: Secret[str]
    token: Secret[str]
    note: str

    rules = Rules(retain="identity")


class HiddenTwin(Entity):
    """The same columns with the same bytes in them."""

    number: bytes
    number_bidx: bytes
    number_bidx_next: bytes | None = None
    account: bytes
    token: bytes
    note: str

    rules = Rules(
        Index("number_bidx", query="by number"), Index("number_bidx_next", query="by number"), retain="identity"
    )


class Shown(Entity):
    """Three secret fields that show their last four in every read."""

    number: Annotated[Secret[str], Search("digits"), Mask(4)]
    account: Annotated[Secret[str], Mask(4)]
    token: Annotated[Secret[str], Mask(4)]
    note: str

    rules = Rules(retain="identity")


class ShownTwin(Entity):
    """The same columns with the same bytes in them."""

    number: bytes
    number_bidx: bytes
    number_bidx_next: bytes | None = None
    number_mask: bytes
    account: bytes
    account_mask: bytes
    token: bytes
    token_mask: bytes
    note: str

    rules = Rules(
        Index("number_bidx", query="by number"), Index("number_bidx_next", query="by number"), retain="identity"
    )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks privacy", description="What encryption costs.")
    made.add_argument("--quick", action="store_true", help="shorter turns")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    made.add_argument("--url", help="a server instead of the embedded one, as a role that may create databases")
    made.add_argument("--pin", choices=("apart", "together", "off"), default="apart", help="see `./run bench --help`")
    return made


async def fields(db: Session, quick: bool) -> list[Row]:
    """One field in the process."""
    entity = Shown(number=secret("123"), account=secret(TEXT), token=secret("x"), note="")
    spec = spec_of(Shown)
    field = spec.fields["account"]
    writer: Any = await db.sealer.writer(spec, [entity])
    envelope = writer.seal(spec.table, field, TEXT, entity.id)
    opener = await db.sealer.opener_of({envelope[2:18]}, await db.sealer.generation())
    # Short and many: the best of them was not interrupted.
    count, repeat, rows = 100, 200 if quick else 2_000, []
    for name, act, aim in (
        ("seal a field", lambda: writer.seal(spec.table, field, TEXT, entity.id), 4.0),
        ("open a field", lambda: opener.reveal(spec.table, field, envelope, entity.id), 3.0),
    ):
        taken = min(timeit.repeat(act, number=count, repeat=repeat)) / count * 1e6
        rows.append(Row(name, TIME, taken, 0.0, 0.0, within=aim, beside="nothing"))
    return rows


async def filled(db: Session, kind: type[Any], twin: type[Any]) -> tuple[list[UUID], list[UUID]]:
    """Rows of both kinds, the plain ones with the bytes of the others."""
    made = await db[kind].add_many(
        [
            kind(number=secret(f"{n:09d}"), account=secret(TEXT), token=secret(uuid4().hex), note="n" * 40)
            for n in range(ROWS)
        ]
    )
    columns = [name for name, field in spec_of(twin).fields.items() if not field.system and name != "note"]
    rows = await db.unit.call(
        f"SELECT {', '.join(columns)} FROM {spec_of(kind).qualified} WHERE tenant_id = $1", (db.tenant_id,)
    )
    plain = await db[twin].add_many([twin(**dict(zip(columns, row, strict=True)), note="n" * 40) for row in rows])
    return [one.id for one in made], [one.id for one in plain]


async def beside(
    name: str, ours: Callable[[int], Awaitable[Any]], theirs: Callable[[int], Awaitable[Any]], turns: int, **aim: Any
) -> Row:
    """Medians of both in turns of twenty-five."""
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns):
        for into, act in ((taken[0], ours), (taken[1], theirs)) if turn % 2 else ((taken[1], theirs), (taken[0], ours)):
            await act(turn)
            for at in range(25):
                started = time.perf_counter_ns()
                await act(turn * 25 + at)
                into.append((time.perf_counter_ns() - started) / 1000)
    mine, other = statistics.median(taken[0]), statistics.median(taken[1])
    return Row(name, TIME, mine, other, mine / other, beside="plain columns", **aim)


async def reads(tally: Tallystick, other: Tallystick, settle: Callable[[], Awaitable[None]], quick: bool) -> list[Row]:
    """Reads of masked entities, and reveals."""
    turns = 40 if quick else 200
    async with (
        tally.session("bench", actor="bench", permissions=["*"]) as db,
        other.session("bench", actor="bench", permissions=["*"]) as plain,
    ):
        hidden, hidden_twin = await filled(db, Hidden, HiddenTwin)
        shown, shown_twin = await filled(db, Shown, ShownTwin)
        await settle()

        def get(of: Session, kind: type[Any], ids: list[UUID]) -> Callable[[int], Awaitable[Any]]:
            return lambda n: of[kind].get(ids[n * 7 % ROWS])

        def page(of: Session, kind: type[Any]) -> Callable[[int], Awaitable[Any]]:
            return lambda _: of[kind].page(limit=20)

        def reveal(n: int) -> Awaitable[Any]:
            return db[Hidden].reveal(hidden[n * 7 % ROWS], Hidden.number, reason="benchmark")

        async def looked(_: int) -> list[str]:
            found = await db[Shown].page(limit=20)
            return [held.mask for one in found.items for held in (one.number, one.account, one.token)]

        bare, twin = get(plain, HiddenTwin, hidden_twin), get(plain, ShownTwin, shown_twin)
        found = [
            await beside("get, three secrets", get(db, Hidden, hidden), bare, turns, most=1.25),
            await beside("get, three secrets that show the last four", get(db, Shown, shown), twin, turns, most=1.25),
            await beside("page of 20 such", page(db, Shown), page(plain, ShownTwin), turns // 4),
            await beside("the same, 60 masks looked at", looked, page(plain, ShownTwin), turns // 4),
            await beside("reveal one secret, beside a get", reveal, bare, turns // 4),
        ]
    return found


async def rewrapped(db: Session, quick: bool) -> list[Row]:
    """Keys wrapped anew."""
    keys = KEYS[quick]
    for start in range(0, keys, 10_000):
        count = min(10_000, keys - start)
        await db.sealer.keyring().ready(db.unit, [(uuid4(), "identity") for _ in range(count)], new=True)
    await rotation.rotate(db)
    started = time.perf_counter()
    done = await rotation.rewrap(db)
    rate = done.done / (time.perf_counter() - started)
    return [Row("keys wrapped anew", RATE, rate, 0.0, 0.0, beside="nothing")]


async def run(options: argparse.Namespace) -> dict[str, Any]:
    rows: list[Row] = []
    async with contextlib.AsyncExitStack() as stack:
        admin_url, app_url, password, roles, embedded = await stack.enter_async_context(new_database(options.url))
        await provision(admin_url, app_password=password, roles=roles)
        settings = Settings(database_url=app_url, admin_url=admin_url, role_prefix=roles.prefix, pool_max=1)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tallystick-bench-keys-")))
        keys = LocalKeys.create(folder / "root.key")

        def opened() -> Any:
            return Tallystick.open(
                entities=[Hidden, HiddenTwin, Shown, ShownTwin], domains=["identity"], settings=settings, keys=keys
            )

        where = connect_args(admin_url)
        admin = await stack.enter_async_context(connected(where))
        for setting in ("jit = off", "synchronous_commit = off"):
            await admin.execute(f'alter database "{where["database"]}" set {setting}')
        pinned = await pin_cores(admin, options.pin if embedded else "off")
        tally = await stack.enter_async_context(opened())
        await tally.migrate()
        other = await stack.enter_async_context(opened())
        await admin.execute(f'set role "{roles.owner}"')

        async def settle() -> None:
            for table in ("hidden", "hidden_twin", "shown", "shown_twin", "data_key", "key_state"):
                await admin.execute(f"vacuum (analyze) tally.{table}")

        await tally.tenants.create("bench", name="Benchmark")
        async with tally.session("bench", actor="bench", permissions=["*"]) as db:
            rows += await fields(db, options.quick)
            rows += await reads(tally, other, settle, options.quick)
            rows += await rewrapped(db, options.quick)
        version = await admin.fetchval("show server_version")
    about = {"server": version, "python": sys.version.split()[0], "pinned": pinned, "quick": options.quick}
    return {"environment": about, "rows": [row.as_json() for row in rows], "text": text_of(rows)}


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    try:
        found = asyncio.run(run(options))
    except TallystickError as problem:
        note(str(problem))
        return 1
    print(found.pop("text"))
    print("\nMedians (fields: the best of many); beside is an entity with the same columns and bytes, not encrypted.")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1))
    return MISSED if any(row["reached"] is False for row in found["rows"]) else 0
