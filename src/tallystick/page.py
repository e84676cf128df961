"""Pages and the cursors between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec

from tallystick.conditions import Order, Query, Shape
from tallystick.errors import Invalid
from tallystick.ids import uuid_of
from tallystick.spec import FieldSpec, Kind

E = TypeVar("E")
MAX_LIMIT = 1_000
_LONGEST = 100_000
_PYTHON: dict[Kind, Any] = {
    Kind.TEXT: str,
    Kind.ENUM: str,
    Kind.INTEGER: int,
    Kind.MONEY: int,
    Kind.BOOLEAN: bool,
    Kind.UUID: UUID,
    Kind.REF: UUID,
    Kind.TIMESTAMP: datetime,
    Kind.DATE: date,
    Kind.DECIMAL: Decimal,
    Kind.CHAIN: Decimal,
    Kind.LEDGER: Decimal,
}
_decode = msgspec.msgpack.Decoder().decode
_encode = msgspec.msgpack.Encoder(decimal_format="string", uuid_format="bytes").encode


class Page(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    """Some items of a longer list and where the next ones start.

    ``next`` is the cursor of the following page, None on the last. ``total`` is there only when it was asked for,
    because counting reads what paging avoids; ``offset`` only for offset pages.
    """

    items: list[E]
    limit: int
    next: str | None = None
    total: int | None = None
    offset: int | None = None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from tallystick.web.models import core_schema

        return core_schema(source)

    @property
    def has_next(self) -> bool:
        """Whether more items follow."""
        return self.next is not None

    @property
    def number(self) -> int | None:
        """The page's number from 1, for offset pages."""
        return None if self.offset is None else self.offset // self.limit + 1

    @property
    def pages(self) -> int | None:
        """How many pages there are, when the total was asked for."""
        return None if self.total is None else -(-self.total // self.limit)

    def __iter__(self) -> Iterator[E]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class PageQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The paging part of an HTTP query string."""

    after: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)] = 20


@dataclass(frozen=True, slots=True)
class Offset:
    """Where an offset page starts; give it as ``after=``. Prefer cursors: an offset reads all it skips."""

    rows: int

    @classmethod
    def of_page(cls, number: int, limit: int) -> Offset:
        """The offset of page ``number``, counted from 1."""
        return cls((number - 1) * limit)


def fingerprint(tenant: UUID, table: str, query: Query) -> bytes:
    """What a cursor is valid for: tenant, entity, conditions with their values, and order."""
    digest = _digest_of(table, query.shape).copy()
    digest.update(_encode((tenant, query.values)))
    return digest.digest()


@lru_cache(maxsize=2_000)
def _digest_of(table: str, shape: Shape) -> blake2b:
    return blake2b(repr((table, shape)).encode(), digest_size=8)


def write_cursor(mark: bytes, position: Sequence[Any]) -> str:
    """The cursor after a position in an order: text that needs no escaping in a URL."""
    return _encode((mark, *position)).hex()


def read_cursor(cursor: str, mark: bytes, order: Sequence[Order]) -> tuple[Any, ...]:
    """The position a cursor marks. Raises ``Invalid`` for one of another tenant, query or order, or a forged one."""
    found: Any = None
    if not isinstance(cursor, str) or len(cursor) > _LONGEST:
        raise _invalid()
    with suppress(ValueError, msgspec.DecodeError, RecursionError):
        found = _decode(bytes.fromhex(cursor))
    if not isinstance(found, list) or len(found) != len(order) + 1 or found[0] != mark:
        raise _invalid()
    return tuple([_value(one.field.spec, value) for one, value in zip(order, found[1:], strict=True)])


def _value(field: FieldSpec, value: Any) -> Any:
    python = _PYTHON[field.kind]
    if value.__class__ is python or (value is None and field.optional):
        return value
    try:
        return uuid_of(value) if python is UUID and isinstance(value, bytes) else msgspec.convert(value, python)
    except (msgspec.ValidationError, ValueError):
        pass
    raise _invalid()


def _invalid() -> Invalid:
    return Invalid(
        "The cursor does not belong to this tenant, query and order.",
        field="after",
        remedy="Start from the first page, and pass `next` back with the same conditions and order.",
    )
