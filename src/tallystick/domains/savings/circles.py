"""``db.circles``: savings groups, and everything that happens in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.chain_logs import ChainLog
from tallystick.domains.guarded import Guarded
from tallystick.domains.savings.contributions import Contribution, ContributionKind, ContributionStatus
from tallystick.domains.savings.groups import MANAGE, GroupStatus, SavingsGroup
from tallystick.domains.savings.members import GroupMember
from tallystick.domains.savings.payouts import Bid, Payout, PayoutStatus
from tallystick.fields import Ref

if TYPE_CHECKING:
    from tallystick.domains.identity.users import UserLike
    from tallystick.domains.savings.overview import Overview
    from tallystick.domains.savings.views import Circle
    from tallystick.money import Money


class Circles(Guarded[SavingsGroup]):
    """The tenant's savings groups.

    A group is led by its organizer; members act for themselves; the permission "circles.manage" does both. Commands
    hold the group while they run, so no two things happen in one group at once. ``key`` makes a repetition answer what
    the first made; ``on`` is the business date, today unless given. A group that is not mirrored moves its money
    through the ledger, from and to the account "circles.clearing:<asset>".
    """

    permission = MANAGE
    instead = "db.circles.create(), join(), contribute() and pay_out()"

    # -- beginning -----------------------------------------------------------------------------------------------

    async def create(self, group: SavingsGroup, *, key: str | None) -> SavingsGroup:
        """Found a group; the acting user organizes it, unless it names another organizer.

        Raises ``Invalid`` for terms that no group can have, amounts among them whose pot the ledger could not hold (a
        token's above 10^38-1 units are only mirrored), ``Duplicate`` for a chain's group that is there already,
        ``RoleMissing``.
        """
        from tallystick.domains.savings.founding import create

        return await create(self.db, group, key)

    async def mirror(self, group: SavingsGroup) -> SavingsGroup:
        """Put in a group that mirrors one on a chain, or its terms as the chain has them now; takes "circles.manage".

        Groups are told apart by chain, contract and external id. Raises ``Conflict`` when the terms of one that no
        longer recruits differ, ``Invalid`` for a group that mirrors nothing.
        """
        from tallystick.domains.savings.founding import mirror

        return await mirror(self.db, group)

    async def invite(self, group: UUID, user: UserLike) -> GroupMember:
        """Invite a user while the group recruits; takes its organizer."""
        from tallystick.domains.savings.founding import invite

        return await invite(self.db, group, user)

    async def join(
        self,
        group: UUID,
        user: UserLike | None = None,
        *,
        target: Money | None = None,
        on: date | None = None,
        key: str | None,
    ) -> GroupMember:
        """Become a member, and leave the collateral that the group asks for.

        Raises ``Conflict`` with rule "full", "member" for who is one already, "status" once it no longer recruits.
        """
        from tallystick.domains.savings.founding import join

        return await join(self.db, group, user, target, on, key)

    async def leave(
        self, group: UUID, user: UserLike | None = None, *, on: date | None = None, key: str | None
    ) -> GroupMember:
        """Leave, or decline an invitation, while the group recruits; the collateral comes back."""
        from tallystick.domains.savings.founding import leave

        return await leave(self.db, group, user, on, key)

    async def set_order(self, group: UUID, users: Sequence[UserLike]) -> list[GroupMember]:
        """Say who receives when, in a group of fixed order: every member once. Without it, as they joined."""
        from tallystick.domains.savings.founding import set_order

        return await set_order(self.db, group, users)

    async def ready(self, group: UUID) -> SavingsGroup:
        """Close membership; takes two members at least, and the organizer."""
        from tallystick.domains.savings.founding import ready

        return await ready(self.db, group)

    async def draw(self, group: UUID, seed: bytes) -> list[GroupMember]:
        """Draw the order of a random group from the seed whose hash it was founded with; once.

        Ascending by HMAC-SHA-256 with the seed for a key, of the 16 bytes of the group's id and the 16 of the user's.
        Raises ``Invalid`` for another seed, ``Conflict`` with rule "revealed" the second time and "status" while
        members can still join.
        """
        from tallystick.domains.savings.founding import draw

        return await draw(self.db, group, seed)

    async def start(
        self, group: UUID, *, rounds: int | None = None, on: date | None = None, key: str | None
    ) -> SavingsGroup:
        """Freeze membership and order, and open the first round; a circle has as many rounds as members.

        ``rounds`` is for a group without pots. Raises ``Conflict`` unless it is ready (and its seed revealed).
        """
        from tallystick.domains.savings.founding import start

        return await start(self.db, group, rounds, on, key)

    # -- rounds --------------------------------------------------------------------------------------------------

    async def contribute(
        self,
        group: UUID,
        user: UserLike | None = None,
        amount: Money | None = None,
        *,
        round: int | None = None,
        kind: ContributionKind = ContributionKind.REGULAR,
        log: ChainLog | None = None,
        pending: bool = False,
        on: date | None = None,
        key: str | None,
    ) -> Contribution:
        """Take a member's contribution: the oldest that they owe, or that of a round, whole.

        It is accepted however late, after the end of the group too; what comes after its pot was paid is passed on
        to who received it short. Call it when the money is there: it is posted. In a mirrored group members only give
        notice, ``pending`` and with its ``log``; that it is settled is said with "circles.manage". Raises
        ``Conflict`` with rule "contributed" when nothing is owed, ``Duplicate`` for a log that is known, ``Invalid``
        for another amount, ``Denied`` for who is not a member.
        """
        from tallystick.domains.savings.collecting import contribute

        return await contribute(self.db, group, user, amount, round, kind, log, pending, on, key)

    async def mark_late(self, group: UUID, *, on: date | None = None, key: str | None) -> list[Contribution]:
        """Mark what is not paid after the days of grace as late, each with the group's late fee."""
        from tallystick.domains.savings.collecting import mark_late

        return await mark_late(self.db, group, on, key)

    async def default(self, group: UUID, user: UserLike, *, on: date | None = None, key: str | None) -> Contribution:
        """Give up a member's overdue contribution for now: collateral pays what it can, the rest becomes a claim.

        A member who received the pot already has defaulted for good, and owes all later contributions from then on.
        Raises ``Conflict`` with rule "grace" before the days of grace are over, "contributed" when nothing is open.
        """
        from tallystick.domains.savings.defaulting import default

        return await default(self.db, group, user, on, key)

    async def waive(self, contribution: UUID, *, on: date | None = None, key: str | None) -> Contribution:
        """Forgive a contribution, a claim or a late fee; takes "circles.manage". The pot is short by it."""
        from tallystick.domains.savings.collecting import waive

        return await waive(self.db, contribution, on, key)

    async def bid(self, group: UUID, user: UserLike | None = None, *, amount: Money, key: str | None) -> Bid:
        """Say what one would take for the pot of the round; the rest of it goes to the other members.

        Raises ``Invalid`` below the group's floor or above the pot, ``Conflict`` with rule "order_kind" in a group
        without bids and "lower" for one not below the bid before, ``Denied`` for who has received or owes.
        """
        from tallystick.domains.savings.paying import bid

        return await bid(self.db, group, user, amount, key)

    async def pay_out(
        self, group: UUID, *, log: ChainLog | None = None, on: date | None = None, key: str | None
    ) -> Payout:
        """Pay the pot of the round: what was paid in and what collateral paid, without the service fee.

        Who is behind with contributions receives it all the same, where the order is settled; it is marked. Raises
        ``Conflict`` with rule "not_funded" while contributions are open, "paid_out" the second time.
        """
        from tallystick.domains.savings.paying import pay_out

        return await pay_out(self.db, group, log, on, key)

    async def advance(self, group: UUID, *, on: date | None = None, key: str | None) -> SavingsGroup:
        """Close the round whose pot was paid and open the next; after the last, end and give collateral back.

        Raises ``Conflict`` with rule "not_paid_out", and "submitted" until a mirrored pot is confirmed.
        """
        from tallystick.domains.savings.turning import advance

        return await advance(self.db, group, on, key)

    async def share_out(
        self, group: UUID, user: UserLike | None = None, *, on: date | None = None, key: str | None
    ) -> Payout:
        """Pay a member what they saved in a group without pots, after its end too.

        In a mirrored group it is said with "circles.manage". Raises ``Conflict`` when nothing is left.
        """
        from tallystick.domains.savings.paying import share_out

        return await share_out(self.db, group, user, on, key)

    async def pause(self, group: UUID) -> SavingsGroup:
        """Stop a group for now: nothing is late, paid out or advanced; contributions are taken."""
        from tallystick.domains.savings.turning import move

        return await move(self.db, group, GroupStatus.PAUSED)

    async def resume(self, group: UUID) -> SavingsGroup:
        """Go on after a pause."""
        from tallystick.domains.savings.turning import move

        return await move(self.db, group, GroupStatus.ACTIVE)

    async def cancel(self, group: UUID, *, on: date | None = None, key: str | None = None) -> SavingsGroup:
        """End a group that has not started; collateral comes back."""
        from tallystick.domains.savings.turning import end

        return await end(self.db, group, GroupStatus.CANCELLED, on, key)

    async def dissolve(self, group: UUID, *, on: date | None = None, key: str | None = None) -> SavingsGroup:
        """End a group early; collateral comes back, and nobody owes contributions to rounds that never come.

        What is owed to rounds that were paid out stays owed. In a group without pots members take out their own with
        ``share_out``. Raises ``Conflict`` with rule "pot_held" while the round under way holds contributions to a pot.
        """
        from tallystick.domains.savings.turning import end

        return await end(self.db, group, GroupStatus.DISSOLVED, on, key)

    # -- what a chain says ---------------------------------------------------------------------------------------

    async def settle_contribution(
        self, contribution: UUID, status: ContributionStatus, *, log: ChainLog | None = None, on: date | None = None
    ) -> Contribution:
        """Say what became of a mirrored contribution on its chain: confirmed, failed or orphaned by a reorganisation.

        Takes "circles.manage". A round that was payable is open again when one of its contributions is orphaned.
        """
        from tallystick.domains.savings.collecting import settle

        return await settle(self.db, contribution, status, log, on)

    async def settle_payout(self, payout: UUID, status: PayoutStatus, *, log: ChainLog | None = None) -> Payout:
        """Say what became of a mirrored payout on its chain; a void pot can be paid again. Takes "circles.manage".

        Raises ``Conflict`` with rule "closed" for a pot that becomes void after its round was closed.
        """
        from tallystick.domains.savings.paying import settle

        return await settle(self.db, payout, status, log)

    # -- looking -------------------------------------------------------------------------------------------------

    async def circle(self, group: UUID) -> Circle:
        """A group with its members and their users, rounds, contributions and payouts, in one snapshot."""
        from tallystick.domains.savings.views import circle

        return await circle(self.db, group)

    async def overview(self) -> list[Overview]:
        """Every group of the tenant with what was paid in and out, what is held and what is owed, oldest first."""
        from tallystick.domains.savings.overview import overview

        return await overview(self.db)

    async def members(self, group: UUID) -> list[GroupMember]:
        """The members of a group, in their order."""
        found = await self.db[GroupMember].find(GroupMember.group == Ref(group))
        return sorted(found, key=lambda m: (m.position is None, m.position or 0, m.id))

    async def contributions(
        self, group: UUID, *, round: int | None = None, user: UserLike | None = None
    ) -> list[Contribution]:
        """The contributions to a group, of one round or of one member where they are named."""
        from tallystick.domains.identity.users import user_id
        from tallystick.domains.savings.access import member_of, round_of

        where = [Contribution.group == Ref(group)]
        known = await self.get(group)
        if round is not None:
            where.append(Contribution.round == (await round_of(self.db, known, round)).ref)
        if user is not None:
            where.append(Contribution.member == (await member_of(self.db, known, user_id(user))).ref)
        return await self.db[Contribution].find(*where)

    async def of_user(self, user: UserLike) -> list[SavingsGroup]:
        """The groups that a user is or was a member of, or is invited to."""
        from tallystick.domains.identity.users import user_id
        from tallystick.query import one_of

        found = await self.db[GroupMember].find(GroupMember.user == Ref(user_id(user)))
        return await self.find(one_of(SavingsGroup.id, [m.group.id for m in found])) if found else []
