"""Explicit, batched loading of references, in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from msgspec.structs import replace as changed

from tallystick.codec import codec_of
from tallystick.conditions import Field, Order
from tallystick.entity import Entity, spec_of
from tallystick.errors import Invalid, NotFound, WrongTenant
from tallystick.ids import NIL
from tallystick.query import one_of
from tallystick.spec import Kind

if TYPE_CHECKING:
    from tallystick.session import Session

C = TypeVar("C", bound=Entity)
_BATCH = 1_000
_REVERSE_LIMIT = 100_000


class Backref(Generic[C]):
    """The entities that refer to others by one field; made by ``backref``."""

    __slots__ = ("entity", "field")

    def __init__(self, entity: type[C], field: Field) -> None:
        self.entity = entity
        self.field = field


def backref(entity: type[C], field: Any) -> Backref[C]:
    """Say which entities to collect for others: ``await db.load(users, backref(Visit, Visit.borrower))``."""
    if not isinstance(field, Field) or field.spec.kind is not Kind.REF or not spec_of(entity).owns(field.entity):
        raise Invalid(
            "backref() needs an entity and one of its own references.", remedy="Write backref(Visit, Visit.borrower)."
        )
    return Backref(entity, field)


async def load_refs(db: Session, items: Sequence[Any], fields: Iterable[Any]) -> None:
    """Fill the references of many entities, one statement per thousand distinct ids."""
    for field in fields if isinstance(fields, (list, tuple)) else (fields,):
        if not isinstance(field, Field) or field.spec.kind is not Kind.REF:
            raise Invalid("Only references can be loaded.", remedy="Write load=[Visit.borrower].")
        refs = [ref for item in items if (ref := _ref(db, item, field)) is not None]
        found = await _by_id(db, field.spec.inner, {ref.id for ref in refs})
        for ref in refs:
            if ref.id not in found:
                raise NotFound(
                    f"A {field.spec.inner.__name__} that {field!r} refers to no longer exists.",
                    entity=field.spec.inner.__name__,
                    id=ref.id,
                )
        for ref in refs:
            ref.loaded = found[ref.id]


def _ref(db: Session, item: Any, field: Field) -> Any:
    if not isinstance(item, field.entity.cls):
        raise Invalid(
            f"{field!r} is not a field of {type(item).__name__}.",
            field=field.name,
            remedy="Load references of the entities they belong to.",
        )
    _check_tenant(db, item)
    return getattr(item, field.name)


def _check_tenant(db: Session, item: Entity) -> None:
    if item.tenant_id not in (NIL, db.tenant_id):
        raise WrongTenant(f"A {type(item).__name__} belongs to another tenant than the session.")


async def _by_id(db: Session, target: type[Entity], ids: set[UUID]) -> dict[UUID, Any]:
    spec, wanted, found = spec_of(db.actual(target)), list(ids), {}
    codec, key = codec_of(spec), Field(spec, spec.fields["id"])
    for start in range(0, len(wanted), _BATCH):
        part = wanted[start : start + _BATCH]
        where = (one_of(key, part),)
        rows = await db.unit.select(codec, changed(codec.query(where, (), db.sealer), verb="load"))
        for entity in codec.decode_all(rows, await db.sealer.opener(codec, rows)):
            found[entity.id] = entity
    return found


async def load_back(db: Session, items: Iterable[Entity], back: Backref[C]) -> dict[UUID, list[C]]:
    """The entities that refer to each item, oldest first; an item that nothing refers to has an empty list."""
    found: dict[UUID, list[C]] = {}
    for item in items:
        if not isinstance(item, back.field.spec.inner):
            raise Invalid(
                f"{back.field!r} does not refer to a {type(item).__name__}.",
                field=back.field.name,
                remedy="Load what refers to these entities.",
            )
        _check_tenant(db, item)
        found[item.id] = []
    spec = spec_of(db.actual(back.entity))
    codec, ids, seen = codec_of(spec), list(found), 0
    order = (Order(back.field), Order(Field(spec, spec.fields["id"])))
    for start in range(0, len(ids), _BATCH):
        where = (one_of(back.field, ids[start : start + _BATCH]),)
        query = changed(codec.query(where, order, db.sealer, _REVERSE_LIMIT + 1 - seen), verb="load")
        rows = await db.unit.select(codec, query)
        entities = codec.decode_all(rows, await db.sealer.opener(codec, rows))
        seen += len(entities)
        if seen > _REVERSE_LIMIT:
            raise Invalid(
                f"More than {_REVERSE_LIMIT} {spec.name} refer to these.",
                entity=spec.name,
                remedy="Load them for fewer entities at a time, or page through them.",
            )
        for entity in entities:
            found[getattr(entity, back.field.name).id].append(entity)
    return found
