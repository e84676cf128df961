"""Savings circles: one that is half way round, one that a member left short, one that bids, one that recruits.

Dates are counted back from the tenant's business date of today; everything else is the same each time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from tallystick.domains.identity.users import User, UserRole, UserStatus
from tallystick.domains.savings.groups import OrderKind, SavingsGroup
from tallystick.domains.savings.ordering import commitment
from tallystick.money import Money
from tallystick.query import prefix
from tallystick.seeds import CIRCLES, Planted
from tallystick.seeds.people import FAMILY, FEMALE, MALE
from tallystick.seeds.tenants import asset_of
from tallystick.seeds.users import address

if TYPE_CHECKING:
    from tallystick.session import Session

MEMBERS = 8
_WEEK: Final = timedelta(days=7)
_NAME: Final = "Seed circle: "
Told = Callable[[int], None]


async def plant(db: Session, told: Told | None = None) -> Planted:
    """Plant members and groups, unless the groups are there already."""
    slug = db.tenant.slug
    if await db.circles.exists(prefix(SavingsGroup.name, _NAME)):
        return Planted(seed="circles", tenant=slug, added=0, present=MEMBERS + CIRCLES)
    async with db.transaction():
        people = await _people(db)
        for make in (_half_way, _short, _bidding, _recruiting):
            await make(db, people)
            if told is not None:
                told(1)
    return Planted(seed="circles", tenant=slug, added=MEMBERS + CIRCLES, present=0)


async def _people(db: Session) -> list[User]:
    people = []
    for number in range(MEMBERS):
        first, last = (FEMALE if number % 2 else MALE)[-1 - number], FAMILY[-1 - number]
        people.append(
            User(
                email=address(first, f"{last}c{number}", db.tenant.slug),
                first_name=first,
                last_name=last,
                role=UserRole.USER,
                status=UserStatus.ACTIVE,
                is_verified=True,
            )
        )
    return await db.users.add_many(people)


async def _founded(db: Session, people: list[User], name: str, amount: str, **terms: object) -> SavingsGroup:
    asset = asset_of(db.tenant.slug)
    wanted: dict[str, object] = {
        "name": _NAME + name,
        "organizer": people[0].ref,
        "asset": asset,
        "contribution_amount": Money.of(amount, asset).units,
        "frequency_days": 7,
        "max_members": MEMBERS,
    }
    group = await db.circles.create(SavingsGroup(**wanted | terms), key=None)  # type: ignore[arg-type]
    for person in people:
        await db.circles.join(group.id, person, key=None)
    return group


async def _half_way(db: Session, people: list[User]) -> None:
    seed = sha256(db.tenant.slug.encode()).digest()
    group = await _founded(
        db, people, "Friday market", "25", order_kind=OrderKind.RANDOM, seed_hash=commitment(seed), service_fee_bps=100
    )
    await db.circles.ready(group.id)
    await db.circles.draw(group.id, seed)
    begun = db.today() - _WEEK * 4
    await db.circles.start(group.id, on=begun, key=None)
    for n in range(4):
        await _turn(db, group, people, 4 - n)
    for person in people[:5]:
        await db.circles.contribute(group.id, person, key=None)


async def _short(db: Session, people: list[User]) -> None:
    asset = asset_of(db.tenant.slug)
    fee, pledge = Money.of("2", asset).units, Money.of("15", asset).units
    group = await _founded(db, people[:5], "Weavers", "20", late_fee=fee, collateral_required=pledge, grace_days=2)
    await db.circles.ready(group.id)
    begun = db.today() - _WEEK * 6
    await db.circles.start(group.id, on=begun, key=None)
    await _turn(db, group, people[:5], 6)
    late = begun + _WEEK * 2 + timedelta(days=3)
    for person in people[1:5]:
        await db.circles.contribute(group.id, person, on=begun + _WEEK, key=None)
    await db.circles.mark_late(group.id, on=late, key=None)
    await db.circles.default(group.id, people[0], on=late, key=None)
    await db.circles.pay_out(group.id, on=late, key=None)
    await db.circles.advance(group.id, on=late, key=None)


async def _bidding(db: Session, people: list[User]) -> None:
    asset = asset_of(db.tenant.slug)
    group = await _founded(db, people[2:6], "Taxi rank", "50", order_kind=OrderKind.BIDDING, bid_floor_bps=6_500)
    await db.circles.ready(group.id)
    await db.circles.start(group.id, on=db.today() - _WEEK * 2, key=None)
    await db.circles.bid(group.id, people[4], amount=Money.of("180", asset), key=None)
    await db.circles.bid(group.id, people[3], amount=Money.of("170", asset), key=None)
    await _turn(db, group, people[2:6], 2)


async def _recruiting(db: Session, people: list[User]) -> None:
    await _founded(db, people[5:], "Night school", "10")


async def _turn(db: Session, group: SavingsGroup, people: list[User], ago: int) -> None:
    """A round in which everybody pays, so many weeks ago."""
    day = db.today() - _WEEK * ago
    for person in people:
        await db.circles.contribute(group.id, person, on=day, key=None)
    await db.circles.pay_out(group.id, on=day, key=None)
    await db.circles.advance(group.id, on=day, key=None)
