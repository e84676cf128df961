"""``Entity.New`` and ``Entity.Change``: what a client may set, derived from the entity's fields.

A request body that decodes into an entity would let whoever sends it set what is not theirs: ids, stamps, statuses,
totals. These types hold the other fields only, refuse every name they do not know, and take secrets as text.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tallystick.errors import Invalid, Unsupported
from tallystick.fields import Internal, Ref
from tallystick.money import Money
from tallystick.privacy.sealed import Secret, secret_dec_hook
from tallystick.shown import fields_of, text_of
from tallystick.spec import EntitySpec, FieldSpec, Kind

if TYPE_CHECKING:
    from tallystick.entity import Entity

_LOW, _HIGH = -(2**63), 2**63 - 1
_AT = re.compile(r"at `\$\.([a-z_][a-z0-9_]*)")
_MISSING = re.compile(r"missing required field `([a-z_][a-z0-9_]*)`")
_PLAIN: dict[Kind, Any] = {
    Kind.BOOLEAN: bool,
    Kind.UUID: UUID,
    Kind.DATE: date,
    Kind.DECIMAL: Decimal,
    Kind.BYTES: bytes,
    Kind.MONEY: Money,
    Kind.LEDGER: int,
    Kind.CHAIN: Annotated[int, Meta(ge=0)],
    Kind.INTEGER: Annotated[int, Meta(ge=_LOW, le=_HIGH)],
    Kind.TIMESTAMP: Annotated[datetime, Meta(tz=True)],
}


class RefTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reference as a client writes it: an id and nothing else."""

    id: UUID


class Input(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The base of every derived ``X.New`` and ``X.Change``; a field that was not given is ``msgspec.UNSET``."""

    _tally_entity: ClassVar[Any] = None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The fields of the entity."""

    @classmethod
    def decode(cls, body: bytes | str) -> Any:
        """Read a JSON body. Raises ``Invalid`` with the field's name and without its value."""
        return _checked(cls, lambda: msgspec.json.decode(body, type=cls, dec_hook=secret_dec_hook))

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Any:
        """Read a decoded JSON object. Raises ``Invalid`` with the field's name and without its value."""
        return converted(cls, document)

    @classmethod
    def only(cls, *names: str) -> Any:
        """The same with these fields alone: ``User.New.only("email", "first_name")``. Raises ``Invalid``."""
        unknown = [n for n in names if n not in cls.__struct_fields__]
        if unknown or not names:
            raise Invalid(
                f"{cls.__name__} has no field {', '.join(unknown)}." if unknown else "No field is named.",
                remedy=f"Fields are: {', '.join(cls.__struct_fields__)}.",
            )
        return _narrowed(cls, tuple(sorted(set(names))))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from tallystick.web.models import core_schema

        return core_schema(source)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return fields_of(self, _hidden(self._tally_entity))

    __repr__ = __str__ = text_of

    def given(self) -> dict[str, Any]:
        """What the client gave, by field, as the entity takes it."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return {n: Ref(v.id) if isinstance(v, RefTo) else v for n, v in found.items() if v is not UNSET}


class New(Input, frozen=True):
    """What a client may give of a new entity."""

    def entity(self, **fields: Any) -> Any:
        """The entity, with fields that the application sets; those win over what the client gave."""
        return self._tally_entity(**{**self.given(), **fields})


class Change(Input, frozen=True):
    """What a client may change of an entity; every field may be left out."""

    def changes(self) -> dict[str, Any]:
        """What to give to ``update``: ``await db[Visit].update(visit, **change.changes())``."""
        return self.given()


def converted(kind: type[msgspec.Struct], document: Any) -> Any:
    """A decoded JSON document as a struct. Raises ``Invalid`` with the field's name and without its value."""
    return _checked(kind, lambda: msgspec.convert(document, kind, dec_hook=secret_dec_hook))


def _checked(cls: type[msgspec.Struct], decode: Callable[[], Any]) -> Any:
    try:
        return decode()
    except msgspec.ValidationError as problem:
        text = str(problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = ""
    if not text:
        raise Invalid("The body is not a JSON document.", remedy="Send a JSON object.")
    missing, at = _MISSING.search(text), _AT.search(text)
    name = next((m[1] for m in (missing, at) if m is not None and m[1] in cls.__struct_fields__), "")
    if missing is not None and name == missing[1]:
        raise Invalid(f"{name} is missing.", field=name, remedy="Give it a value.")
    if name:
        raise Invalid(f"{name} has a value of the wrong kind.", field=name, remedy="The schema says what it takes.")
    raise Invalid(
        "The document has a field that cannot be set here, or is no object.",
        remedy=f"Fields are: {', '.join(cls.__struct_fields__)}.",
    )


@cache
def input_type(spec: EntitySpec, base: type[Input]) -> Any:
    """Derive ``X.New`` or ``X.Change`` from a declaration.

    Left out are system fields, what the database maintains, what a state machine moves, ``archived_at``, and what is
    ``Internal()``; of changes also what never changes. Raises ``Unsupported`` for an entity of a built-in domain that
    marks none as internal, because its operations alone write it, and for changes of what is append-only.
    """
    internal = _internal(spec.cls)
    if not internal and any(c.__module__.startswith("tallystick.domains.") for c in spec.cls.__mro__):
        raise Unsupported(
            f"{spec.name} is written by the operations of its domain.",
            remedy="Declare a body with the arguments of the operation.",
        )
    if base is Change and spec.append_only:
        raise Unsupported(f"{spec.name} is append-only.", remedy="Add a row that corrects or reverses the earlier one.")
    moved = {t.field for t in spec.transitions} | {"archived_at"}
    defaults = {f.name: f.required for f in msgspec.structs.fields(cast("Any", spec.cls))}
    fields: list[Any] = []
    for name, field in spec.fields.items():
        if field.system or field.maintained or name in moved or name in internal or (base is Change and field.once):
            continue
        hint = _hint(field)
        hint = hint | None if field.optional else hint
        fields.append((name, hint) if base is New and defaults[name] else (name, hint | UnsetType, UNSET))
    return _made(f"{spec.name}{base.__name__}", fields, base, spec.cls, base.__doc__ or "")


@cache
def _hidden(entity: type[Entity]) -> frozenset[str]:
    from tallystick.entity import spec_of

    return frozenset(f.name for f in spec_of(entity).fields.values() if f.sealed)


@cache
def _narrowed(cls: type[Input], names: tuple[str, ...]) -> Any:
    kept = [f for f in msgspec.structs.fields(cls) if f.name in names]
    title = cls.__name__ + "".join(part.title().replace("_", "") for part in names)
    fields: list[Any] = [(f.name, f.type) if f.required else (f.name, f.type, UNSET) for f in kept]
    return _made(title, fields, cls.__mro__[1], cls._tally_entity, cls.__doc__ or "")


def _made(name: str, fields: list[Any], base: Any, entity: type[Entity], doc: str) -> Any:
    made = msgspec.defstruct(
        name,
        fields,
        bases=(base,),
        namespace={"__doc__": doc},
        kw_only=True,
        frozen=True,
        forbid_unknown_fields=True,
        module=entity.__module__,
    )
    type.__setattr__(made, "_tally_entity", entity)
    return made


def _internal(cls: type[Entity]) -> frozenset[str]:
    local = dict(cls.__dict__.get("_tally_locals") or {}) | {cls.__name__: cls}
    hints = typing.get_type_hints(cls, localns=local, include_extras=True)
    return frozenset(n for n, hint in hints.items() if any(isinstance(m, Internal) for m in _marks(hint)))


def _marks(hint: Any) -> list[Any]:
    own = list(getattr(hint, "__metadata__", ()))
    return own + [m for part in typing.get_args(hint) for m in _marks(part)]


def _hint(field: FieldSpec) -> Any:
    if field.kind is Kind.REF:
        return RefTo
    if field.kind is Kind.SECRET:
        return cast("Any", Secret)[field.inner]
    if field.kind is Kind.TEXT or (field.kind is Kind.PERSONAL and field.inner is str):
        if field.max_length is None:
            return str
        return Annotated[str, Meta(min_length=field.min_length or None, max_length=field.max_length)]
    if field.kind is Kind.PERSONAL:
        return field.inner
    return _PLAIN.get(field.kind, field.python)
