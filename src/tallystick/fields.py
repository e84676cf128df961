"""The markers an entity's annotations carry: what a field means beyond its Python type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec

from tallystick.errors import Declaration, Invalid

T = TypeVar("T")
_MOST_DIGITS = 1_000
_LONGEST_MASK = 16
_CLASS = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Ref(msgspec.Struct, Generic[T], omit_defaults=True, eq=False):
    """A reference to another entity of the same tenant, by id.

    References are values: nothing is loaded behind your back. ``find(load=[...])`` and ``db.load`` fill many
    of them in one statement; ``value`` is the loaded entity and raises ``Invalid`` when nobody loaded it.
    """

    id: UUID
    loaded: Any = None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from tallystick.web.models import core_schema

        return core_schema(source)

    @property
    def value(self) -> T:
        """The referenced entity, once loaded."""
        # What a request's body put there is no struct.
        if not isinstance(self.loaded, msgspec.Struct):
            raise Invalid(
                "The reference has not been loaded.",
                remedy="Name the field in load=[...], or call db.load(items, Entity.field) for a batch.",
            )
        return self.loaded  # type: ignore[return-value]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and self.id == other.id

    def __ne__(self, other: object) -> bool:
        # A struct that compares itself answers != by identity unless it is told.
        return not self == other

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Ref({self.id})"


@dataclass(frozen=True, slots=True)
class Length:
    """The longest and shortest a text may be, in characters."""

    max: int
    min: int = 0

    def __post_init__(self) -> None:
        if not all(n.__class__ is int for n in (self.max, self.min)) or not 0 <= self.min <= self.max or not self.max:
            raise Declaration(
                "A Length is from min 0 to max 1 at least.", remedy="Write Length(200), Length(20, min=1)."
            )


@dataclass(frozen=True, slots=True)
class Numeric:
    """Digits of a ``Decimal``: ``precision`` in all, ``scale`` after the point. Not for money."""

    precision: int
    scale: int

    def __post_init__(self) -> None:
        if not all(n.__class__ is int for n in (self.precision, self.scale)) or not (
            0 <= self.scale <= self.precision <= _MOST_DIGITS and self.precision
        ):
            raise Declaration(
                f"A Numeric has 1 to {_MOST_DIGITS} digits, and no more of them after the point than in all.",
                remedy="Write Numeric(12, 8).",
            )


@dataclass(frozen=True, slots=True)
class Search:
    """How a secret or personal field may be found: equality over its normalised value, by a keyed hash.

    ``normal`` is one of exact, email, digits, phone, name. ``bits`` truncates the index, so that an attacker who
    holds it cannot tell which of many people a value belongs to; a truncated index is never unique, and what it finds
    is opened and compared, so it serves equality in reads and no bulk change. ``last`` indexes the closing characters
    of the value besides, for ``ends_with(field, "6789")``; that index is never unique either, and few closing
    characters have few values, so it tells more to whoever holds it than the whole does.
    """

    normal: str = "exact"
    bits: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Mask:
    """How many closing characters of a secret its mask may show; kept encrypted beside the secret."""

    last: int = 4

    def __post_init__(self) -> None:
        if self.last.__class__ is not int or not 0 <= self.last <= _LONGEST_MASK:
            raise Declaration(f"A Mask shows 0 to {_LONGEST_MASK} characters.", remedy="Write Mask(4).")


@dataclass(frozen=True, slots=True)
class Retain:
    """The retention and purpose class of one sealed field, where it is another than its entity's.

    ``Annotated[Personal[str], Retain("marketing")]`` has a key of its own for each person, which can be destroyed while
    what the law wants kept stays readable.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _CLASS.fullmatch(self.name):
            raise Declaration("A retention class is a plain lower-case name.", remedy='Write Retain("marketing").')


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON document; ``promote`` names keys that become real, indexable columns ({"score": int})."""

    promote: Mapping[str, type] = field(default_factory=lambda: MappingProxyType({}), hash=False)


@dataclass(frozen=True, slots=True)
class OwnAsset:
    """Gives a money field an asset column of its own instead of the row's shared one."""


@dataclass(frozen=True, slots=True)
class PersonalMark:
    """Marks a field as personal data; write ``Personal[str]`` instead."""


@dataclass(frozen=True, slots=True)
class CustomMark:
    """Marks a document as holding what tenants define; write ``Custom`` or ``PersonalCustom`` instead."""


@dataclass(frozen=True, slots=True)
class ChainMark:
    """Marks an integer as an on-chain quantity; write ``ChainAmount`` instead."""


@dataclass(frozen=True, slots=True)
class LedgerMark:
    """Marks an integer as an amount of the ledger; write ``LedgerAmount`` instead."""


@dataclass(frozen=True, slots=True)
class Maintained:
    """A column that only triggers of the database write: no client may insert or update it.

    The field needs a default, which is what a new row has.
    """


@dataclass(frozen=True, slots=True)
class Internal:
    """A field that the application sets and no client: ``X.New`` and ``X.Change`` do not have it."""


@dataclass(frozen=True, slots=True)
class Once:
    """A field that is given when the row is added and never changes after."""


Personal = Annotated[T, PersonalMark()]
"""Personal data: encrypted where it is stored, plain in the entity, masked in its repr, never in a log."""

Custom = Annotated[dict[str, Any], CustomMark()]
"""What tenants define: a document that holds nothing but the custom fields of the tenant, each value judged."""

PersonalCustom = Annotated[dict[str, Any], PersonalMark(), CustomMark()]
"""The personal custom fields of a tenant, encrypted under the key of the person whose data the row is."""

ChainAmount = Annotated[int, ChainMark()]
"""An on-chain quantity in base units, 0 to 2^256-1 (uint256), stored as numeric(78,0)."""

LedgerAmount = Annotated[int, LedgerMark()]
"""Minor units in the ledger, -(10^38-1) to 10^38-1, stored as numeric(38,0)."""

Rate = Annotated[Decimal, Numeric(12, 8)]
"""A rate as a fraction: 0.125 is 12.5 %."""

Price = Annotated[Decimal, Numeric(38, 18)]
"""A market price with up to eighteen decimals."""

Fraction = Annotated[Decimal, Numeric(9, 6)]
"""A probability, confidence or share with six decimals."""
