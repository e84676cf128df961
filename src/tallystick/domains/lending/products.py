"""Loan products: what may be lent and by which rules. A product never changes; a change makes a new edition."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec

from tallystick.domains.lending.books import open_books
from tallystick.domains.lending.calendar import EVERY_DAY, HolidayCalendar
from tallystick.domains.lending.checks import Exact, as_fraction, as_whole
from tallystick.domains.lending.servicing import Servicing
from tallystick.domains.lending.terms import Terms
from tallystick.entity import Entity, with_fields
from tallystick.errors import Invalid
from tallystick.fields import Length, Once, Rate, Ref
from tallystick.ids import NIL, uuid7
from tallystick.money import Money
from tallystick.repository import Repository
from tallystick.rules import Check, Readable, Rules, Unique, kept

if TYPE_CHECKING:
    from tallystick.session import Session


class BusinessCalendar(Entity):
    """The days on which a tenant does no business: weekdays (Monday 1 to Sunday 7) and holidays.

    Schedules made before a change keep their dates.
    """

    code: Annotated[str, Length(40, min=1), Once()]
    weekend: list[int] = msgspec.field(default_factory=list)
    holidays: list[date] = msgspec.field(default_factory=list)

    rules = Rules(
        Unique("code"),
        retain="lending",
        readable={"code": Readable.CODE, "weekend": Readable.TERMS, "holidays": Readable.TERMS},
    )

    @property
    def days_off(self) -> HolidayCalendar:
        """The calendar as schedules use it. Raises ``Invalid`` for a week without business days."""
        return HolidayCalendar(frozenset(self.weekend), frozenset(self.holidays))


class LoanProduct(Entity):
    """What may be lent: amounts, rates, numbers of installments, and the policies, all as data.

    Nothing but ``active`` ever changes, so a loan always shows the policies it was made with; ``products.revise``
    makes the next ``edition`` of the same ``code``. The largest amount, the rate and the installments default to the
    ``default_...`` fields. Rates are nominal, a year, as fractions.
    """

    code: Annotated[str, Length(60, min=1), Once()]
    edition: Annotated[int, Once()] = 1
    name: Annotated[str, Length(200, min=1), Once()]
    min_principal: Annotated[Money, Once()]
    max_principal: Annotated[Money, Once()]
    min_rate: Annotated[Rate, Once()] = Decimal(0)
    default_rate: Annotated[Rate, Once()]
    max_rate: Annotated[Rate, Once()] = Decimal(10)
    min_installments: Annotated[int, Once()] = 1
    default_installments: Annotated[int, Once()]
    max_installments: Annotated[int, Once()] = 3660
    terms: Annotated[Terms, Once()]
    servicing: Annotated[Servicing, Once()] = msgspec.field(default_factory=Servicing)
    calendar: Annotated[Ref[BusinessCalendar] | None, Once()] = None
    active: bool = True

    rules = Rules(
        Unique("code", "edition"),
        Unique("code", where="active"),
        Check("edition", "edition >= 1"),
        Check("principal", "0 < min_principal and min_principal <= max_principal"),
        Check("rate", "0 <= min_rate and min_rate <= default_rate and default_rate <= max_rate"),
        Check(
            "installments",
            "1 <= min_installments and min_installments <= default_installments "
            "and default_installments <= max_installments and max_installments <= 3660",
        ),
        kept(),
        retain="lending",
        readable={"code": Readable.CODE, "name": Readable.CODE, "terms": Readable.TERMS, "servicing": Readable.TERMS},
    )

    @property
    def asset(self) -> str:
        """The asset that is lent."""
        return self.min_principal.asset


class Products(Repository[LoanProduct]):
    """The tenant's loan products."""

    async def add(self, entity: LoanProduct) -> LoanProduct:
        """Store a product and open the accounts that its loans post to, where they are not open yet."""
        async with self.db.transaction():
            added = await super().add(entity)
            await open_books(self.db, added.asset)
            return added

    async def current(self, code: str) -> LoanProduct:
        """The edition of a product that new loans use. Raises ``NotFound``."""
        return await self.one(LoanProduct.code == code, LoanProduct.active == True)  # noqa: E712  a condition

    async def revise(self, product: LoanProduct | UUID, **changes: Any) -> LoanProduct:
        """Make the next edition of a product and retire this one; loans made with it keep it.

        Raises ``Conflict`` when it was revised already, ``Invalid`` for fields that are not policies.
        """
        fixed = {"id", "tenant_id", "code", "edition", "active", "version"} & changes.keys()
        if fixed or not changes.keys() <= set(LoanProduct.__struct_fields__):
            raise Invalid(
                "A new edition changes policies only.", field=min(fixed or changes)[:40], entity="LoanProduct"
            )
        async with self.db.transaction():
            before = await self.lock(product if isinstance(product, UUID) else product.id)
            if not before.active:
                raise Invalid(
                    "Only the current edition of a product is revised.",
                    entity="LoanProduct",
                    remedy="Use products.current(code).",
                )
            await self.update(before, active=False)
            fresh = with_fields(
                before, id=uuid7(), tenant_id=NIL, edition=before.edition + 1, active=True, version=1, **changes
            )
            return await self.add(fresh)

    async def calendar_of(self, product: LoanProduct) -> HolidayCalendar:
        """The days off of a product's calendar; none where it has no calendar."""
        if product.calendar is None:
            return EVERY_DAY
        return (await self.db[BusinessCalendar].get(product.calendar.id)).days_off


_MOST_KNOWN = 1_000
_known: dict[tuple[UUID, UUID], LoanProduct] = {}


async def policies(db: Session, product: UUID) -> LoanProduct:
    """A product for its policies, which never change and are read once a process; ``active`` may be out of date."""
    found = _known.get((db.tenant_id, product))
    if found is None:
        found = await db[LoanProduct].get(product)
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[db.tenant_id, product] = found
    return found


def chosen(
    product: LoanProduct, principal: Money, annual_rate: Exact | None, installments: int | None
) -> tuple[Decimal, int]:
    """The rate and number of installments of a new loan, by the product where they are not given.

    Raises ``Invalid`` for an inactive product, another asset, and what is out of the product's bounds.
    """
    if not product.active:
        raise Invalid("The product is retired.", field="product", remedy="Use products.current(code).")
    if principal.__class__ is not Money or principal.asset != product.asset:
        raise Invalid(
            f"The product lends {product.asset}.",
            field="principal",
            remedy=f'Give Money of it: money("100", "{product.asset}"); floats are refused.',
        )
    if not product.min_principal <= principal <= product.max_principal:
        raise Invalid(
            f"The product lends {product.min_principal} to {product.max_principal}.",
            field="principal",
            remedy="Ask for an amount within those bounds.",
        )
    rate = product.default_rate if annual_rate is None else annual_rate
    exact = as_fraction(rate, "annual_rate")
    if not as_fraction(product.min_rate, "annual_rate") <= exact <= as_fraction(product.max_rate, "annual_rate"):
        raise Invalid(
            f"The product's rate is {product.min_rate} to {product.max_rate} a year.",
            field="annual_rate",
            remedy="Give a fraction within those bounds: Decimal('0.12') is 12 %.",
        )
    count = product.default_installments if installments is None else installments
    as_whole(count, "installments", least=product.min_installments, most=product.max_installments)
    stored = rate if isinstance(rate, Decimal) else Decimal(exact.numerator) / Decimal(exact.denominator)
    return stored, count
