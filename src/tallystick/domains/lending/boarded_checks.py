"""What a loan to be boarded says, checked against itself, its product and its terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from tallystick.domains.community.communities import Community
from tallystick.domains.lending.boarded_plan import Amounts, Row, plan_of, units_of
from tallystick.domains.lending.calendar import MAX_INSTALLMENTS, HolidayCalendar
from tallystick.domains.lending.checks import as_date, as_fraction, as_whole
from tallystick.domains.lending.loans import LoanStatus
from tallystick.domains.lending.products import LoanProduct
from tallystick.entity import Entity
from tallystick.errors import Duplicate, Invalid
from tallystick.fields import Ref

if TYPE_CHECKING:
    from tallystick.domains.lending.boarding import Boarding

Lends = tuple[LoanProduct, HolidayCalendar]
_MOST_RATE = 10
_S = LoanStatus


@dataclass(frozen=True, slots=True)
class Checked:
    """A boarding that holds together; amounts are minor units.

    ``paid`` is what had been paid by ``paid_on``, ``rows`` what is still owed or, written off, what was lost.
    """

    given: Boarding
    product: LoanProduct
    status: LoanStatus
    on: date
    principal: int
    paid: Amounts
    overpaid: int
    paid_on: date
    rows: tuple[Row, ...]

    @property
    def owed(self) -> Amounts:
        """Everything that the rows ask for, by component."""
        principal, interest, fees, penalties = (sum(row.amounts[part] for row in self.rows) for part in range(4))
        return principal, interest, fees, penalties


def checked(one: Boarding, product: LoanProduct, holidays: HolidayCalendar, today: date) -> Checked:
    """Check one loan and plan what is left of it. Raises ``Invalid`` and ``Unsupported``."""
    on = as_date(today if one.on is None else one.on, "on")
    _check_scalars(one)
    _check_dates(one, on)
    outstanding = units_of(one.principal_outstanding, product.asset, "principal_outstanding")
    principal = outstanding if one.principal is None else units_of(one.principal, product.asset, "principal")
    if principal < outstanding:
        raise Invalid("More principal is owed than was paid out.", field="principal_outstanding", entity="Loan")
    if not principal:
        raise Invalid(
            "Nothing was ever paid out.", field="principal", entity="Loan", remedy="Give the original principal."
        )
    paid = (
        principal - outstanding,
        units_of(one.interest_paid, product.asset, "interest_paid"),
        units_of(one.fees_paid, product.asset, "fees_paid"),
        units_of(one.penalties_paid, product.asset, "penalties_paid"),
    )
    overpaid = units_of(one.overpaid, product.asset, "overpaid")
    rows = plan_of(one, product, holidays, outstanding, principal)
    owed = sum(sum(row.amounts) for row in rows)
    status = _status_of(one, owed, overpaid)
    paid_on = min(rows[0].start, on) if rows else one.closed_on or on
    return Checked(one, product, status, on, principal, paid, overpaid, max(paid_on, one.disbursed_on), rows)


def id_of(given: Entity | Ref[Any] | UUID, kind: type[Entity], field: str) -> UUID:
    """The id of an entity, however it is named. Raises ``Invalid``."""
    if isinstance(given, UUID):
        return given
    if isinstance(given, (kind, Ref)):
        return given.id
    raise Invalid(f"A {field} is named by itself, its ref or its id.", field=field)


def community_of(one: Boarding) -> UUID | None:
    """The id of the community that a loan belongs to, if any."""
    return None if one.community is None else id_of(one.community, Community, "community")


def check_unique(values: Sequence[Any], field: str) -> None:
    """Raise ``Duplicate`` when two loans of a batch have the same value."""
    known = [value for value in values if value is not None]
    if len(set(known)) < len(known):
        raise Duplicate(f"Two loans of the batch have one {field}.", entity="Loan", rule=field)


def as_json(details: Mapping[str, Any]) -> str:
    """The details as one text. Raises ``Invalid`` for what JSON cannot hold."""
    if not isinstance(details, Mapping):
        raise Invalid("Details are a mapping.", field="details", remedy="Pass a dict of plain values.")
    try:
        return msgspec.json.encode(dict(details), order="sorted").decode()
    except (TypeError, ValueError):
        pass
    raise Invalid("The details cannot be written as JSON.", field="details", remedy="Pass a dict of plain values.")


def _check_scalars(one: Boarding) -> None:
    as_whole(one.installments, "installments", least=1, most=MAX_INSTALLMENTS)
    if one.number is not None:
        as_whole(one.number, "number", least=1, most=2**53)
    if not 0 <= as_fraction(one.annual_rate, "annual_rate") <= _MOST_RATE:
        raise Invalid(
            "The rate is below zero or above a thousand percent.",
            field="annual_rate",
            remedy="Give a fraction: Decimal('0.12') is 12 %.",
        )
    if one.external_id is not None and not (isinstance(one.external_id, str) and one.external_id.strip()):
        raise Invalid("An external id is text.", field="external_id", remedy="Leave it out where there is none.")
    as_json(one.details)


def _check_dates(one: Boarding, on: date) -> None:
    """Nothing is before the loan was paid out, and what happened is not after the day it is taken over."""
    if as_date(one.disbursed_on, "disbursed_on") > on:
        raise Invalid("The loan was paid out after it is taken over.", field="disbursed_on", entity="Loan")
    happened = {name: getattr(one, name) for name in ("closed_on", "charged_off_on", "written_off_on")}
    if one.overdue is not None:
        happened["overdue"] = one.overdue.since
    for field, day in happened.items():
        if day is not None and not one.disbursed_on <= as_date(day, field) <= on:
            raise Invalid(
                f"The {field} is before the loan was paid out or after it is taken over.", field=field, entity="Loan"
            )
    if one.overdue is not None and one.overdue.since == on:
        raise Invalid(
            "What is due on the day itself is not overdue.", field="overdue", remedy="Give it as next_due or in plan."
        )
    if one.next_due is not None and as_date(one.next_due, "next_due") <= one.disbursed_on:
        raise Invalid("An installment is due before the loan was paid out.", field="next_due", entity="Loan")


def _status_of(one: Boarding, owed: int, overpaid: int) -> LoanStatus:
    if owed and overpaid:
        raise Invalid(
            "A loan that is owed something is not overpaid.",
            field="overpaid",
            remedy="Take what was paid too much off what is owed.",
        )
    status = _S.ACTIVE if owed else _S.OVERPAID if overpaid else _S.CLOSED
    if one.written_off_on is not None:
        if not owed:
            raise Invalid("Nothing was lost that could be written off.", field="written_off_on", entity="Loan")
        status = _S.WRITTEN_OFF
    if one.closed_on is not None and status is not _S.CLOSED:
        raise Invalid("A loan with a closed_on owes nothing and is owed nothing.", field="closed_on", entity="Loan")
    if one.charged_off_on is not None and status not in (_S.ACTIVE, _S.WRITTEN_OFF):
        raise Invalid("Only a loan that is owed is charged off.", field="charged_off_on", entity="Loan")
    if one.status is not None and one.status is not status:
        raise Invalid(
            f"By its amounts the loan is {status.value}.",
            field="status",
            entity="Loan",
            remedy="Correct the status or the amounts; late and defaulted are not statuses.",
        )
    return status
