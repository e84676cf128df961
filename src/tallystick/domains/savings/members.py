"""Members of savings groups: their place in the order, and whether they received and owe."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from tallystick.domains.guarded import Guarded
from tallystick.domains.identity.users import User
from tallystick.domains.savings.groups import MANAGE, SavingsGroup
from tallystick.entity import Entity
from tallystick.fields import ChainAmount, Length, Maintained, Once, Ref
from tallystick.rules import Check, Guard, Index, Readable, Rules, Transitions, Unique, kept


class GroupMemberStatus(StrEnum):
    """``defaulted`` received the pot and stopped paying; who is only behind stays ``active``, with ``in_debt``."""

    INVITED = "invited"
    ACTIVE = "active"
    DEFAULTED = "defaulted"
    LEFT = "left"
    COMPLETED = "completed"


_S = GroupMemberStatus


class GroupMember(Entity):
    """A user's place in a group; the database freezes membership and order once the group is active.

    ``position`` is the member's place in the order, from 1. ``collateral`` is what is held of theirs now.
    ``has_received`` and ``in_debt`` follow from payouts and contributions by triggers. ``target`` is what the member
    means to save, where the group has no pot.
    """

    group: Annotated[Ref[SavingsGroup], Once()]
    user: Annotated[Ref[User], Once()]
    status: GroupMemberStatus = GroupMemberStatus.INVITED
    position: int | None = None
    collateral: ChainAmount = 0
    target: ChainAmount | None = None
    external_id: Annotated[str, Length(80, min=1), Once()] | None = None
    joined_at: datetime | None = None
    left_at: datetime | None = None
    has_received: Annotated[bool, Maintained()] = False
    in_debt: Annotated[bool, Maintained()] = False

    rules = Rules(
        Unique("group", "user"),
        Unique("group", "position", where="position is not null"),
        Unique("group", "external_id", where="external_id is not null"),
        Unique("id", "group"),
        Index("user", "status", query="the groups of a user"),
        Index("group", "in_debt", query="who is behind in a group", where="in_debt"),
        Check("position", "position is null or position >= 1"),
        Check("placed", "position is null or status not in ('invited', 'left')"),
        Check("joined", "joined_at is not null or status in ('invited', 'left')"),
        Transitions(
            "status",
            {
                _S.INVITED: [_S.ACTIVE, _S.LEFT],
                _S.ACTIVE: [_S.LEFT, _S.DEFAULTED, _S.COMPLETED],
                _S.LEFT: [_S.INVITED, _S.ACTIVE],
                _S.DEFAULTED: [_S.COMPLETED],
            },
            initial=[_S.INVITED, _S.ACTIVE],
        ),
        Guard("tally_membership", "AFTER INSERT OR UPDATE", "tally.circle_membership('group_member')"),
        kept(),
        retain="savings",
        readable={"external_id": Readable.CODE},
    )


class GroupMembers(Guarded[GroupMember]):
    """Who is in which group; they change through ``db.circles``."""

    permission = MANAGE
    instead = "db.circles.invite(), join() and leave()"
