"""Savings of 3,081 households in 42 associations of Mozambique (PROIRRI) as groups without pots.

Christian, Glover, Kondylis, Mueller, Ruzzante, Zwager, Agricultural Economics, 2022; data of the World Bank's DIME
under CC BY 4.0. Households saved any amount in each of four quarters, and about half of the associations drew up plans
first. The file names nobody and no dates: quarters are of 91 days and begin on a day that is made up. Amounts were kept
in single precision; here they are centavos, rounded half to even.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid5

import msgspec

from tallystick.domains.datafiles import rows_of
from tallystick.domains.guarded import alter, put
from tallystick.domains.identity.users import User, UserStatus
from tallystick.domains.savings.books import Purse, open_purses, post
from tallystick.domains.savings.contributions import Contribution, ContributionStatus
from tallystick.domains.savings.groups import MANAGE, GroupStatus, OrderKind, SavingsGroup
from tallystick.domains.savings.members import GroupMember, GroupMemberStatus
from tallystick.domains.savings.rounds import GroupRound, RoundStatus
from tallystick.errors import Invalid
from tallystick.fields import Ref
from tallystick.query import prefix
from tallystick.repository import Repository

if TYPE_CHECKING:
    from tallystick.session import Session

FILE: Final = "savings_contributions.csv"
ASSET, QUARTERS, DAYS = "MZN", 4, 91
FIRST_DAY: Final = date(2016, 1, 1)
"""The file has no dates; its first quarter begins here."""
_NAME: Final = "PROIRRI association "
_PLANS: Final = ", with plans"
_BOXES: Final = tuple(f"bp_v{n}_boxvalue" for n in range(1, QUARTERS + 1))
_NEEDED: Final = {"prov", "associd", "hhid", "treatment", "bp_v0_target", *_BOXES}
_KINDS: Final = {"yes": True, "no": False, "1": True, "0": False}
_MISSING: Final = ("", "NA", ".")


class Household(msgspec.Struct, frozen=True):
    """One line of the file, amounts in centavos."""

    association: str
    number: str
    province: str
    planned: bool
    target: int | None
    saved: tuple[int, ...]


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading did: the file's name, its households, and what of groups, members and contributions was new."""

    file: str
    households: int
    groups: int
    members: int
    contributions: int


class Quarter(msgspec.Struct, frozen=True, kw_only=True):
    """Savings up to the end of a quarter, for each household: the share that had saved, and the mean in MZN."""

    number: int
    share: Fraction
    mean: Fraction


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """What the stored rows say: by quarter, by kind of association, and by association."""

    households: int
    associations: int
    quarters: list[Quarter]
    control: Fraction
    control_deviation: Decimal
    planned: Fraction
    association_mean: Fraction
    association_deviation: Decimal
    association_most: Fraction
    target_mean: Fraction


def find(path: Path) -> Path:
    """The data file that a path means: itself, or the file of its usual name in that folder. Raises ``Invalid``."""
    places = (f / f"{FILE}{end}" for f in (path, path / "savings_groups_mozambique") for end in ("", ".gz"))
    found = next((f for f in places if f.is_file()), path)
    if found.is_file():
        return found
    raise Invalid("There is no savings file at that path.", field="path", remedy=f"Name {FILE}, or its folder.")


def read(path: Path) -> list[Household]:
    """Every household of the file. Raises ``Invalid`` with the number of the first line that is wrong."""
    found: dict[str, Household] = {}
    of: dict[str, tuple[str, bool]] = {}
    for at, row in rows_of(find(path), "savings", _NEEDED):
        try:
            one = _household(row)
        except (ValueError, InvalidOperation):
            one = None
        same = one is not None and of.setdefault(one.association, (one.province, one.planned))
        if one is None or one.number in found or same != (one.province, one.planned):
            raise Invalid(
                f"Line {at} of the savings file is not what it should be.",
                field=f"line {at}",
                remedy=f"Use {FILE} as it was published. A household is there once, in one province and kind of group.",
            )
        found[one.number] = one
    if not found:
        raise Invalid("The savings file is empty.", field="path", remedy=f"Use {FILE} as it was published.")
    return list(found.values())


async def load(db: Session, path: Path, told: Callable[[int], None] | None = None) -> Loaded:
    """Store the file's associations that the tenant does not have, each whole or not at all.

    Takes the permission "circles.manage". Raises ``Invalid`` for another file, before anything is written.
    """
    await db.require(MANAGE)
    households = read(path)
    by_group: dict[str, list[Household]] = {}
    for one in households:
        by_group.setdefault(one.association, []).append(one)
    groups = members = contributions = 0
    for association, of in by_group.items():
        id = uuid5(db.tenant_id, f"proirri:{association}")
        async with db.transaction():
            if await db.circles.get_or_none(id) is None:
                made = SavingsGroup(
                    id=id,
                    name=f"{_NAME}{association} ({of[0].province}){_PLANS if of[0].planned else ''}",
                    asset=ASSET,
                    contribution_amount=0,
                    frequency_days=DAYS,
                    max_members=max(2, len(of)),
                    order_kind=OrderKind.NONE,
                )
                contributions += await _store(db, made, of)
                groups += 1
                members += len(of)
        if told is not None:
            told(len(of))
    return Loaded(
        file=find(path).name,
        households=len(households),
        groups=groups,
        members=members,
        contributions=contributions,
    )


async def table(db: Session) -> Table:
    """Count the published table from what is stored; raises ``Invalid`` when nothing is."""
    groups = {g.ref: g async for g in db.circles.stream(prefix(SavingsGroup.name, _NAME))}
    members = [m async for m in db[GroupMember].stream() if m.group in groups]
    if not members:
        raise Invalid("The tenant has no association of the savings file.", field="tenant", remedy="Load it first.")
    rounds = {r.ref: r.seq async for r in db[GroupRound].stream() if r.group in groups}
    saved: dict[Ref[GroupMember], list[int]] = {m.ref: [0] * QUARTERS for m in members}
    async for row in db[Contribution].stream(Contribution.status == ContributionStatus.CONFIRMED):
        if row.group in groups:
            saved[row.member][rounds[row.round] - 1] += row.amount
    quarters = []
    for n in range(1, QUARTERS + 1):
        upto = [sum(own[:n]) for own in saved.values()]
        share = Fraction(sum(units > 0 for units in upto), len(members))
        quarters.append(Quarter(number=n, share=share, mean=_mean(upto)))
    totals = {m.ref: sum(saved[m.ref]) for m in members}
    planned = {g.ref for g in groups.values() if g.name.endswith(_PLANS)}
    control = [totals[m.ref] for m in members if m.group not in planned]
    of_group = [sum(totals[m.ref] for m in members if m.group == ref) for ref in groups]
    targets = [sum(m.target or 0 for m in members if m.group == ref) for ref in groups]
    return Table(
        households=len(members),
        associations=len(groups),
        quarters=quarters,
        control=_mean(control),
        control_deviation=_deviation(control),
        planned=_mean([totals[m.ref] for m in members if m.group in planned]),
        association_mean=_mean(of_group),
        association_deviation=_deviation(of_group),
        association_most=Fraction(max(of_group), 100),
        target_mean=_mean(targets),
    )


# -- inside ------------------------------------------------------------------------------------------------------


async def _store(db: Session, given: SavingsGroup, households: list[Household]) -> int:
    """One association from its founding to its end; answers how many contributions there were."""
    group = await put(db.circles, given)
    await open_purses(db, group)
    users = await db.users.add_many(
        [User(id=uuid5(db.tenant_id, f"proirri household:{h.number}"), status=UserStatus.ACTIVE) for h in households]
    )
    members = await Repository.add_many(
        db[GroupMember],
        [
            GroupMember(
                group=group.ref,
                user=user.ref,
                status=GroupMemberStatus.ACTIVE,
                joined_at=db.now(),
                target=h.target,
                external_id=h.number,
            )
            for user, h in zip(users, households, strict=True)
        ],
    )
    group = await alter(db.circles, await db.circles.lock(group.id), status=GroupStatus.READY)
    group = await alter(db.circles, group, status=GroupStatus.ACTIVE, rounds=QUARTERS, started_on=FIRST_DAY)
    starts = [FIRST_DAY + timedelta(days=DAYS * n) for n in range(QUARTERS + 1)]
    rounds = await Repository.add_many(
        db[GroupRound],
        [
            GroupRound(group=group.ref, seq=n + 1, opens_on=starts[n], due_on=starts[n + 1] - timedelta(days=1))
            for n in range(QUARTERS)
        ],
    )
    count = 0
    for n, quarter in enumerate(rounds):
        opened = await alter(db[GroupRound], quarter, status=RoundStatus.OPEN)
        paid = [(m, h.saved[n]) for m, h in zip(members, households, strict=True) if h.saved[n]]
        moves = [(Purse.CLEARING, Purse.POT, units) for _, units in paid]
        journal = await post(db, group, moves, op="circle.regular", on=opened.due_on)
        await Repository.add_many(
            db[Contribution],
            [
                Contribution(
                    group=group.ref,
                    round=opened.ref,
                    member=m.ref,
                    amount=units,
                    status=ContributionStatus.CONFIRMED,
                    effective=opened.due_on,
                    journal=journal,
                )
                for m, units in paid
            ],
        )
        await alter(db[GroupRound], opened, status=RoundStatus.CLOSED, closed_on=opened.due_on)
        count += len(paid)
    await Repository.update_where(db[GroupMember], GroupMember.group == group.ref, status=GroupMemberStatus.COMPLETED)
    ended = {"current_round": QUARTERS, "status": GroupStatus.COMPLETED, "ended_on": rounds[-1].due_on}
    await alter(db.circles, group, **ended)
    return count


def _household(row: dict[str, str]) -> Household:
    saved = tuple(_centavos(row[name]) for name in _BOXES)
    association, number = row["associd"], row["hhid"]
    if not all(1 <= len(id) <= 20 and id.isascii() and id.isdigit() for id in (association, number)):
        raise ValueError
    if not 1 <= len(row["prov"]) <= 40 or not row["prov"].isprintable() or row["treatment"].lower() not in _KINDS:
        raise ValueError
    target = row["bp_v0_target"]
    planned = _KINDS[row["treatment"].lower()]
    goal = None if target in _MISSING else _centavos(target)
    return Household(association, number, row["prov"], planned, goal, saved)


def _centavos(text: str) -> int:
    value = Decimal(text)
    if not value.is_finite() or not 0 <= value <= 10**9 or len(text) > 40:
        raise ValueError
    return int((value * 100).to_integral_value())


def _mean(units: Iterable[int]) -> Fraction:
    found = list(units)
    return Fraction(sum(found), 100 * len(found)) if found else Fraction(0)


def _deviation(units: list[int]) -> Decimal:
    """The sample standard deviation, to a thousandth, without a float."""
    if len(units) < 2:
        return Decimal(0)
    spread = Fraction(len(units) * sum(u * u for u in units) - sum(units) ** 2, len(units) * (len(units) - 1))
    # Units are hundredths and ten times finer is asked for.
    return Decimal(isqrt(int(spread * 100))).scaleb(-3)
