"""Behaviour inputs, a thousand at a time: claimed under a lease and finished, or marked processed without a claim.

By hand a claim is one UPDATE over a SELECT ... SKIP LOCKED whose rows become the same struct, and what the triggers
keep (processed_at, version, who and when) is written by the statements themselves. Claims take the oldest inputs, marks
the newest, so that neither finds what the other did.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from benchmarks.domains.turns import WARM, Side, in_turns, same_rows
from benchmarks.figures import Row
from benchmarks.place import SLUG, Place
from benchmarks.runner import progress
from tallystick import Ref, Session, User, UserStatus, uuid7
from tallystick.domains.reputation.inputs import BehaviorInput, InputSource, InputType

EACH = 1_000
LEASE = timedelta(minutes=5)
USERS = 500
ACTOR = "worker"

# $1 tenant, $2 how many, $3 users; a minute apart.
_INPUTS = """
insert into tally.behavior_input (tenant_id, id, user_id, client_session, type, source, external_id, payload,
  payload_hash, occurred_at)
select $1, ('01900000-0060-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, ($3::uuid[])[1 + n % cardinality($3)],
  'session-' || n / 20, (array['transaction', 'defi', 'social', 'login'])[1 + n % 4],
  (array['blockchain', 'api', 'web'])[1 + n % 3], 'event-' || n,
  jsonb_build_object('amount', n % 1000, 'asset', 'USDC', 'counterparty', 'c' || n % 97),
  sha256(convert_to(n::text, 'UTF8')), '2026-01-01Z'::timestamptz + n * interval '1 minute'
from generate_series(1, $2::int) n
"""


async def make_inputs(place: Place, count: int) -> list[UUID]:
    """Inputs as a set, ids oldest first; no trigger has anything to do for them."""
    async with place.tally.session(SLUG, actor="bench", permissions=["*"]) as db:
        users = await db.users.add_many([User(status=UserStatus.ACTIVE) for _ in range(USERS)])
    await place.admin.execute(_INPUTS, place.tenant, count, [user.id for user in users])
    await place.copy("behavior_input")
    progress(f"inputs: {count:,}")
    rows = await place.admin.fetch("select id from hand.behavior_input order by occurred_at")
    return [row[0] for row in rows]


def claimed(db: Session) -> Side:
    async def claim(_: int) -> list[BehaviorInput]:
        items = [item async for item in db.inputs.claim(limit=EACH, lease=LEASE)]
        await db.inputs.finish(items)
        return [item.value for item in items]

    return claim


def marked(db: Session, ids: list[UUID]) -> Side:
    async def mark(turn: int) -> int:
        return await db.inputs.mark_processed(ids[turn * EACH : (turn + 1) * EACH])

    return mark


_READ = (
    "id", "tenant_id", "user_id", "session_id", "client_session", "type", "source", "external_id", "payload",
    "payload_hash", "occurred_at", "processed_at", "version", "created_at", "created_by", "updated_at", "updated_by",
)  # fmt: skip
_TOUCH = "version = b.version + 1, updated_at = now(), updated_by = $2"
_CLAIM = (
    "with free as materialized (select id from hand.behavior_input where tenant_id = $1 and done_at is null "
    "and (lease_until is null or lease_until < now()) order by occurred_at, id limit $5 for no key update skip locked) "
    f"update hand.behavior_input b set lease_token = $3, lease_until = now() + $4, lease_by = $2, "
    f"attempts = b.attempts + 1, {_TOUCH} where b.tenant_id = $1 and b.id = any (array(select id from free)) "
    f"returning {', '.join('b.' + name for name in _READ)}"
)
_DONE = f"done_at = now(), processed_at = now(), lease_token = null, lease_until = null, {_TOUCH}"
_FINISH = (
    f"update hand.behavior_input b set {_DONE} where b.tenant_id = $1 and b.id = any ($3) and b.lease_token = $4 "
    "and b.done_at is null returning b.id"
)
_LOCK = "select id from hand.behavior_input where tenant_id = $1 and id = any ($2) order by id for no key update"
_MARK = (
    f"update hand.behavior_input b set {_DONE} where b.tenant_id = $1 and b.id = any ($3) and b.done_at is null "
    "and (b.lease_until is null or b.lease_until < now()) returning b.id"
)
_TYPES = {str(kind.value): kind for kind in InputType}
_SOURCES = {str(source.value): source for source in InputSource}
_json = msgspec.json.Decoder(dict[str, Any]).decode


def struct_of(row: Any) -> BehaviorInput:
    (
        id, tenant, user, session, client_session, kind, source, external, payload, digest, occurred, processed,
        version, created, created_by, updated, updated_by,
    ) = row  # fmt: skip
    return BehaviorInput(
        id=id, tenant_id=tenant, user=Ref(user), session=None if session is None else Ref(session),
        client_session=client_session, type=_TYPES[kind], source=_SOURCES[source], external_id=external,
        payload=_json(payload), payload_hash=digest, occurred_at=occurred, processed_at=processed, version=version,
        created_at=created, created_by=created_by, updated_at=updated, updated_by=updated_by,
    )  # fmt: skip


def claimed_by_hand(conn: asyncpg.Connection, tenant: UUID) -> Side:
    async def claim(_: int) -> list[BehaviorInput]:
        token = uuid7()
        rows = await conn.fetch(_CLAIM, tenant, ACTOR, token, LEASE, EACH)
        items = [struct_of(row) for row in rows]
        # One statement is a transaction; all or none is still to be seen to.
        async with conn.transaction():
            if len(await conn.fetch(_FINISH, tenant, ACTOR, [item.id for item in items], token)) != len(items):
                raise LookupError(token)
        return items

    return claim


def marked_by_hand(conn: asyncpg.Connection, tenant: UUID, ids: list[UUID]) -> Side:
    async def mark(turn: int) -> int:
        part = sorted(ids[turn * EACH : (turn + 1) * EACH])
        async with conn.transaction():
            await conn.execute(_LOCK, tenant, part)
            done = await conn.fetch(_MARK, tenant, ACTOR, part)
            if len(done) != len(part):
                raise LookupError(len(part) - len(done))
        return len(done)

    return mark


_COMPARED = {
    "behavior_input": "id, done_at is null, processed_at is not distinct from done_at, lease_token, lease_until, "
    "lease_by, attempts, version, updated_by, payload, occurred_at"
}


async def measure(place: Place, *, quick: bool, turns: int | None = None, spare: int = 50_000) -> list[Row]:
    """Medians of a thousand inputs each, in turns; ``spare`` inputs are there that nobody gets to."""
    count = turns or (11 if quick else 25)
    wanted = (count + WARM) * EACH
    ids = await make_inputs(place, 2 * wanted + spare)
    await place.analyze("behavior_input")
    async with AsyncExitStack() as stack:
        tally = await stack.enter_async_context(place.opened(1))
        db = await stack.enter_async_context(tally.session(SLUG, actor=ACTOR))
        (conn,) = await stack.enter_async_context(place.by_hand())
        claims = await in_turns(
            f"claim and finish {EACH:,} inputs", _full(claimed(db)), _full(claimed_by_hand(conn, place.tenant)), count
        )
        newest = ids[-wanted:]
        marks = await in_turns(
            f"mark {EACH:,} inputs processed", marked(db, newest), marked_by_hand(conn, place.tenant, newest), count
        )
    await same_rows(place, _COMPARED)
    return [claims, marks]


def _full(side: Side) -> Side:
    async def claim(turn: int) -> Any:
        found = await side(turn)
        if len(found) != EACH or not isinstance(found[0].payload, dict):
            raise AssertionError(f"{len(found)} inputs were claimed")
        return found

    return claim
