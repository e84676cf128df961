"""Savings groups: what their members agreed to, and where the group stands."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from tallystick.domains.identity.users import User
from tallystick.entity import Entity
from tallystick.errors import Invalid
from tallystick.fields import ChainAmount, Length, Maintained, Once, Ref
from tallystick.money import Money
from tallystick.rules import Check, Guard, Index, Readable, Rules, Transitions, Unique, kept

MOST_MEMBERS = 100
MANAGE = "circles.manage"
"""The permission to act for others in every group of the tenant."""


class OrderKind(StrEnum):
    """Who receives the pot of which round.

    ``fixed`` is agreed before the start; ``random`` is drawn from a seed whose hash was published before anybody
    joined; in ``bidding`` who asks for the least of the pot receives it, and the rest goes to all. In ``none`` nobody
    receives a pot: members save any amounts and take out their own.
    """

    FIXED = "fixed"
    RANDOM = "random"
    BIDDING = "bidding"
    NONE = "none"


class GroupStatus(StrEnum):
    """Where a group is in its life; members come and go while it is ``recruiting`` only."""

    RECRUITING = "recruiting"
    READY = "ready"
    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DISSOLVED = "dissolved"


_S = GroupStatus
TERMS = (
    "asset",
    "contribution_amount",
    "frequency_days",
    "max_members",
    "order_kind",
    "seed_hash",
    "bid_floor_bps",
    "grace_days",
    "late_fee",
    "collateral_required",
    "service_fee_bps",
    "mirrored",
)
"""What members agreed to; it can change while a group recruits."""


_SETTLED = ("rounds", "started_on", "seed")


def _row(side: str, columns: tuple[str, ...]) -> str:
    return "(" + ", ".join(f"{side}.{column}" for column in columns) + ")"


class SavingsGroup(Entity):
    """A rotating savings group (ROSCA: ajo, susu, tanda) and its terms, which are frozen once it stops recruiting.

    Amounts are minor units of ``asset``, up to 2^256-1. A ``mirrored`` group's money is held by a contract on a chain:
    rows follow what happened there, and nothing is posted to the ledger. ``chain_id``, ``contract`` and
    ``external_id`` say which group of which contract it is. Fees are basis points, rounded down.
    """

    name: Annotated[str, Length(200, min=1)]
    organizer: Annotated[Ref[User], Once()] | None = None
    chain_id: Annotated[int, Once()] | None = None
    contract: Annotated[bytes, Once()] | None = None
    external_id: Annotated[str, Length(80, min=1), Once()] | None = None
    asset: Annotated[str, Length(32, min=2)]
    contribution_amount: ChainAmount
    frequency_days: int
    max_members: int
    order_kind: OrderKind = OrderKind.FIXED
    seed_hash: bytes | None = None
    seed: bytes | None = None
    bid_floor_bps: int = 0
    grace_days: int = 0
    late_fee: ChainAmount = 0
    collateral_required: ChainAmount = 0
    service_fee_bps: int = 0
    mirrored: bool = False
    status: GroupStatus = GroupStatus.RECRUITING
    rounds: int = 0
    current_round: int = 0
    started_on: date | None = None
    ended_on: date | None = None
    members: Annotated[int, Maintained()] = 0

    rules = Rules(
        Unique("chain_id", "contract", "external_id"),
        Index("status", "created_at", query="groups of a status, newest first"),
        Check("contribution", "contribution_amount > 0 or order_kind = 'none'"),
        Check("frequency", "frequency_days between 1 and 3660"),
        Check("max_members", f"max_members >= 2 and (order_kind = 'none' or max_members <= {MOST_MEMBERS})"),
        Check("full", "members between 0 and max_members"),
        Check("grace", "grace_days between 0 and 3660"),
        Check("service_fee", "service_fee_bps between 0 and 10000"),
        Check("bid_floor", "bid_floor_bps between 0 and 10000 and (bid_floor_bps = 0 or order_kind = 'bidding')"),
        Check("commitment", "(order_kind = 'random') = (seed_hash is not null)"),
        Check("seed", "seed is null or sha256(seed) = seed_hash"),
        Check("drawn", "order_kind <> 'random' or started_on is null or seed is not null"),
        Check("chain", "(chain_id is null) = (contract is null) and (chain_id is null) = (external_id is null)"),
        Check("mirror", "not mirrored or chain_id is not null"),
        Check("contract", "contract is null or octet_length(contract) between 20 and 64"),
        Check("round", "current_round between 0 and rounds"),
        Check("started", "started_on is not null or status in ('recruiting', 'ready', 'cancelled')"),
        Check("ended", "(status in ('completed', 'cancelled', 'dissolved')) = (ended_on is not null)"),
        Transitions(
            "status",
            {
                _S.RECRUITING: [_S.READY, _S.CANCELLED],
                _S.READY: [_S.ACTIVE, _S.CANCELLED],
                _S.ACTIVE: [_S.COMPLETED, _S.PAUSED, _S.DISSOLVED],
                _S.PAUSED: [_S.ACTIVE, _S.DISSOLVED],
            },
            initial=[_S.RECRUITING],
        ),
        Guard(
            "tally_terms",
            "BEFORE UPDATE",
            "tally.circle_terms('savings_group')",
            when=(
                f"(old.status <> 'recruiting' and {_row('old', TERMS)} is distinct from {_row('new', TERMS)}) or "
                f"(old.started_on is not null and {_row('old', _SETTLED)} is distinct from {_row('new', _SETTLED)})"
            ),
        ),
        kept(),
        retain="savings",
        readable={
            "name": Readable.CODE,
            "contract": Readable.DIGEST,
            "external_id": Readable.CODE,
            "asset": Readable.CODE,
            "seed_hash": Readable.DIGEST,
            "seed": Readable.DIGEST,
        },
    )

    @property
    def pot(self) -> Money:
        """What everybody's contribution to one round comes to."""
        return self.money(self.contribution_amount * (self.rounds or self.members))

    def money(self, units: int) -> Money:
        """Units of the group's asset as money."""
        return Money(units, self.asset)

    def units(self, amount: object, field: str = "amount") -> int:
        """Money of the group's asset as units. Raises ``Invalid`` for anything else."""
        if not isinstance(amount, Money) or amount.asset != self.asset or amount.units < 0:
            raise Invalid(
                f"The {field} is not money of the group's asset.",
                entity="SavingsGroup",
                field=field,
                remedy=f"Give Money of {self.asset}, not below zero; never a float.",
            )
        return amount.units

    def fee(self, units: int) -> int:
        """The service fee of an amount, rounded down."""
        return units * self.service_fee_bps // 10_000
