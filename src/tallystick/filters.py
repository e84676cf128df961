"""``Entity.Filter``: the filter an HTTP query string decodes into, derived from the entity's fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast
from uuid import UUID

import msgspec

from tallystick.errors import Declaration, Invalid
from tallystick.shown import fields_of, text_of

if TYPE_CHECKING:
    from tallystick.conditions import Condition
    from tallystick.spec import EntitySpec, FieldSpec

_RANGED = {"integer": int, "timestamp": datetime, "date": date, "money": str}
_EXACT = {"text": str, "boolean": bool, "uuid": UUID, "ref": UUID, **_RANGED}
_SETS = {"text": str, "uuid": UUID, "ref": UUID}
_SYSTEM = ("id", "created_at", "created_by", "updated_at")


class Filter(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The base of every derived filter.

    A field ``status`` gives ``status`` and ``status_in``; ordered fields give ``_from`` and ``_to`` (both
    inclusive); text gives ``_prefix``; optional fields give ``_missing``. Money is written "12.50 USD". Sealed
    fields appear only where they declare a blind index, as equality, and with it ``ssn_last4`` where that is over their
    closing characters too. Unknown names are errors, never ignored.
    """

    _tally_entity: ClassVar[Any] = None
    _tally_plan: ClassVar[dict[str, tuple[str, str]]] = {}
    _tally_hidden: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        raise Declaration(
            f"{cls.__name__} reads a query string, and this router does not know how.",
            remedy="Call tallystick.web.fastapi.install(app, ...) first, and make routers with "
            "APIRouter(route_class=TallystickRoute).",
        )

    @classmethod
    def parse(cls, params: Mapping[str, Any] | Iterable[tuple[str, str]]) -> Self:
        """Decode a query string's pairs. Raises ``Invalid`` naming the parameter and what is allowed."""
        given: Any = params
        pairs: Iterable[tuple[str, Any]] = given.items() if isinstance(params, Mapping) else given
        values: dict[str, Any] = {}
        for name, value in pairs:
            plan = cls._tally_plan.get(name)
            if plan is None:
                raise Invalid(
                    f"{cls.__name__} has no parameter {str(name)[:40]!r}.",
                    field=str(name)[:40],
                    remedy=f"Parameters are: {', '.join(sorted(cls._tally_plan))}.",
                )
            if plan[1] == "in":
                parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
                values.setdefault(name, []).extend(parts)
            elif name in values:
                raise Invalid(f"The parameter {name} is given twice.", field=name, remedy="Give it once, or use _in.")
            else:
                values[name] = value
        found: dict[str, Any] = {}
        hints = {f.name: f.type for f in msgspec.structs.fields(cls)}
        for name, value in values.items():
            try:
                # A number would be taken for seconds since 1970, and a year for the first hour of that.
                found[name] = msgspec.convert(value, hints[name], strict=hints[name] == datetime | None)
                # The text "null" converts to None, and a condition that falls away answers more than was asked for.
                if found[name] is not None or value is None:
                    continue
            except (msgspec.ValidationError, ValueError):
                pass
            # Raised out here, because the validator's error may quote the value.
            raise Invalid(
                f"The parameter {name} has a value of the wrong kind.",
                field=name,
                remedy=f"It should be {_describe(hints[name])}.",
            )
        return cls(**found)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return fields_of(self, self._tally_hidden)

    __repr__ = __str__ = text_of

    def conditions(self) -> tuple[Condition, ...]:
        """The filter as conditions."""
        from tallystick import query
        from tallystick.conditions import Compare
        from tallystick.money import Money

        found: list[Condition] = []
        for name, (field_name, operation) in self._tally_plan.items():
            value: Any = getattr(self, name)
            if value is None:
                continue
            field = getattr(self._tally_entity, field_name)
            if field.spec.kind == "money":
                value = Money.parse(value)
            if operation == "in":
                found.append(query.one_of(field, value))
            elif operation == "missing":
                found.append(query.missing(field) if value else query.present(field))
            elif operation == "prefix":
                found.append(query.prefix(field, value))
            elif operation == "ending":
                found.append(query.ends_with(field, value))
            else:
                found.append(Compare(field, operation, value))
        return tuple(found)


def _describe(hint: Any) -> str:
    members = [getattr(a, "__name__", str(a)) for a in getattr(hint, "__args__", (hint,)) if a is not type(None)]
    return " or ".join(members)


def _list_of(member: Any) -> Any:
    return list.__class_getitem__(member)  # a type known only at run time


def filter_type(spec: EntitySpec) -> type[Filter]:
    """Derive ``X.Filter`` from a declaration."""
    fields: list[tuple[str, Any, Any]] = []
    plan: dict[str, tuple[str, str]] = {}

    def offer(name: str, field: FieldSpec, hint: Any, operation: str) -> None:
        if name in spec.fields and name != field.name:
            return
        fields.append((name, hint | None, None))
        plan[name] = (field.name, operation)

    for field in spec.fields.values():
        if field.system and field.name not in _SYSTEM:
            continue
        kind = field.kind.value
        if field.sealed:
            if field.search is not None:
                offer(field.name, field, str, "=")
            if field.ending is not None:
                offer(field.ending.name, field, str, "ending")
            continue
        if kind == "enum":
            state = cast("Any", Literal)[tuple(str(m.value) for m in field.members)] if field.added else field.python
            offer(field.name, field, state, "=")
            offer(f"{field.name}_in", field, _list_of(state), "in")
        elif kind in _EXACT:
            offer(field.name, field, _EXACT[kind], "=")
        if kind in _SETS:
            offer(f"{field.name}_in", field, _list_of(_SETS[kind]), "in")
        if kind in _RANGED:
            offer(f"{field.name}_from", field, _RANGED[kind], ">=")
            offer(f"{field.name}_to", field, _RANGED[kind], "<=")
        if kind == "text":
            offer(f"{field.name}_prefix", field, str, "prefix")
        if field.optional:
            offer(f"{field.name}_missing", field, bool, "missing")
    made = msgspec.defstruct(
        f"{spec.name}Filter",
        fields,
        bases=(Filter,),
        kw_only=True,
        frozen=True,
        forbid_unknown_fields=True,
        omit_defaults=True,
        module=spec.cls.__module__,
    )
    type.__setattr__(made, "_tally_entity", spec.cls)
    type.__setattr__(made, "_tally_plan", plan)
    type.__setattr__(made, "_tally_hidden", frozenset(n for n, (field, _) in plan.items() if spec.fields[field].sealed))
    return cast("type[Filter]", made)
