"""Everything an application does in a day: initialise, create, read, filter, page, update, report, check, clean up.

The scenario is the usage example of a reputation system: what users did elsewhere comes in as inputs of several types
and sources, workers process them, and a summary is asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from sqlalchemy import func, select

from _scratch import run
from tallystick import (
    Entity,
    Index,
    Json,
    Queue,
    Ref,
    Rules,
    Session,
    Tallystick,
    Unique,
    User,
    at_least,
    between,
    desc,
    key,
    missing,
    one_of,
    present,
)

DAY = datetime(2026, 11, 2, 9, tzinfo=UTC)


class InputType(StrEnum):
    """What kind of behaviour an input tells of."""

    DEFI = "defi"
    NFT = "nft"
    SOCIAL = "social"


class Source(StrEnum):
    """Where an input came from."""

    CHAIN = "chain"
    API = "api"
    WEB = "web"


class Behaviour(Entity):
    """Something that a user did elsewhere, to be processed into a score."""

    user: Ref[User]
    type: InputType
    source: Source
    happened_at: datetime
    payload: Annotated[dict[str, Any], Json(promote={"value": int})]
    processed_at: datetime | None = None
    outside_id: str

    rules = Rules(
        Unique("source", "outside_id"),
        Index("type", "happened_at", query="inputs of a type by time"),
        Index("user", "happened_at", query="a user's inputs by time"),
        Queue("happened_at"),
        retain="scoring",
    )


class TypeSummary(msgspec.Struct):
    """One line of the analytics."""

    type: str
    inputs: int
    processed: int
    value: Decimal


async def create(db: Session) -> list[User]:
    """Users, and a hundred and twenty inputs of every type and source."""
    users = await db.users.add_many([User(email=f"{name}@example.org", first_name=name) for name in ("ada", "chidi")])
    inputs = [
        Behaviour(
            user=users[n % 2].ref,
            type=list(InputType)[n % 3],
            source=list(Source)[n % 2],
            happened_at=DAY + timedelta(hours=n),
            payload={"value": n * 10, "asset": "USDC"},
            outside_id=f"event-{n}",
        )
        for n in range(120)
    ]
    stored = await db[Behaviour].add_many(inputs)
    print(f"created: {len(users)} users, {len(stored)} inputs in one statement")
    return users


async def read_and_filter(db: Session, users: list[User]) -> None:
    """By id, by user, by type, by status, by time, by a key of the document, and counting."""
    repository = db[Behaviour]
    first = (await repository.find(order=Behaviour.happened_at, limit=1, load=[Behaviour.user]))[0]
    same = await repository.get(first.id)
    print("read: by id", same.outside_id, "| of", first.user.value.first_name, "| all:", await repository.count())
    print("of one user:", await repository.count(Behaviour.user == users[0].id))
    print("of two types:", await repository.count(one_of(Behaviour.type, [InputType.DEFI, InputType.NFT])))
    print("unprocessed:", await repository.count(missing(Behaviour.processed_at)))
    print("of a day:", await repository.count(between(Behaviour.happened_at, DAY, DAY + timedelta(hours=23))))
    print("with a value from 1000:", await repository.count(key(Behaviour.payload, "value") >= 1000))


async def page(db: Session) -> None:
    """Keyset pages of a filtered list: the last costs what the first does."""
    where = (Behaviour.type == InputType.DEFI, at_least(Behaviour.happened_at, DAY + timedelta(hours=12)))
    cursor: str | None = None
    sizes: list[int] = []
    while True:
        found = await db[Behaviour].page(*where, order=desc(Behaviour.happened_at), after=cursor, limit=15, count=True)
        sizes.append(len(found.items))
        cursor = found.next
        if cursor is None:
            break
    print("paged:", found.total, "inputs in pages of", sizes)


async def update(db: Session) -> None:
    """One by one with its version, many at once, and as work that several workers share."""
    one = (await db[Behaviour].find(missing(Behaviour.processed_at), limit=1))[0]
    one = await db[Behaviour].update(one, processed_at=db.now())
    nft = await db[Behaviour].update_where(
        Behaviour.type == InputType.NFT, missing(Behaviour.processed_at), processed_at=db.now()
    )
    worked = 0
    async for item in db[Behaviour].claim(limit=10, lease=timedelta(minutes=5)):
        async with item:
            worked += 1
    print(f"updated: one to version {one.version}, {nft} at once, {worked} claimed by a worker")


async def analyse(db: Session) -> None:
    """A statement of one's own, inside the tenant's wall."""
    b = Behaviour.table
    statement = (
        select(
            b.c.type,
            func.count().label("inputs"),
            func.count(b.c.processed_at).label("processed"),
            func.sum(b.c.payload_value).label("value"),
        )
        .group_by(b.c.type)
        .order_by(b.c.type)
    )
    for line in await db.fetch(statement, into=TypeSummary):
        print(f"analytics: {line.type}: {line.inputs} inputs, {line.processed} processed, value {line.value}")


async def check(tally: Tallystick) -> None:
    """What a readiness probe asks: the schema is right and the server answers; and how the pool is doing."""
    await tally.ready()
    version, now = await tally.store.system_row("SELECT current_setting('server_version'), now()")
    pool = tally.store.pool.stats()
    print(f"healthy: PostgreSQL {version}, {now:%Y-%m-%d}, pool {pool.open} open, {pool.waiting} waiting")


async def clean_up(db: Session) -> None:
    """Remove what was made, with a reason."""
    gone = await db[Behaviour].purge_where(present(Behaviour.outside_id), reason="example data")
    print("cleaned up:", gone, "inputs,", await db[Behaviour].count(), "left")


async def main() -> None:
    async with Tallystick.open(domains=["identity"], entities=[Behaviour]) as tally:
        report = await tally.migrate()
        await tally.tenants.create("persona", name="Persona")
        print("initialised:", ", ".join([*report.revisions, *report.tables]))
        async with tally.session("persona", actor="example") as db:
            users = await create(db)
            await read_and_filter(db, users)
            await page(db)
            await update(db)
            await analyse(db)
            await check(tally)
            await clean_up(db)


if __name__ == "__main__":
    run(main)
