"""One value of one field, checked and turned into what the database's driver takes.

The checks are here rather than in the entity's constructor because decoding from the database builds entities by
the thousand and needs none of them; a value is checked once, on its way to a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from tallystick.documents import written
from tallystick.errors import Invalid, WrongTenant
from tallystick.fields import Ref
from tallystick.ids import NIL
from tallystick.money import LEDGER_MAX, Money
from tallystick.spec import FieldSpec, Kind

R = TypeVar("R")
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
CHAIN_CEILING = 2**256
_INFINITIES = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
_INFINITE_DAYS = (date.min, date.max)
_EDGES = (1, 9999)
_EXPECTED = {
    Kind.TEXT: "str",
    Kind.INTEGER: "int",
    Kind.BOOLEAN: "bool",
    Kind.UUID: "UUID",
    Kind.TIMESTAMP: "datetime",
    Kind.DATE: "date",
    Kind.DECIMAL: "Decimal",
    Kind.ENUM: "its enum",
    Kind.JSON: "a document",
    Kind.BYTES: "bytes",
    Kind.MONEY: "Money",
    Kind.CHAIN: "int",
    Kind.LEDGER: "int",
    Kind.REF: "Ref",
    Kind.SECRET: "Secret",
    Kind.PERSONAL: "text",
}
_REMEDY = "Convert it first: nothing is converted, cut or rounded silently."


def wrong(field: FieldSpec, problem: str = "", remedy: str = "") -> Invalid:
    """The error for a value that does not fit its field; it never shows the value."""
    said = problem or f"should be {_EXPECTED[field.kind]}"
    return Invalid(f"{field.name} {said}.", field=field.name, remedy=remedy or _REMEDY)


def moved(field: FieldSpec) -> Invalid:
    """The error for a sealed value that was read from another row."""
    return wrong(
        field,
        "is sealed for the row it was read from",
        "Reveal it with a reason and seal the value anew; ciphertext does not move between rows.",
    )


def elsewhere(name: str, entity: Any) -> Exception:
    """The error for an entity that is not stored for the session's tenant."""
    if entity.tenant_id == NIL:
        return Invalid(
            f"This {name} was not stored yet.", entity=name, remedy="Use the entity that add() or get() answered."
        )
    return WrongTenant(f"The {name} belongs to another tenant than the session.")


def text(field: FieldSpec, value: Any) -> str:
    """A text within its length, without NUL."""
    if not isinstance(value, str):
        raise wrong(field)
    if field.max_length is not None and len(value) > field.max_length:
        raise wrong(field, f"is longer than {field.max_length} characters")
    if len(value) < field.min_length:
        raise wrong(field, f"is shorter than {field.min_length} characters")
    if "\0" in value:
        raise wrong(field, "holds a NUL character", "PostgreSQL text cannot hold NUL; use bytes.")
    if not value.isascii() and not _is_unicode(value):
        raise wrong(field, "is not valid Unicode text", "Decode it with the right encoding; lone surrogates are none.")
    return value if value.__class__ is str else str.__str__(value)


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def integer(field: FieldSpec, value: Any) -> int:
    """An integer that fits bigint."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(field)
    if not INT_MIN <= value <= INT_MAX:
        raise wrong(field, "does not fit 64 bits", "Use ChainAmount for larger quantities.")
    return value


def timestamp(field: FieldSpec, value: Any) -> datetime:
    """A moment with a time zone."""
    if not isinstance(value, datetime):
        raise wrong(field)
    if value.tzinfo is not UTC and (value.tzinfo is None or value.utcoffset() is None):
        raise wrong(field, "is a datetime without a time zone", "Use datetime.now(UTC) or attach tzinfo.")
    if value.year in _EDGES and not _is_utc_moment(value):
        raise wrong(field, "is not within the years 1 to 9999 in UTC", "Use None for a moment that is not known.")
    return value


def _is_utc_moment(value: datetime) -> bool:
    try:
        # The first and the last moment are what the driver takes for the infinities, and reads back without a zone.
        return value.astimezone(UTC) not in _INFINITIES
    except OverflowError:
        return False


def day(field: FieldSpec, value: Any) -> date:
    """A date that is not a datetime."""
    if not isinstance(value, date) or isinstance(value, datetime):
        raise wrong(field)
    if value in _INFINITE_DAYS:
        raise wrong(field, "is the first or the last day of the calendar", "Use None for a day that never comes.")
    return value


def decimal(field: FieldSpec, value: Any) -> Decimal:
    """A finite Decimal within the declared digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    if not isinstance(value, Decimal):
        raise wrong(field)
    if not value.is_finite():
        raise wrong(field, "is not a finite number")
    scale, precision = field.scale or 0, field.precision or 38
    _, digits, exponent = value.as_tuple()
    # By its digits, because arithmetic rounds at the context's 28.
    if isinstance(exponent, int) and -exponent > scale and any(digits[max(0, len(digits) + exponent + scale) :]):
        raise wrong(field, f"has more than {scale} decimals", "Round it where the rule for rounding is known.")
    if value and value.adjusted() >= precision - scale:
        raise wrong(field, f"has more than {precision - scale} digits before the point")
    return value


def chain(field: FieldSpec, value: Any) -> Decimal:
    """An on-chain quantity: uint256 as an exact numeric."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(field)
    if not 0 <= value < CHAIN_CEILING:
        raise wrong(field, "is not between 0 and 2^256-1")
    return Decimal(value)


def ledger(field: FieldSpec, value: Any) -> Decimal:
    """Minor units of the ledger as an exact numeric."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(field)
    if not -LEDGER_MAX <= value <= LEDGER_MAX:
        raise wrong(field, "has more than 38 digits", "The ledger keeps up to 10^38-1 minor units in one amount.")
    return Decimal(value)


def member(field: FieldSpec, value: Any) -> str:
    """The text of an enum's member; what is written must be one, or the entity that comes back would hold text."""
    if not isinstance(value, field.python) or value not in field.members:
        raise wrong(field, f"should be a {field.python.__name__}", f"Write {field.python.__name__}(...).")
    return str(value.value)


def state(field: FieldSpec, value: Any) -> str:
    """The text of an enum's member, or a text that is one: what a condition asks for."""
    if isinstance(value, str) and (isinstance(value, field.python) or not isinstance(value, Enum)):
        found = next((m for m in field.members if m.value == value), None)
        if found is not None:
            return str(found.value)
    raise wrong(field, f"should be one of {', '.join(str(m.value) for m in field.members)}")


def document(field: FieldSpec, value: Any) -> str:
    """A JSON document as text."""
    text, problem = written(value, field.python)
    if problem:
        raise wrong(field, problem, "Build it of text, bool, None, finite numbers, lists and dicts with text keys.")
    return text


def part(field: FieldSpec, value: Any) -> str:
    """What a JSON document is asked to contain, which need not be a whole one."""
    text, problem = written(value, Any)
    if problem:
        raise wrong(field, problem, "Write contains(field, {...}).")
    return text


def money(field: FieldSpec, value: Any) -> Money:
    """An amount whose minor units fit bigint."""
    if value.__class__ is not Money:
        raise wrong(field, "should be Money", 'Write usd("12.50") or money("12.50", "USD"); never a float.')
    if not INT_MIN <= value.units <= INT_MAX:
        raise wrong(field, "does not fit 64 bits of minor units", "Use ChainAmount for token quantities.")
    return value


def reference(field: FieldSpec, value: Any, tenant: UUID) -> UUID:
    """The id of a reference. A loaded one that is visibly another tenant's raises ``WrongTenant``."""
    loaded = value.loaded if isinstance(value, Ref) else value
    target = getattr(loaded, "tenant_id", None)
    if isinstance(target, UUID) and target not in (NIL, tenant):
        raise WrongTenant(f"{field.name} refers to an entity of another tenant.")
    if target is not None and not isinstance(loaded, field.inner):
        raise wrong(field, f"refers to a {type(loaded).__name__} and should refer to a {field.inner.__name__}")
    found = value if isinstance(value, UUID) else getattr(value, "id", None)
    if not isinstance(found, UUID):
        raise wrong(field, "should be a reference", f"Use Ref(id) or {field.inner.__name__.lower()}.ref.")
    return found


def plain(field: FieldSpec, value: Any, tenant: UUID) -> Any:
    """The driver's value of any field that is neither sealed nor money."""
    kind = field.kind
    if kind is Kind.UUID:
        if not isinstance(value, UUID):
            raise wrong(field)
        return value
    if kind is Kind.REF:
        return reference(field, value, tenant)
    if kind is Kind.BOOLEAN:
        if value.__class__ is not bool:
            raise wrong(field)
        return value
    if kind is Kind.BYTES:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise wrong(field)
        return bytes(value)
    return _CHECKS[kind](field, value)


_CHECKS: dict[Kind, Any] = {
    Kind.TEXT: text,
    Kind.INTEGER: integer,
    Kind.TIMESTAMP: timestamp,
    Kind.DATE: day,
    Kind.DECIMAL: decimal,
    Kind.CHAIN: chain,
    Kind.LEDGER: ledger,
    Kind.ENUM: state,
    Kind.JSON: document,
}


def whole_numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with whole numerics as ints: PostgreSQL's sum of a bigint is numeric, and its reader wrote ``int``."""
    return {name: int(value) if _is_whole(value) else value for name, value in row.items()}


def rows_into(rows: list[Mapping[str, Any]], into: type[R]) -> list[R]:
    """Rows of a statement as what was asked for. Raises ``Invalid`` where they do not fit."""
    if into is dict:
        return rows  # type: ignore[return-value]
    try:
        return [msgspec.convert(whole_numbers(row), into, strict=False, from_attributes=False) for row in rows]
    except (msgspec.ValidationError, TypeError):
        pass
    raise Invalid(
        f"The rows do not fit {getattr(into, '__name__', 'what was given as into')}.",
        remedy="Label the columns with its field names and "
        "give fields the columns' types (None where a column may be null).",
    )


def _is_whole(value: object) -> bool:
    # 50000 may arrive as 5E+4; exponents of NaN and infinities are letters.
    exponent = value.as_tuple().exponent if isinstance(value, Decimal) else None
    return isinstance(exponent, int) and exponent >= 0
