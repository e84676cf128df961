"""What members receive: the pot of a round once, what came late, their part of a discount, their own savings."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from tallystick.domains.guarded import Guarded
from tallystick.domains.ledger.journals import Journal
from tallystick.domains.savings.contributions import Contribution
from tallystick.domains.savings.groups import MANAGE, SavingsGroup
from tallystick.domains.savings.members import GroupMember
from tallystick.domains.savings.rounds import GroupRound
from tallystick.entity import Entity
from tallystick.fields import ChainAmount, Once, Ref
from tallystick.rules import Check, Foreign, Guard, Index, Readable, Rules, Transitions, Unique, kept


class PayoutKind(StrEnum):
    """``arrears`` pass on a contribution that came after its pot was paid; a ``dividend`` is of a bid's discount."""

    POT = "pot"
    ARREARS = "arrears"
    DIVIDEND = "dividend"
    SHARE_OUT = "share_out"


class PayoutStatus(StrEnum):
    """Where a payout is; one through the ledger is ``confirmed`` at once, one on a chain when the chain says so."""

    SUBMITTED = "submitted"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    ORPHANED = "orphaned"
    VOID = "void"


_S = PayoutStatus


class Payout(Entity):
    """Money that went from the group to a member; a round has one pot, and a member receives one.

    ``fee`` is the service fee that was kept of it; ``in_debt`` says that the member owed contributions then.
    """

    group: Annotated[Ref[SavingsGroup], Once()]
    round: Annotated[Ref[GroupRound], Once()]
    member: Annotated[Ref[GroupMember], Once()]
    kind: Annotated[PayoutKind, Once()] = PayoutKind.POT
    amount: Annotated[ChainAmount, Once()]
    fee: Annotated[ChainAmount, Once()] = 0
    in_debt: Annotated[bool, Once()] = False
    cause: Annotated[Ref[Contribution], Once()] | None = None
    effective: Annotated[date, Once()]
    status: PayoutStatus = PayoutStatus.CONFIRMED
    journal: Annotated[Ref[Journal], Once()] | None = None
    chain_id: int | None = None
    tx_hash: bytes | None = None
    log_index: int | None = None

    rules = Rules(
        Unique("round", where="kind = 'pot' and status <> 'void'"),
        Unique("group", "member", where="kind = 'pot' and status <> 'void'"),
        Unique("round", "member", where="kind = 'dividend' and status <> 'void'"),
        Unique("chain_id", "tx_hash", "log_index"),
        Foreign("round", "group", to=GroupRound, of=("id", "group_id")),
        Foreign("member", "group", to=GroupMember, of=("id", "group_id")),
        Index("group", "effective", query="what a group paid, by date"),
        Check("cause", "(kind = 'arrears') = (cause_id is not null)"),
        Check("log", "(chain_id is null) = (tx_hash is null) and (chain_id is null) = (log_index is null)"),
        Check("hash", "tx_hash is null or octet_length(tx_hash) = 32"),
        Transitions(
            "status",
            {
                _S.SUBMITTED: [_S.CONFIRMED, _S.FAILED],
                _S.FAILED: [_S.SUBMITTED, _S.VOID],
                _S.CONFIRMED: [_S.ORPHANED],
                _S.ORPHANED: [_S.SUBMITTED, _S.VOID],
            },
            initial=[_S.SUBMITTED, _S.CONFIRMED],
        ),
        Guard("tally_payout", "AFTER INSERT OR UPDATE OF status", "tally.circle_payout('payout')"),
        kept(),
        retain="savings",
        readable={"tx_hash": Readable.DIGEST},
    )


class Bid(Entity):
    """What a member would take for the pot of a round; a later bid of theirs is lower and replaces it."""

    group: Annotated[Ref[SavingsGroup], Once()]
    round: Annotated[Ref[GroupRound], Once()]
    member: Annotated[Ref[GroupMember], Once()]
    amount: ChainAmount

    rules = Rules(
        Unique("round", "member"),
        Foreign("round", "group", to=GroupRound, of=("id", "group_id")),
        Foreign("member", "group", to=GroupMember, of=("id", "group_id")),
        Check("amount", "amount > 0"),
        kept(),
        retain="savings",
    )


class Payouts(Guarded[Payout]):
    """Payouts; they are made through ``db.circles``."""

    permission = MANAGE
    instead = "db.circles.pay_out()"


class Bids(Guarded[Bid]):
    """Bids; they are made through ``db.circles``."""

    permission = MANAGE
    instead = "db.circles.bid()"
