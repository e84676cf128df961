"""Reads by truncated blind indexes: the database finds candidates, and the value that was opened decides.

Equal indexes of a few bits say that two values may be equal. So each row that was found is compared by its value, with
the same normaliser, and what a bulk change would hit without being looked at is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec.structs import replace as changed

from tallystick.conditions import Compare, Condition, OneOf, Query, shape_of
from tallystick.conditions import _Group as Group
from tallystick.errors import Erased, Invalid
from tallystick.privacy.sealed import Secret, ciphertext_of
from tallystick.privacy.sealer import closing, normal
from tallystick.query import orders

if TYPE_CHECKING:
    from tallystick.privacy.cells import Opener
    from tallystick.reader import Reader
    from tallystick.spec import EntitySpec, FieldSpec

_BATCH: Final = 500


class _Wanted(NamedTuple):
    """The values of a sealed field that a query asks for, as they are indexed; ``blind`` is the index it asks."""

    field: FieldSpec
    blind: FieldSpec
    values: frozenset[bytes]


async def selected(reader: Reader[Any], query: Query) -> list[Any]:
    """The entities of a query."""
    wanted = _wanted(reader, query)
    if not wanted:
        return await reader._entities(await reader.db.unit.select(reader._codec, query))
    kept: list[Any] = []
    async for part in _parts(reader, query, wanted):
        kept += part
        if query.limit is not None and len(kept) >= query.limit:
            break
    return kept[: query.limit]


async def paged(reader: Reader[Any], query: Query, limit: int) -> tuple[list[Any], bool]:
    """The entities of a page, and whether more follow: ``query`` asks for one more than ``limit``."""
    if _wanted(reader, query):
        found = await selected(reader, query)
        return found[:limit], len(found) > limit
    rows = await reader.db.unit.select(reader._codec, query)
    more = len(rows) > limit
    return await reader._entities(rows[:limit] if more else rows), more


async def counted(reader: Reader[Any], query: Query) -> int:
    """How many rows match."""
    wanted = _wanted(reader, query)
    if wanted:
        return sum([len(part) async for part in _parts(reader, changed(query, verb="count"), wanted)])
    return await reader.db.unit.count(reader._codec, query)


async def existing(reader: Reader[Any], query: Query) -> bool:
    """Whether a row matches."""
    if _wanted(reader, query):
        return bool(await selected(reader, changed(query, limit=1, verb="exists")))
    return await reader.db.unit.exists(reader._codec, query)


def certain(reader: Reader[Any], query: Query) -> Query:
    """The query of a bulk change. Raises ``Invalid`` for one that would hit rows which only look as if they matched."""
    if _wanted(reader, query):
        raise Invalid(
            f"A truncated index of {reader.spec.name} finds candidates, which a bulk change would not look at.",
            entity=reader.spec.name,
            remedy="Find the rows, which are then compared by their values, and change them one by one.",
        )
    return query


def _wanted(reader: Reader[Any], query: Query) -> Sequence[_Wanted]:
    if not reader._codec.vague:
        return ()
    found: list[_Wanted] = []
    for condition in query.where:
        _gather(reader.spec, condition, found, whole=True)
    return found


def _gather(spec: EntitySpec, condition: Condition, found: list[_Wanted], *, whole: bool) -> None:
    if isinstance(condition, Group):
        for part in condition.parts:
            _gather(spec, part, found, whole=whole and condition.word == "and")
        return
    if not isinstance(condition, (Compare, OneOf)) or not condition.field.spec.vague:
        return
    blind = condition.field.spec
    if not whole or (isinstance(condition, Compare) and condition.op != "="):
        raise Invalid(
            f"{condition.field!r} has a truncated index, which finds candidates only.",
            entity=spec.name,
            field=blind.name,
            remedy="Ask for equality, or one_of(), outside any_of() and not_().",
        )
    values = condition.values if isinstance(condition, OneOf) else (condition.value,)
    field = next(f for f in spec.fields.values() if any(b.name == blind.name for b in f.blind))
    found.append(_Wanted(field, blind, frozenset(normal(blind, v) for v in values)))


async def _parts(reader: Reader[Any], query: Query, wanted: Sequence[_Wanted]) -> AsyncIterator[list[Any]]:
    """What matches, by batches of candidates."""
    if query.offset:
        raise Invalid(
            f"Rows of {reader.spec.name} cannot be counted off by a truncated index.",
            field="after",
            remedy="Follow `next` from page to page.",
        )
    order = query.order or orders(reader.spec, None)
    part = changed(query, order=order, shape=shape_of(query.where, order), limit=_BATCH)
    while True:
        items = await reader._entities(await reader.db.unit.select(reader._codec, part))
        yield await _fitting(reader, items, wanted)
        if len(items) < _BATCH:
            return
        part = changed(part, after=reader._codec.position(items[-1], order, reader.db.sealer))


async def _fitting(reader: Reader[Any], items: list[Any], wanted: Sequence[_Wanted]) -> list[Any]:
    from tallystick.privacy.envelope import key_id_of

    sealer = reader.db.sealer
    held = [getattr(item, one.field.name) for item in items for one in wanted]
    keys = {key_id_of(ciphertext_of(one)) for one in held if isinstance(one, Secret)}
    opener = await sealer.opener_of(keys, await sealer.generation()) if keys else None
    table = reader.spec.table
    return [item for item in items if all(_fits(opener, table, item, one) for one in wanted)]


def _fits(opener: Opener | None, table: str, item: Any, wanted: _Wanted) -> bool:
    value = getattr(item, wanted.field.name)
    if isinstance(value, Secret) and opener is not None:
        try:
            value = opener.reveal(table, wanted.field, ciphertext_of(value), item.id)
        except Erased:
            value = None
    return value is not None and closing(wanted.blind, normal(wanted.blind, value)) in wanted.values
