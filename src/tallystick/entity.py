"""``Entity``: the one declaration of a stored thing, as a frozen value."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast, dataclass_transform
from uuid import UUID

import msgspec

from tallystick.errors import Declaration
from tallystick.fields import Ref
from tallystick.filters import Filter
from tallystick.ids import NIL, uuid7
from tallystick.rules import Rules
from tallystick.shown import HIDDEN, text_of

if TYPE_CHECKING:
    from sqlalchemy import Table

    from tallystick.inputs import Change as _Change
    from tallystick.inputs import New as _New
    from tallystick.spec import EntitySpec

    # Type checkers take the constructor's rules (keyword-only, frozen) from the nearest dataclass_transform, and
    # msgspec's own, on Struct, knows neither as a default.
    class _StructMeta(type):
        pass

    class _Struct:
        __struct_fields__: ClassVar[tuple[str, ...]]

else:
    _StructMeta = msgspec.StructMeta
    _Struct = msgspec.Struct

UNSAVED = datetime(1, 1, 1, tzinfo=UTC)
"""The stamp of an entity that was not stored yet (its version is 0)."""


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class EntityMeta(_StructMeta):
    """Answers ``Loan.principal`` on the class with something conditions can be written on.

    Only the class is answered; instances go through msgspec's own descriptors at full speed.
    """

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any) -> Any:
        config.setdefault("kw_only", True)
        config.setdefault("frozen", True)
        config.setdefault("repr_omit_defaults", False)
        cls = super().__new__(mcls, name, bases, namespace, **config)
        if "<locals>" in namespace.get("__qualname__", ""):
            type.__setattr__(cls, "_tally_locals", dict(sys._getframe(1).f_locals))
        return cls

    def __getattribute__(cls, name: str) -> Any:
        if name[0] != "_" and name not in _PLAIN and cls is not _base():
            handles = type.__getattribute__(cls, "__dict__").get("_tally_handles")
            if handles is None:
                handles = _handles(cls)
            found = handles.get(name)
            if found is not None:
                return found
        return super().__getattribute__(name)

    if not TYPE_CHECKING:

        def __getattr__(cls, name: str) -> Any:
            if name in ("New", "Change") and cls is not _base():
                from tallystick import inputs

                return inputs.input_type(spec_of(cls), getattr(inputs, name))
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")


E = TypeVar("E", bound="Entity")
_PLAIN = frozenset({"mro", "rules", "ref", "__name__"})
_ENTITY: list[type] = []


def _base() -> type | None:
    return _ENTITY[0] if _ENTITY else None


def _handles(cls: type) -> dict[str, Any]:
    """Resolve the declaration of a class on first use, when the names its annotations mention exist."""
    if not _ENTITY:
        return {}
    from tallystick.handles import handles_of

    found = handles_of(cls)
    type.__setattr__(cls, "_tally_handles", found)
    return found


class Entity(_Struct, metaclass=EntityMeta):
    """The base of everything stored: an immutable value with an id, a tenant, a version and four stamps.

    Subclass it, annotate fields, add ``rules``. ``id`` is a UUIDv7 made by the client; tenant, version and stamps
    are set by the database when the entity is added (``version`` counts from 1, 0 means not stored yet). Entities
    never change: ``repository.update(entity, field=value)`` answers a new one.
    """

    id: UUID = msgspec.field(default_factory=uuid7)
    tenant_id: UUID = NIL
    version: int = 0
    created_at: datetime = UNSAVED
    created_by: str = ""
    updated_at: datetime = UNSAVED
    updated_by: str = ""

    rules: ClassVar[Rules] = Rules()

    if TYPE_CHECKING:
        table: ClassVar[Table]
        """The SQLAlchemy Core table, for statements of your own through ``db.fetch``."""

        class Filter(Filter, frozen=True):
            """The filter that HTTP queries decode into, derived from the fields."""

        class New(_New, frozen=True):
            """What a client may give of a new one, derived from the fields."""

        class Change(_Change, frozen=True):
            """What a client may change, derived from the fields."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from tallystick.web.models import core_schema

        return core_schema(source)

    @property
    def ref(self) -> Ref[Self]:
        """A reference to this entity, already loaded."""
        return Ref(self.id, self)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        fields = spec_of(type(self)).fields
        return [(name, HIDDEN if field.sealed else getattr(self, name)) for name, field in fields.items()]

    __repr__ = __str__ = text_of


_ENTITY.append(Entity)


def default_of(cls: type[Entity], name: str) -> Any:
    """The default of a field, ``msgspec.NODEFAULT`` when it has none or one that is made anew each time."""
    declared: Any = cls
    return next(f.default for f in msgspec.structs.fields(declared) if f.name == name)


def with_fields(entity: E, **fields: Any) -> E:
    """The entity with other values in some fields; the entity itself never changes."""
    return cast("E", msgspec.structs.replace(cast("Any", entity), **fields))


def spec_of(cls: type[Entity]) -> EntitySpec:
    """The resolved declaration of an entity. Raises ``Declaration`` when it cannot be stored safely."""
    if not isinstance(cls, EntityMeta) or cls is Entity:
        raise Declaration(
            f"{getattr(cls, '__name__', type(cls).__name__)} is not an entity.",
            remedy="Name classes that derive from Entity.",
        )
    found: EntitySpec | None = cls.__dict__.get("_tally_spec")
    if found is None:
        from tallystick.declare import resolve

        found = resolve(cls)
        type.__setattr__(cls, "_tally_spec", found)
    return found
