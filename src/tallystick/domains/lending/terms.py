"""Terms: the policies of a loan product that decide its schedule, as data."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from msgspec import Struct

from tallystick.domains.lending.calendar import MAX_INSTALLMENTS, BusinessDay, Frequency, MonthEnd
from tallystick.domains.lending.checks import as_fraction, as_member, as_whole
from tallystick.domains.lending.daycount import DayCount
from tallystick.errors import Invalid, Unsupported
from tallystick.money import Rounding

__all__ = ["Amortization", "EmiAdjustment", "InterestCalc", "InterestMethod", "Terms"]


class InterestMethod(StrEnum):
    """What interest is charged on."""

    FLAT = "flat"
    """On the amount lent, for the whole term, whatever has been repaid."""
    DECLINING_BALANCE = "declining_balance"
    """On the principal that is still owed."""


class Amortization(StrEnum):
    """How the principal comes back."""

    EQUAL_INSTALLMENTS = "equal_installments"
    EQUAL_PRINCIPAL = "equal_principal"
    BULLET = "bullet"
    """Principal and all interest in one payment at the end."""
    INTEREST_ONLY = "interest_only"
    """Interest every period, the principal with the last."""


class InterestCalc(StrEnum):
    """What the interest of a period is a part of a year of."""

    DAILY = "daily"
    """The days of the period, after the day count."""
    PER_PERIOD = "per_period"
    """The repayment interval, whatever its days: 1/12 a month, 1/52 a week, 1/360 to 1/365 a day."""


class EmiAdjustment(StrEnum):
    """Whether the level installment is changed so that the last differs less from the others."""

    NONE = "none"
    PROGRESSIVE = "progressive"
    """When the last differs by more minor units than half the number of installments, try the level plus the
    difference divided by that number, and keep it when the last then differs less."""


class Terms(Struct, frozen=True, kw_only=True):
    """The policies that decide a schedule; the amount, the rate and the dates come with the loan.

    ``rounding`` makes interest and principal whole minor units; ``installment_rounding`` (default: the same) is for
    the level installment, the principal share, the down payment and the multiple. ``installment_multiple``, in whole
    units of the asset, applies to equal installments and the down payment only. The graces count installments from
    the first: ``grace_principal`` without principal, ``grace_interest`` with interest that is paid later,
    ``interest_free`` with interest that is never charged. ``principal_share`` and ``down_payment`` are fractions of
    the amount lent: the first fixes each installment's principal and leaves the rest to the last.

    Raises ``Invalid`` for values of the wrong type or out of range and ``Unsupported`` for policies that contradict
    each other.
    """

    interest_method: InterestMethod
    amortization: Amortization
    interest_calc: InterestCalc
    day_count: DayCount
    frequency: Frequency
    every: int = 1
    grace_principal: int = 0
    grace_interest: int = 0
    interest_free: int = 0
    rounding: Rounding = Rounding.HALF_EVEN
    installment_rounding: Rounding | None = None
    installment_multiple: Decimal | None = None
    emi_adjustment: EmiAdjustment = EmiAdjustment.PROGRESSIVE
    principal_share: Decimal | None = None
    down_payment: Decimal | None = None
    month_end: MonthEnd = MonthEnd.SAME_DAY
    business_day: BusinessDay = BusinessDay.UNADJUSTED
    accrue_to_due: bool = True
    """Whether interest runs to the day that a due date was moved to, or to the date before it was moved."""

    def __post_init__(self) -> None:
        as_member(self.interest_method, InterestMethod, "interest_method")
        as_member(self.amortization, Amortization, "amortization")
        as_member(self.interest_calc, InterestCalc, "interest_calc")
        as_member(self.day_count, DayCount, "day_count")
        as_member(self.frequency, Frequency, "frequency")
        as_member(self.rounding, Rounding, "rounding")
        as_member(self.emi_adjustment, EmiAdjustment, "emi_adjustment")
        as_member(self.month_end, MonthEnd, "month_end")
        as_member(self.business_day, BusinessDay, "business_day")
        if self.installment_rounding is not None:
            as_member(self.installment_rounding, Rounding, "installment_rounding")
        as_whole(self.every, "every", least=1, most=MAX_INSTALLMENTS)
        for field in ("grace_principal", "grace_interest", "interest_free"):
            as_whole(getattr(self, field), field, least=0, most=MAX_INSTALLMENTS - 1)
        if self.accrue_to_due.__class__ is not bool:
            raise Invalid(
                "Interest runs to the moved date or not.", field="accrue_to_due", remedy="Pass True or False."
            )
        multiple = self.installment_multiple
        if multiple is not None and as_fraction(multiple, "installment_multiple") <= 0:
            raise Invalid(
                "Installments cannot be multiples of nothing.",
                field="installment_multiple",
                remedy="Give an amount above zero in whole units, or None.",
            )
        for field in ("principal_share", "down_payment"):
            share = getattr(self, field)
            if share is not None and not 0 < as_fraction(share, field) < 1:
                raise Invalid(
                    f"The {field} is not a part of the amount lent.",
                    field=field,
                    remedy="Give a fraction between 0 and 1, for example Decimal('0.05'), or None.",
                )
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        graced = self.grace_principal or self.grace_interest or self.interest_free
        if self.amortization is Amortization.BULLET and graced:
            raise Unsupported("A bullet loan has one installment and no grace.", remedy="Use a later due date.")
        if self.amortization is Amortization.INTEREST_ONLY and self.grace_principal:
            raise Unsupported(
                "An interest-only loan repays no principal before the end anyway.", remedy="Set grace_principal to 0."
            )
        if self.principal_share is not None and self.amortization is not Amortization.EQUAL_PRINCIPAL:
            raise Unsupported(
                "A fixed share of principal contradicts the amortization.",
                remedy="Use Amortization.EQUAL_PRINCIPAL with principal_share.",
            )

    @property
    def level_rounding(self) -> Rounding:
        """The rounding of installments."""
        return self.installment_rounding or self.rounding

    def interval_fraction(self) -> Fraction:
        """The part of a year that one whole repayment interval counts as, where its days do not matter.

        12 months, 52 weeks or the day count's days make a year per period (Apache Fineract's
        ``DefaultPaymentPeriodsInOneYearCalculator``). For 30/360 by day a month has 30 days and a week 7.
        """
        if self.frequency is Frequency.MONTHS:
            return Fraction(self.every, 12)
        if self.frequency is Frequency.WEEKS:
            daily = self.interest_calc is InterestCalc.DAILY
            return Fraction(7 * self.every, 360) if daily else Fraction(self.every, 52)
        return Fraction(self.every, self.day_count.year_days)
