"""How groups begin: founded, joined, ordered, started."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.assets import AssetKind, asset
from tallystick.domains.guarded import alter, put
from tallystick.domains.idempotency import idempotent
from tallystick.domains.identity.access import active_user, actor_user
from tallystick.domains.identity.users import UserLike, user_id
from tallystick.domains.savings import ordering
from tallystick.domains.savings.access import day_of, held, organize, themselves
from tallystick.domains.savings.books import Purse, open_purses, post
from tallystick.domains.savings.contributions import Contribution
from tallystick.domains.savings.groups import MANAGE, TERMS, GroupStatus, OrderKind, SavingsGroup
from tallystick.domains.savings.members import GroupMember, GroupMemberStatus
from tallystick.domains.savings.rounds import GroupRound, RoundStatus
from tallystick.entity import with_fields
from tallystick.errors import Conflict, Denied, Invalid
from tallystick.fields import Ref
from tallystick.money import CHAIN_MAX, FIAT_MAX, LEDGER_MAX
from tallystick.repository import Repository

if TYPE_CHECKING:
    from tallystick.session import Session

_S, _M = GroupStatus, GroupMemberStatus
MUTABLE = ("name", *TERMS)
"""What can change about a group while it recruits."""


async def create(db: Session, group: SavingsGroup, key: str | None) -> SavingsGroup:
    """See ``Circles.create``."""
    check(group)
    if group.organizer is not None and not isinstance(group.organizer, Ref):
        raise _bad("organizer", "An organizer is a reference to a user.", "Give organizer=user.ref.")
    organizer = None if group.organizer is None else group.organizer.id
    who = await themselves(db, organizer) if organizer or actor_user(db) else None
    if who is None:
        await db.require(MANAGE)
    given = with_fields(group, organizer=None if who is None else Ref(who))
    async with idempotent(db, "circles.create", key, _request(given)) as once:
        if once.replayed:
            return await db.circles.get(once.results[0])
        made = await put(db.circles, given)
        await open_purses(db, made)
        once.results = (made.id,)
    return made


async def mirror(db: Session, group: SavingsGroup) -> SavingsGroup:
    """See ``Circles.mirror``."""
    check(group)
    if not group.mirrored:
        raise Invalid(
            "Only a group that mirrors a chain's is put in again.",
            entity="SavingsGroup",
            field="mirrored",
            remedy="Give mirrored=True, chain_id, contract and external_id; else use circles.create().",
        )
    await db.require(MANAGE)
    async with db.transaction():
        found = await db.circles.find(
            SavingsGroup.chain_id == group.chain_id,
            SavingsGroup.contract == group.contract,
            SavingsGroup.external_id == group.external_id,
            limit=1,
        )
        if not found:
            # One atomic statement, because another indexer may put it in at this moment.
            return await Repository.upsert(db.circles, group, on=("chain_id", "contract", "external_id"))
        known = await db.circles.lock(found[0].id)
        return await alter(db.circles, known, **{name: getattr(group, name) for name in MUTABLE})


def check(group: SavingsGroup) -> None:
    """Raise ``Invalid`` for terms that no group can have; amounts that the books could not hold are among them."""
    if group.__class__ is not SavingsGroup:
        raise Invalid("A group is given as SavingsGroup(...).", field="group")
    known = asset(group.asset)
    numbers = (group.contribution_amount, group.max_members, group.late_fee, group.collateral_required)
    if not all(n.__class__ is int and 0 <= n <= CHAIN_MAX for n in numbers):
        raise _bad("contribution_amount", "Amounts are whole minor units, 0 to 2^256-1.", "Write usd('50').units.")
    pot = max(group.contribution_amount * max(group.max_members, 1), group.late_fee, group.collateral_required)
    most = CHAIN_MAX if group.mirrored else FIAT_MAX if known.kind is AssetKind.FIAT else LEDGER_MAX
    if pot > most:
        raise _bad(
            "contribution_amount",
            "A pot of this size cannot be stored." if group.mirrored else "A pot of this size cannot be posted.",
            "Agree on less; amounts above 10^38-1 units are only mirrored from a chain (mirrored=True).",
        )
    if group.mirrored and known.kind is AssetKind.FIAT:
        raise _bad("mirrored", "No chain holds this asset.", "A mirrored group's asset is a token.")
    hashed = group.seed_hash
    if group.order_kind is OrderKind.RANDOM and (hashed.__class__ is not bytes or len(hashed or b"") != 32):
        raise _bad(
            "seed_hash",
            "A random order needs the hash of its seed before anybody joins.",
            "Give seed_hash=commitment(seed), and keep the seed.",
        )
    begun = (group.seed, group.started_on, group.ended_on) != (None, None, None)
    if begun or group.status is not _S.RECRUITING or group.rounds or group.current_round:
        raise _bad("status", "A new group has not begun.", "Leave out status, seed, rounds and dates.")


async def invite(db: Session, group: UUID, user: UserLike) -> GroupMember:
    """See ``Circles.invite``."""
    who = user_id(user)
    async with db.transaction():
        found = await held(db, group, _S.RECRUITING)
        await organize(db, found)
        known = await _known(db, found, who)
        if known is None:
            return await put(db[GroupMember], GroupMember(group=found.ref, user=Ref(who)))
        if known.status is not _M.LEFT:
            raise _is_already(known)
        return await alter(db[GroupMember], known, status=_M.INVITED, joined_at=None, left_at=None)


async def join(  # noqa: PLR0917
    db: Session, group: UUID, user: UserLike | None, target: Any, on: date | None, key: str | None
) -> GroupMember:
    """See ``Circles.join``."""
    who = await themselves(db, user)
    day = day_of(db, on)
    async with idempotent(db, "circles.join", key, (group, who, target, on)) as once:
        if once.replayed:
            return await db[GroupMember].get(once.results[0])
        found = await held(db, group, _S.RECRUITING)
        await active_user(db, who)
        wanted = None if target is None else found.units(target, "target")
        known = await _known(db, found, who)
        if known is not None and known.status not in (_M.INVITED, _M.LEFT):
            raise _is_already(known)
        if found.members >= found.max_members:
            raise Conflict(
                "The group is full.", entity="SavingsGroup", rule="full", remedy="Join another, or found one."
            )
        pledge = found.collateral_required
        if known is None:
            made = await put(
                db[GroupMember],
                GroupMember(
                    group=found.ref,
                    user=Ref(who),
                    status=_M.ACTIVE,
                    joined_at=db.now(),
                    collateral=pledge,
                    target=wanted,
                ),
            )
        else:
            made = await alter(
                db[GroupMember],
                known,
                status=_M.ACTIVE,
                joined_at=db.now(),
                left_at=None,
                collateral=pledge,
                target=wanted,
            )
        await post(db, found, [(Purse.CLEARING, Purse.COLLATERAL, pledge)], op="circle.collateral", on=day)
        once.results = (made.id,)
    return made


async def leave(db: Session, group: UUID, user: UserLike | None, on: date | None, key: str | None) -> GroupMember:
    """See ``Circles.leave``."""
    who = await themselves(db, user)
    day = day_of(db, on)
    async with idempotent(db, "circles.leave", key, (group, who, on)) as once:
        if once.replayed:
            return await db[GroupMember].get(once.results[0])
        found = await held(db, group, _S.RECRUITING)
        known = await _known(db, found, who)
        if known is None or known.status not in (_M.INVITED, _M.ACTIVE):
            raise Denied("The user is not a member of the group.", remedy="Only members leave.")
        back = [(Purse.COLLATERAL, Purse.CLEARING, known.collateral)]
        await post(db, found, back, op="circle.collateral_back", on=day)
        gone = await alter(db[GroupMember], known, status=_M.LEFT, left_at=db.now(), collateral=0, position=None)
        once.results = (gone.id,)
    return gone


async def set_order(db: Session, group: UUID, users: Sequence[UserLike]) -> list[GroupMember]:
    """See ``Circles.set_order``."""
    if not isinstance(users, Sequence):
        raise Invalid("An order is a list of users.", field="users", remedy="See circles.members(group).")
    wanted = [user_id(u) for u in users]
    async with db.transaction():
        found = await held(db, group, _S.RECRUITING, _S.READY)
        await organize(db, found)
        if found.order_kind is not OrderKind.FIXED:
            raise Conflict(
                f"The order of the group is {found.order_kind.value}.", entity="SavingsGroup", rule="order_kind"
            )
        members = await _active(db, found)
        if sorted(wanted) != sorted(m.user.id for m in members):
            raise Invalid("The order names every member once.", field="users", remedy="See circles.members(group).")
        return await _place(db, members, wanted)


async def ready(db: Session, group: UUID) -> SavingsGroup:
    """See ``Circles.ready``."""
    async with db.transaction():
        found = await held(db, group, _S.RECRUITING)
        await organize(db, found)
        if found.members < 2:
            raise Conflict("A circle is of two at least.", entity="SavingsGroup", rule="members")
        members = await _active(db, found)
        if found.order_kind is not OrderKind.RANDOM and any(m.position is None for m in members):
            # Who was not placed comes after those who were, as they joined.
            placed = sorted(members, key=lambda m: (m.position is None, m.position or 0, m.joined_at, m.id))
            await _place(db, members, [m.user.id for m in placed])
        return await alter(db.circles, found, status=_S.READY)


async def draw(db: Session, group: UUID, seed: bytes) -> list[GroupMember]:
    """See ``Circles.draw``."""
    hashed = ordering.commitment(seed)
    async with db.transaction():
        found = await held(db, group, _S.READY)
        await organize(db, found)
        if found.order_kind is not OrderKind.RANDOM:
            raise Conflict(
                f"The order of the group is {found.order_kind.value}.", entity="SavingsGroup", rule="order_kind"
            )
        if found.seed is not None:
            raise Conflict("The seed was revealed already.", entity="SavingsGroup", rule="revealed")
        if hashed != found.seed_hash:
            raise Invalid(
                "The seed is not the one that was committed to.",
                entity="SavingsGroup",
                field="seed",
                remedy="Its SHA-256 is to be the group's seed_hash; another seed takes another group.",
            )
        members = await _active(db, found)
        await alter(db.circles, found, seed=seed)
        return await _place(db, members, ordering.drawn(seed, found.id, [m.user.id for m in members]))


async def start(db: Session, group: UUID, rounds: int | None, on: date | None, key: str | None) -> SavingsGroup:
    """See ``Circles.start``."""
    day = day_of(db, on)
    async with idempotent(db, "circles.start", key, (group, rounds, on)) as once:
        if once.replayed:
            return await db.circles.get(once.results[0])
        found = await held(db, group, _S.READY)
        await organize(db, found)
        if found.order_kind is OrderKind.RANDOM and found.seed is None:
            raise Conflict(
                "The order was not drawn yet.",
                entity="SavingsGroup",
                rule="not_revealed",
                remedy="Reveal the seed first: circles.draw(group, seed).",
            )
        members = sorted(await _active(db, found), key=lambda m: m.position or 0)
        count = _rounds(found, rounds)
        ordered = found.order_kind in (OrderKind.FIXED, OrderKind.RANDOM)
        step = timedelta(days=found.frequency_days)
        try:
            dates = [(day + step * n, day + step * (n + 1)) for n in range(count)]
        except OverflowError:
            raise Invalid("The last round would end after the calendar does.", field="on") from None
        await Repository.add_many(
            db[GroupRound],
            [
                GroupRound(
                    group=found.ref,
                    seq=n,
                    opens_on=opens,
                    due_on=due,
                    recipient=members[n - 1].ref if ordered else None,
                )
                for n, (opens, due) in enumerate(dates, 1)
            ],
        )
        started = await alter(db.circles, found, status=_S.ACTIVE, rounds=count, started_on=day)
        started = await open_round(db, started, 1, day)
        once.results = (started.id,)
    return started


async def open_round(db: Session, group: SavingsGroup, seq: int, day: date) -> SavingsGroup:
    """Open a round: everybody's contribution is expected; of who defaulted, collateral pays what it can."""
    from tallystick.domains.savings.defaulting import default_again

    found = await db[GroupRound].one(GroupRound.group == group.ref, GroupRound.seq == seq)
    opened = await alter(db[GroupRound], found, status=RoundStatus.OPEN)
    if group.order_kind is not OrderKind.NONE:
        members = await db[GroupMember].find(GroupMember.group == group.ref)
        await Repository.add_many(
            db[Contribution],
            [
                Contribution(group=group.ref, round=opened.ref, member=m.ref, amount=group.contribution_amount)
                for m in members
                if m.status is _M.ACTIVE
            ],
        )
        for member in members:
            if member.status is _M.DEFAULTED:
                await default_again(db, group, opened, member, day)
    return await alter(db.circles, group, current_round=seq)


# -- inside ------------------------------------------------------------------------------------------------------


async def _known(db: Session, group: SavingsGroup, user: UUID) -> GroupMember | None:
    found = await db[GroupMember].find(GroupMember.group == group.ref, GroupMember.user == Ref(user), limit=1)
    return found[0] if found else None


async def _active(db: Session, group: SavingsGroup) -> list[GroupMember]:
    return await db[GroupMember].find(GroupMember.group == group.ref, GroupMember.status == _M.ACTIVE)


async def _place(db: Session, members: Sequence[GroupMember], users: Sequence[UUID]) -> list[GroupMember]:
    """Give each their place; places are emptied first, because no two members ever have one."""
    by_user = {}
    for member in members:
        by_user[member.user.id] = await alter(db[GroupMember], member, position=None)
    return [await alter(db[GroupMember], by_user[user], position=n) for n, user in enumerate(users, 1)]


def _rounds(group: SavingsGroup, rounds: int | None) -> int:
    if group.order_kind is not OrderKind.NONE:
        if rounds is not None:
            raise Invalid("A circle has as many rounds as members.", field="rounds", remedy="Leave it out.")
        return group.members
    if rounds.__class__ is not int or rounds is None or not 1 <= rounds <= 10_000:
        raise Invalid("A group without pots says how many rounds it saves.", field="rounds", remedy="Give rounds=12.")
    return rounds


def _request(group: SavingsGroup) -> dict[str, Any]:
    names = (*MUTABLE, "organizer", "chain_id", "contract", "external_id")
    found = {name: getattr(group, name) for name in names}
    return found | {"organizer": None if group.organizer is None else group.organizer.id}


def _bad(field: str, problem: str, remedy: str) -> Invalid:
    return Invalid(problem, entity="SavingsGroup", field=field, remedy=remedy)


def _is_already(found: GroupMember) -> Conflict:
    return Conflict(f"The user is {found.status.value} in the group already.", entity="GroupMember", rule="member")
