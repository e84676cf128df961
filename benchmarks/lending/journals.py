"""Journals a second with eight callers at once: random accounts, one hot account, its stripes, 100 a statement.

A journal debits one account and credits two others. Every journal has an idempotency key, a hundred of one statement
share one. Commits wait for the disk, for both sides: how long a hot account's lock is held is what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import asyncpg

from benchmarks.figures import RATE, Row
from benchmarks.place import CALLERS, SLUG, Place
from benchmarks.runner import percentile, progress
from tallystick import AccountKind, Money, Session, transfer, uuid7
from tallystick.domains.ledger.posting import draft

KINDS = ("random accounts", "one hot account", "hot, 16 stripes", "hot, 100 a statement")
RANDOM, HOT, STRIPED, BATCH = KINDS
TURNS = 6
STRIPES, BATCHED = 16, 100
DAY = date(2026, 6, 1)
TABLES = ("account", "account_stripe", "journal", "transfer", "command_key")

Legs = list[tuple[UUID, UUID, int]]
"""Debit, credit, minor units."""
Post = Callable[[str, random.Random], Awaitable[int]]
"""Posts once, for a kind; answers how many journals."""


@dataclass(frozen=True, slots=True)
class Accounts:
    others: list[UUID]
    hot: UUID
    striped: UUID

    def legs(self, kind: str, chance: random.Random) -> Legs:
        first, second, third = chance.sample(self.others, 3)
        debit = {RANDOM: first, STRIPED: self.striped}.get(kind, self.hot)
        return [(debit, second, chance.randrange(100, 10_000)), (debit, third, chance.randrange(1, 100))]


async def open_accounts(db: Session, count: int) -> Accounts:
    others = [await db.ledger.open_account(f"wallet:{n}", "USD", AccountKind.LIABILITY) for n in range(count)]
    hot = await db.ledger.open_account("cash", "USD", AccountKind.ASSET)
    striped = await db.ledger.open_account("cash:striped", "USD", AccountKind.ASSET, stripes=STRIPES)
    return Accounts([account.id for account in others], hot.id, striped.id)


def ours(db: Session, accounts: Accounts) -> Post:
    async def post(kind: str, chance: random.Random) -> int:
        journals = [
            [transfer(debit, credit, Money(units, "USD")) for debit, credit, units in accounts.legs(kind, chance)]
            for _ in range(BATCHED if kind == BATCH else 1)
        ]
        if kind == BATCH:
            await db.ledger.post_many([draft(legs, op="bench", on=DAY) for legs in journals], key=str(uuid7()))
        else:
            await db.ledger.post(journals[0], op="bench", on=DAY, key=str(uuid7()))
        return len(journals)

    return post


_CLAIM = (
    "insert into hand.command_key (tenant_id, id, op, key, request, results) values ($1, $2, 'bench', $3, $4, $5) "
    "on conflict (tenant_id, op, key) do nothing returning id"
)
_POST = (
    "with header as (insert into hand.journal (tenant_id, id, op, effective) values ($1, $2, 'bench', $3)) "
    "insert into hand.transfer (tenant_id, id, journal_id, seq, debit_id, credit_id, asset, amount, phase) values "
    "($1, $4, $2, 1, $5, $6, 'USD', $7, 'posted'), ($1, $8, $2, 2, $9, $10, 'USD', $11, 'posted')"
)
_MOVE = "update hand.account set debits = debits + $3, credits = credits + $4 where tenant_id = $1 and id = $2"
_MOVE_STRIPE = (
    "update hand.account_stripe set debits = debits + $4, credits = credits + $5 "
    "where tenant_id = $1 and account_id = $2 and number = $3"
)
_POST_MANY = (
    "with header as (insert into hand.journal (tenant_id, id, op, effective) "
    "select $1, j, 'bench', $3 from unnest($2::uuid[]) j) "
    "insert into hand.transfer (tenant_id, id, journal_id, seq, debit_id, credit_id, asset, amount, phase) "
    "select $1, t.id, t.j, t.seq, t.d, t.c, 'USD', a, 'posted' from "
    "unnest($4::uuid[], $5::uuid[], $6::int[], $7::uuid[], $8::uuid[]) with ordinality t (id, j, seq, d, c, at), "
    "unnest($9::numeric[]) with ordinality u (a, n) where at = n"
)


def sums(legs: Legs) -> list[tuple[UUID, int, int]]:
    """What accounts are debited and credited, in the order in which they are locked."""
    found: dict[UUID, list[int]] = defaultdict(lambda: [0, 0])
    for debit, credit, units in legs:
        found[debit][0] += units
        found[credit][1] += units
    return [(account, debits, credits) for account, (debits, credits) in sorted(found.items())]


def by_hand(conn: asyncpg.Connection, tenant: UUID, accounts: Accounts) -> Post:
    async def claim(journals: list[UUID]) -> None:
        key = str(uuid7())
        request = hashlib.sha256(key.encode()).digest()
        results = "[" + ",".join(f'"{id}"' for id in journals) + "]"
        if await conn.fetchval(_CLAIM, tenant, uuid7(), key, request, results) is None:
            raise LookupError(key)

    async def post(kind: str, chance: random.Random) -> int:
        journals = [(uuid7(), accounts.legs(kind, chance)) for _ in range(BATCHED if kind == BATCH else 1)]
        moves = sums([leg for _, legs in journals for leg in legs])
        async with conn.transaction():
            await claim([id for id, _ in journals])
            if kind == BATCH:
                rows = [(uuid7(), id, n, *leg) for id, legs in journals for n, leg in enumerate(legs, 1)]
                columns = [list(column) for column in zip(*rows, strict=True)]
                await conn.execute(_POST_MANY, tenant, [id for id, _ in journals], DAY, *columns)
            else:
                ((id, (one, two)),) = journals
                await conn.execute(_POST, tenant, id, DAY, uuid7(), *one, uuid7(), *two)
            whole = [(tenant, *move) for move in moves if move[0] != accounts.striped]
            await conn.executemany(_MOVE, whole)
            if kind == STRIPED:
                debits = sum(move[1] for move in moves)
                lane = journals[0][0].bytes[-1] % STRIPES
                await conn.execute(_MOVE_STRIPE, tenant, accounts.striped, lane, debits, 0)
        return len(journals)

    return post


async def _turn(posts: list[Post], kind: str, seconds: float, seed: int) -> float:
    """Journals a second of all callers together."""
    started = time.perf_counter()
    until = started + seconds

    async def caller(post: Post, chance: random.Random) -> int:
        done = await post(kind, chance)
        while time.perf_counter() < until:
            done += await post(kind, chance)
        return done

    done = await asyncio.gather(*(caller(post, random.Random(f"{seed}:{n}")) for n, post in enumerate(posts)))
    return sum(done) / (time.perf_counter() - started)


async def check(place: Place) -> None:
    """Every transfer is in the balances, on both sides, and debits equal credits."""
    for schema in ("tally", "hand"):
        sql = (
            f"select (select sum(amount) from {schema}.transfer), sum(debits), sum(credits) from "
            f"(select debits, credits from {schema}.account union all select debits, credits from "
            f"{schema}.account_stripe) x"
        )
        moved, debits, credits = await place.admin.fetchrow(sql)
        if not moved == debits == credits:
            raise AssertionError(f"{schema}: transfers of {moved}, debits of {debits}, credits of {credits}")


async def measure(place: Place, *, quick: bool, seconds: float | None = None, accounts: int = 1000) -> list[Row]:
    """Six turns of each kind, ours and by hand one after the other; medians of journals a second and of ratios."""
    length = seconds if seconds is not None else 0.7 if quick else 2.0
    async with place.tally.session(SLUG, actor="bench", permissions=["*"]) as db:
        opened = await open_accounts(db, accounts)
    await place.copy("account", "account_stripe")
    await place.durable(True)
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    try:
        async with contextlib.AsyncExitStack() as stack:
            tally = await stack.enter_async_context(place.opened(CALLERS))
            sessions = [
                await stack.enter_async_context(tally.session(SLUG, actor=f"bench:{n}")) for n in range(CALLERS)
            ]
            connections = await stack.enter_async_context(place.by_hand(CALLERS, durable=True))
            sides = {
                "ours": [ours(db, opened) for db in sessions],
                "by hand": [by_hand(conn, place.tenant, opened) for conn in connections],
            }
            for kind in KINDS:
                for posts in sides.values():
                    await _turn(posts, kind, length / 4, seed=0)
            # Plans that were made for empty tables are made anew.
            await place.analyze(*TABLES)
            for turn in range(TURNS):
                for kind in KINDS:
                    for side in list(sides)[:: 1 if turn % 2 else -1]:
                        gc.collect()
                        rates[kind, side].append(await _turn(sides[side], kind, length, seed=turn + 1))
                    progress(f"journals: {kind}, turn {turn + 1} of {TURNS}")
    finally:
        await place.durable(False)
        progress("")
    await check(place)
    return _rows(rates)


def _rows(rates: dict[tuple[str, str], list[float]]) -> list[Row]:
    found: list[Row] = []
    for kind in KINDS:
        mine, theirs = rates[kind, "ours"], rates[kind, "by hand"]
        ratios = [ours / hand for ours, hand in zip(mine, theirs, strict=True)]
        found.append(
            Row(f"journal, {kind}", RATE, percentile(mine, 0.5), percentile(theirs, 0.5), percentile(ratios, 0.5))
        )
    return [*found, *_striping(rates)]


def _striping(rates: dict[tuple[str, str], list[float]]) -> list[Row]:
    gains = [striped / plain for striped, plain in zip(rates[STRIPED, "ours"], rates[HOT, "ours"], strict=True)]
    plain, striped = (percentile(rates[kind, "ours"], 0.5) for kind in (HOT, STRIPED))
    return [Row("striped over plain", RATE, striped, plain, percentile(gains, 0.5), least=1.5, beside="plain")]
