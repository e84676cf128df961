"""Servicing: the policies of a loan product that decide what happens after the money was paid out, as data."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from tallystick.domains.identity.consents import Purpose
from tallystick.domains.lending.checks import as_fraction, as_member, as_whole
from tallystick.errors import Invalid
from tallystick.money import Rounding

__all__ = [
    "AllocationStyle",
    "ChargeBasis",
    "ChargeKind",
    "Component",
    "FeeRule",
    "FutureAllocation",
    "LateFee",
    "Overpayment",
    "Servicing",
    "Timing",
]


class Component(StrEnum):
    """What a part of a payment goes to."""

    PENALTY = "penalty"
    FEE = "fee"
    INTEREST = "interest"
    PRINCIPAL = "principal"


class Timing(StrEnum):
    """Where an installment stands on the date of a payment: due before it, on it, or after it."""

    PAST_DUE = "past_due"
    DUE = "due"
    IN_ADVANCE = "in_advance"


class AllocationStyle(StrEnum):
    """Whether one installment is served after the other, or one component after the other."""

    BY_INSTALLMENT = "by_installment"
    BY_COMPONENT = "by_component"


class FutureAllocation(StrEnum):
    """Which installments a payment in advance goes to."""

    NEXT_INSTALLMENT = "next_installment"
    LAST_INSTALLMENT = "last_installment"
    REAMORTIZE = "reamortize"
    """All of them, in equal parts."""


class Overpayment(StrEnum):
    """What becomes of more than is owed."""

    KEEP = "keep"
    """It is owed to the borrower until it is refunded."""
    REFUSE = "refuse"


class ChargeKind(StrEnum):
    """What is added to what an installment owes after the schedule was made."""

    FEE = "fee"
    PENALTY = "penalty"
    CHARGEBACK = "chargeback"
    """Principal of a payment that the payer's bank took back."""


class ChargeBasis(StrEnum):
    """What a charge is reckoned from."""

    FLAT = "flat"
    PERCENT_OF_PRINCIPAL = "percent_of_principal"
    """Of the amount paid out."""
    PERCENT_OF_OVERDUE = "percent_of_overdue"
    """Of what the late installment still owes, charges left out."""


class FeeRule(Struct, frozen=True, kw_only=True):
    """A fee of a product: ``amount`` in whole units of the asset, or ``percent`` as a fraction of the basis.

    ``upfront`` fees are kept back when the money is paid out, in proportion to each tranche where they are a percent
    of it; the others are added to every installment.
    """

    code: str
    basis: ChargeBasis = ChargeBasis.FLAT
    amount: Decimal | None = None
    percent: Decimal | None = None
    upfront: bool = True

    def __post_init__(self) -> None:
        as_member(self.basis, ChargeBasis, "basis")
        _reckoned(self.basis, self.amount, self.percent)
        if self.basis is ChargeBasis.PERCENT_OF_OVERDUE:
            raise Invalid("A fee is not reckoned from what is overdue.", field="basis", remedy="Use a LateFee.")
        if not isinstance(self.code, str) or not 1 <= len(self.code) <= 40:
            raise Invalid("A fee has a code of 1 to 40 characters.", field="code")


class LateFee(Struct, frozen=True, kw_only=True):
    """A penalty for an installment that is unpaid ``after_days`` days after it was due, charged once for each."""

    after_days: int
    basis: ChargeBasis = ChargeBasis.FLAT
    amount: Decimal | None = None
    percent: Decimal | None = None

    def __post_init__(self) -> None:
        as_whole(self.after_days, "after_days", least=1, most=3660)
        as_member(self.basis, ChargeBasis, "basis")
        _reckoned(self.basis, self.amount, self.percent)


def _reckoned(basis: ChargeBasis, amount: Decimal | None, percent: Decimal | None) -> None:
    flat = basis is ChargeBasis.FLAT
    given, other = (amount, percent) if flat else (percent, amount)
    if given is None or other is not None or as_fraction(given, "amount" if flat else "percent") <= 0:
        raise Invalid(
            "A charge has an amount when it is flat and a percent otherwise, above zero.",
            field="amount" if flat else "percent",
            remedy='Write amount=Decimal("15"), or percent=Decimal("0.05") for 5 %.',
        )


PENALTIES_FIRST = (Component.PENALTY, Component.FEE, Component.INTEREST, Component.PRINCIPAL)
"""The order that most lenders' contracts name."""
DEFAULT_ORDER = tuple(f"{timing.value}_{part.value}" for timing in Timing for part in PENALTIES_FIRST)
NOT_YET_DUE = ("not_due_penalty", "not_due_fee")
"""Charges of an installment paid in advance whose own due date is after the payment."""


class Servicing(Struct, frozen=True, kw_only=True):
    """What happens to payments, and when a loan counts as late.

    ``allocation_order`` is the twelve pairs of ``Timing`` and ``Component``, each once ("past_due_penalty", ...). With
    "not_due_penalty" and "not_due_fee" anywhere after "in_advance_penalty" and "in_advance_fee", a payment in advance
    settles charges that are not due yet at that place of the order and the others where "in_advance_..." stands.
    ``arrears_grace_days`` are not counted as late at the beginning of each arrears; ``arrears_tolerance``, in whole
    units, is the most that may be unpaid without counting as late. ``non_performing_days`` is from when a loan counts
    as non-performing.
    """

    allocation_order: tuple[str, ...] = DEFAULT_ORDER
    allocation_style: AllocationStyle = AllocationStyle.BY_INSTALLMENT
    future_allocation: FutureAllocation = FutureAllocation.NEXT_INSTALLMENT
    goodwill_allocation: FutureAllocation | None = None
    """Where a goodwill payment in advance goes, where that is another installment than a payment's."""
    overpayment: Overpayment = Overpayment.KEEP
    auto_down_payment: bool = False
    """Whether the down payment of a tranche comes in with its payout, as a transaction of its own."""
    arrears_grace_days: int = 0
    arrears_tolerance: Decimal = Decimal(0)
    non_performing_days: int = 90
    fees: tuple[FeeRule, ...] = ()
    late_fee: LateFee | None = None
    charge_rounding: Rounding = Rounding.HALF_EVEN
    lenders_interest: Decimal = Decimal(1)
    """The part of the interest that goes to those who funded the loan, as a fraction."""
    consents: tuple[Purpose, ...] = ()
    """What a borrower must have agreed to before a loan is asked for in their name."""

    def __post_init__(self) -> None:
        order = self.allocation_order
        if sorted(order) not in (sorted(DEFAULT_ORDER), sorted(DEFAULT_ORDER + NOT_YET_DUE)):
            raise Invalid(
                "An allocation order names each timing with each component, once.",
                field="allocation_order",
                remedy=f"It is a permutation of: {', '.join(DEFAULT_ORDER)}; with {' and '.join(NOT_YET_DUE)} or not.",
            )
        for later in NOT_YET_DUE:
            if later in order and order.index(later) < order.index(later.replace("not_due", "in_advance")):
                raise Invalid(
                    "Charges that are not due come before those that are.",
                    field="allocation_order",
                    remedy=f"Put {later} after {later.replace('not_due', 'in_advance')}.",
                )
        if self.auto_down_payment.__class__ is not bool:
            raise Invalid("The down payment comes with the payout or not.", field="auto_down_payment")
        as_member(self.allocation_style, AllocationStyle, "allocation_style")
        as_member(self.future_allocation, FutureAllocation, "future_allocation")
        if self.goodwill_allocation is not None:
            as_member(self.goodwill_allocation, FutureAllocation, "goodwill_allocation")
        as_member(self.overpayment, Overpayment, "overpayment")
        as_member(self.charge_rounding, Rounding, "charge_rounding")
        as_whole(self.arrears_grace_days, "arrears_grace_days", least=0, most=3660)
        as_whole(self.non_performing_days, "non_performing_days", least=1, most=3660)
        if as_fraction(self.arrears_tolerance, "arrears_tolerance") < 0:
            raise Invalid("A tolerance is zero or more.", field="arrears_tolerance")
        if not 0 <= as_fraction(self.lenders_interest, "lenders_interest") <= 1:
            raise Invalid("The lenders' part of the interest is 0 to 1.", field="lenders_interest")
        codes = [fee.code for fee in self.fees]
        if len(set(codes)) < len(codes):
            raise Invalid("Two fees have one code.", field="fees")
