"""Everything an application does in a day: initialise, create, read, filter, page, update, report, check, clean up.

The scenario is the usage example of a reputation system: what users did elsewhere comes in as inputs of several types
and sources, workers process them, a model scores them, and summaries are asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from _scratch import run
from tallystick import (
    BehaviorInput,
    BehaviorSession,
    InputSource,
    InputType,
    Purpose,
    ReputationPolicy,
    Score,
    ScoringCategory,
    Session,
    SessionType,
    Tallystick,
    User,
    at_least,
    between,
    desc,
    missing,
    one_of,
    present,
)

DAY = datetime(2026, 11, 2, 9, tzinfo=UTC)
TYPES = (InputType.DEFI, InputType.NFT, InputType.SOCIAL)
SOURCES = (InputSource.BLOCKCHAIN, InputSource.API, InputSource.WEB)


async def create(db: Session) -> list[User]:
    """Users, a session, and a hundred and twenty inputs of every type and source; one of them is delivered twice."""
    users = await db.users.add_many([User(email=f"{name}@example.org", first_name=name) for name in ("ada", "chidi")])
    visit = await db.behavior.add(BehaviorSession(user=users[0].ref, type=SessionType.WALLET, started_at=DAY))
    inputs = [
        BehaviorInput(
            user=users[n % 2].ref,
            session=visit.ref if n in (0, 2) else None,
            type=TYPES[n % 3],
            source=SOURCES[n % 2],
            occurred_at=DAY + timedelta(hours=n),
            payload={"value": n * 10, "asset": "USDC"},
            external_id=f"event-{n}",
        )
        for n in range(120)
    ]
    first = await db.inputs.receive(inputs[0])
    stored = await db.inputs.add_many(inputs[1:])
    again = await db.inputs.receive(inputs[0])
    print(
        f"created: {len(users)} users, {len(stored) + 1} inputs; delivered again, the same one: {again.id == first.id}"
    )
    return users


async def read_and_filter(db: Session, users: list[User]) -> None:
    """By id, by user, by session, by type, by status, by time, from a query string, and counting."""
    first = (await db.inputs.find(order=BehaviorInput.occurred_at, limit=1, load=[BehaviorInput.user]))[0]
    same = await db.inputs.get(first.id)
    print("read: by id", same.external_id, "| of", first.user.value.first_name, "| all:", await db.inputs.count())
    assert first.session is not None
    print("of one user:", len(await db.inputs.of_user(users[0])), "| of a session:", end=" ")
    print(len(await db.inputs.of_session(first.session.id)))
    print("of two types:", await db.inputs.count(one_of(BehaviorInput.type, [InputType.DEFI, InputType.NFT])))
    print("unprocessed:", len(await db.inputs.unprocessed()))
    print("of a day:", await db.inputs.count(between(BehaviorInput.occurred_at, DAY, DAY + timedelta(hours=23))))
    asked = BehaviorInput.Filter.parse({"type_in": "defi,social", "source": "api", "processed_at_missing": "true"})
    print("as a query string asks:", await db.inputs.count(asked))


async def page(db: Session) -> None:
    """Keyset pages of a filtered list: the last costs what the first does."""
    where = (BehaviorInput.type == InputType.DEFI, at_least(BehaviorInput.occurred_at, DAY + timedelta(hours=12)))
    cursor: str | None = None
    sizes: list[int] = []
    while True:
        found = await db.inputs.page(*where, order=desc(BehaviorInput.occurred_at), after=cursor, limit=15, count=True)
        sizes.append(len(found.items))
        cursor = found.next
        if cursor is None:
            break
    print("paged:", found.total, "inputs in pages of", sizes)


async def process(db: Session) -> None:
    """As work that several workers share, and by hand."""
    worked = 0
    async for item in db.inputs.claim(limit=10, lease=timedelta(minutes=5)):
        async with item:
            worked += 1
    marked = await db.inputs.mark_processed(await db.inputs.unprocessed(limit=20))
    print(f"processed: {worked} claimed by a worker, {marked} marked at once")


async def judge(db: Session, user: User) -> None:
    """A score behind a consent, experiences, and what they come to a half-life later."""
    grant = await db.consents.grant(user, Purpose.CREDIT_CHECK, policy_version="2026-1")
    inputs = await db.inputs.find(BehaviorInput.user == user.id, present(BehaviorInput.processed_at))
    await db.scores.add(Score(user=user.ref, value=712, model="m7"), consent=grant, inputs=inputs)
    await db.reputation.observe(user, ScoringCategory.DEFI, good=True, count=9, at=DAY)
    policy = ReputationPolicy(half_life_days=Decimal(30))
    for days in (0, 30):
        found = await db.reputation.summary(user, as_of=DAY + timedelta(days=days), policy=policy)
        print(f"reputation after {days} days: {found.overall} of 1000 from {found.evidence_count} experiences")


async def analyse(db: Session) -> None:
    """How much came in, by type and source."""
    found = await db.inputs.analytics()
    by_type = ", ".join(f"{count} {type_.value}" for type_, count in found.by_type.items())
    print(f"analytics: {found.total} inputs ({by_type}), {found.processed} processed, {found.unprocessed} waiting")


async def check(tally: Tallystick) -> None:
    """What a readiness probe asks: the schema is right and the server answers; and how the pool is doing."""
    await tally.ready()
    version, now = await tally.store.system_row("SELECT current_setting('server_version'), now()")
    pool = tally.store.pool.stats()
    print(f"healthy: PostgreSQL {version}, {now:%Y-%m-%d}, pool {pool.open} open, {pool.waiting} waiting")


async def clean_up(db: Session) -> None:
    """Remove what was made, with a reason. Scores are append-only and stay."""
    gone = await db.inputs.purge_where(present(BehaviorInput.external_id), reason="example data")
    print("cleaned up:", gone, "inputs,", await db.inputs.count(missing(BehaviorInput.processed_at)), "left")


async def main() -> None:
    async with Tallystick.open(domains=["reputation"]) as tally:
        report = await tally.migrate()
        await tally.tenants.create("persona", name="Persona")
        print("initialised:", ", ".join([*report.revisions, *report.tables]))
        async with tally.session("persona", actor="example", permissions=["consents.manage"]) as db:
            users = await create(db)
            await read_and_filter(db, users)
            await page(db)
            await process(db)
            await judge(db, users[0])
            await analyse(db)
            await check(tally)
            await clean_up(db)


if __name__ == "__main__":
    run(main)
