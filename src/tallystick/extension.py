"""Extensions: columns, rules and states that an application adds to an entity that is there already.

An extension is a subclass that says what it extends. The row stays one row of one table, so whatever holds of the
entity holds of it; a process that does not know the extension reads and writes the same rows, and leaves its columns
alone.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast
from weakref import WeakKeyDictionary

import msgspec

from tallystick.constraints import quote, snake
from tallystick.entity import Entity, spec_of
from tallystick.errors import Declaration, Invalid
from tallystick.ids import NIL
from tallystick.rules import AppendOnly, Check, Foreign, Index, Rule, Rules, Statuses, Transitions, Unique
from tallystick.spec import EntitySpec, FieldSpec, Kind
from tallystick.values import plain

if TYPE_CHECKING:
    from decimal import Decimal

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=Entity)
_MERGED: WeakKeyDictionary[type[Entity], Rules] = WeakKeyDictionary()
_ADDED: dict[tuple[type[StrEnum], str], StrEnum] = {}
_STATE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_ALLOWED = (Index, Unique, Check, Foreign, Transitions, Statuses)
_OPTIONS: Mapping[str, object] = {
    "table": None,
    "retain": None,
    "subject": None,
    "fillfactor": None,
    "derived": None,
    "audit": True,
    "audit_reads": False,
    "unaudited": (),
}


def added(enum: type[S], value: str) -> S:
    """A state of the application's own, beside those of a domain's enum: ``ON_LEAVE = added(UserStatus, "on_leave")``.

    It is a value of that type, the same one each time, and no member of the enum: only an extension whose ``Statuses``
    name it reads or writes it. Raises ``Declaration`` for a state that the enum has.
    """
    if not (isinstance(enum, type) and issubclass(enum, StrEnum)):
        raise Declaration("added() takes the enum of a status.", remedy='Write added(UserStatus, "on_leave").')
    if not isinstance(value, str) or not _STATE.fullmatch(value) or any(value == str(m.value) for m in enum):
        raise Declaration(
            f"That is not a new state beside those of {enum.__name__}.",
            remedy="Use lower-case letters, digits and underscores, and none that the enum has.",
        )
    found = _ADDED.get((enum, value))
    if found is None:
        made: Any = str.__new__(enum, value)
        made._name_, made._value_, made._sort_order_ = value.upper(), value, len(enum)
        found = _ADDED.setdefault((enum, value), made)
    return cast("S", found)


def base_of(cls: type[Entity]) -> type[Entity] | None:
    """The entity that a class extends; None for one that stands for itself."""
    return _own(cls).extends


def rules_of(cls: type[Entity]) -> Rules:
    """The rules of a class; those of an extension with the rules of what it extends before its own."""
    own = _own(cls)
    if own.extends is None:
        return own
    found = _MERGED.get(cls)
    if found is None:
        found = _MERGED[cls] = _merged(cls, own, own.extends)
    return found


def _own(cls: type[Entity]) -> Rules:
    return cls.__dict__.get("rules") or cls.rules


def _annotated(cls: type[Entity]) -> Iterable[str]:
    """The names that a class annotates itself; whether their types are known is judged where they are read."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.get_annotations(cls, format=Format.FORWARDREF)
    return inspect.get_annotations(cls)


def _wrong(cls: type[Entity], problem: str, remedy: str, field: str = "") -> NoReturn:
    raise Declaration(f"{cls.__name__}{problem}", entity=cls.__name__, field=field, remedy=remedy)


def _merged(cls: type[Entity], own: Rules, base: type[Entity]) -> Rules:
    if not (isinstance(base, type) and issubclass(base, Entity)) or base is Entity or base not in cls.__bases__:
        _wrong(cls, " extends what it is no subclass of.", "Write class BranchUser(User) with Rules(extends=User).")
    if base_of(base) is not None:
        _wrong(
            cls, f" extends {base.__name__}, which is an extension itself.", "Put the fields of both into one class."
        )
    inherited = rules_of(base)
    if any(isinstance(r, AppendOnly) for r in inherited.items):
        _wrong(
            cls,
            f" extends {base.__name__}, whose rows are written once, by operations that know no other columns.",
            "Keep what you add in an entity of your own that refers to it.",
        )
    for option, usual in _OPTIONS.items():
        if getattr(own, option) != usual:
            _wrong(cls, f" sets {option}, which is {base.__name__}'s to say.", f"Leave {option} out.")
    for name in _annotated(cls):
        if name in base.__struct_fields__:
            _wrong(
                cls,
                f".{name} is a field of {base.__name__}, which an extension may not change.",
                "Name your field otherwise. States are added with Statuses.",
                name,
            )
        if name in base.Filter.__struct_fields__:
            _wrong(
                cls,
                f".{name} is a name by which rows of {base.__name__} are filtered.",
                "Name your field otherwise.",
                name,
            )
    for rule in own.items:
        if not isinstance(rule, _ALLOWED):
            _wrong(
                cls,
                f" brings a rule that would change how {base.__name__} works ({type(rule).__name__}).",
                "An extension has indexes, unique rules, checks, keys, statuses, and state machines of its own fields.",
            )
        if isinstance(rule, Transitions) and rule.field in base.__struct_fields__:
            _wrong(cls, f".{rule.field} has its state machine.", "Add to it with Statuses.", rule.field)
    options: dict[str, Any] = {option: getattr(inherited, option) for option in _OPTIONS}
    options["table"] = inherited.table or snake(base.__name__)
    return Rules(
        *_items(cls, own, base, inherited),
        **options,
        readable={**inherited.readable, **own.readable},
        extends=base,
    )


def _items(cls: type[Entity], own: Rules, base: type[Entity], inherited: Rules) -> Iterator[Rule]:
    grown = {r.field: r for r in own.items if isinstance(r, Statuses)}
    if len(grown) < sum(isinstance(r, Statuses) for r in own.items):
        _wrong(cls, " adds statuses to one field twice.", "Write one Statuses for each field.")
    for rule in inherited.items:
        more = grown.pop(rule.field, None) if isinstance(rule, Transitions) else None
        yield rule if more is None else _grown(cls, base, cast("Transitions", rule), more)
    if grown:
        field = next(iter(grown))
        _wrong(cls, f".{field} has no state machine to add to.", f"Name a field of {base.__name__} that has.", field)
    yield from (r for r in own.items if not isinstance(r, Statuses))


def _grown(cls: type[Entity], base: type[Entity], rule: Transitions, more: Statuses) -> Transitions:
    """The state machine with the states that are added.

    They are stops on ways that are there: wherever one can come from, one could go on to where it leads without it.
    So none opens a way that the domain keeps shut. What every state may become (a person's erasure, say) they may too.
    """
    field, enum = rule.field, spec_of(base).fields[rule.field]
    if not rule.open or enum.maintained:
        _wrong(
            cls,
            f".{field}: other rules of {base.__name__} hang on which states there are.",
            "Declare a state of your own: an enum field with a default, and Transitions for it.",
            field,
        )
    fresh = states_of(cls, field)
    known = {str(m.value) for m in enum.python}
    ways = {str(a.value): tuple(str(b.value) for b in to) for a, to in more.steps.items()}
    if not all(isinstance(s, enum.python) for a, to in more.steps.items() for s in (a, *to)):
        _wrong(cls, f".{field}: a step names a state of another enum.", f"Name those of {enum.python.__name__}.", field)
    for source, targets in ways.items():
        for a, b in ((source, t) for t in targets):
            if {a, b} - known - fresh.keys():
                _wrong(cls, f".{field}: {b} is a state of nobody.", f"Make it: added({enum.python.__name__}, ...).")
            if {a, b} <= known:
                _wrong(cls, f".{field}: a step from {a} to {b} is the domain's to allow.", "Lead it over a new state.")
            if ({a, b} & known) - set(rule.open):
                _wrong(
                    cls,
                    f".{field}: {a} to {b} touches a state that rules hang on.",
                    f"New states lie between {', '.join(rule.open)}.",
                )
    for start in (s for s in ways if s in known):
        for end in _reached(start, ways, known):
            if end != start and end not in rule.steps.get(start, ()):
                _wrong(
                    cls,
                    f".{field} would lead from {start} to {end}, where the domain knows no way.",
                    "Lead new states back to where they were entered, or on to where one could go from there at once.",
                )
    always = set.intersection(*(set(to) for to in rule.steps.values() if to))
    steps: dict[str, tuple[str, ...]] = dict(rule.steps)
    for state in (*rule.steps, *fresh):
        last = sorted(always) if state in fresh else ()
        steps[state] = tuple(dict.fromkeys((*rule.steps.get(state, ()), *ways.get(state, ()), *last)))
    made = Transitions(field, {}, initial=())
    for name, value in (("steps", steps), ("initial", rule.initial), ("open", rule.open)):
        object.__setattr__(made, name, value)
    return made


def _reached(start: str, ways: Mapping[str, tuple[str, ...]], known: set[str]) -> set[str]:
    """The domain's states that one comes to from one of them over new ones."""
    seen: set[str] = set()
    left = list(ways[start])
    while left:
        state = left.pop()
        if state not in seen:
            seen.add(state)
            left.extend(ways.get(state, ()) if state not in known else ())
    return seen & known


def states_of(cls: type[Entity], field: str) -> dict[str, Enum]:
    """The states that a class adds to a field, by their text."""
    own = _own(cls)
    rules = [r for r in own.items if isinstance(r, Statuses) and r.field == field] if own.extends else []
    named = [s for r in rules for a, to in r.steps.items() for s in (a, *to)]
    return {str(s.value): s for s in named if _ADDED.get((cast("Any", type(s)), str(s.value))) is s}


def field_of(cls: type[Entity], field: FieldSpec) -> FieldSpec:
    """A field as an extension has it: with the states it adds, and what rows hold that nobody gave a value.

    Operations of the library, and processes that do not know the extension, make rows without its columns.
    """
    base = base_of(cls)
    if base is None:
        return field
    if field.name in base.__struct_fields__:
        return replace(field, added=tuple(states_of(cls, field.name).values())) if field.kind is Kind.ENUM else field
    name = field.name
    if field.maintained:
        _wrong(cls, f".{name}: only the domain's own triggers maintain columns.", "Drop Maintained().", name)
    if field.kind is Kind.MONEY and field.asset_column == "asset":
        _wrong(
            cls,
            f".{name} would share the row's asset.",
            "Declare Annotated[Money, OwnAsset()] | None = None.",
            name,
        )
    default = _default(cls, name)
    if default is None and field.optional:
        return field
    literal = None if default is msgspec.NODEFAULT or field.sealed else _literal(field, default)
    if literal is None:
        _wrong(
            cls,
            f".{name} has no value for rows that are there, or made without it.",
            "Make it optional: X | None = None; a text, number, bool, date, enum or document may have a default.",
            name,
        )
    try:
        plain(field, default, NIL)
    except Invalid as problem:
        _wrong(cls, f".{name} begins with what it cannot hold: {problem.problem}", "Give it a default that fits.", name)
    for rule in _own(cls).items:
        if isinstance(rule, Transitions) and rule.field == name and str(default) not in rule.initial:
            _wrong(cls, f".{name} does not begin in its default.", "Name the default in initial=[...].", name)
    return replace(field, columns=(replace(field.columns[0], default=literal), *field.columns[1:]))


def whole(made: EntitySpec) -> EntitySpec:
    """A declaration; that of an extension with every index and key of what it extends, none of them another's.

    Processes without the extension, and the domain's own revisions, count on them.
    """
    if made.extends is None:
        return made
    base, indexes = spec_of(made.extends), {i.name: i for i in made.indexes}
    if made.archivable != base.archivable:
        _wrong(
            made.cls, f".archived_at would archive rows of {base.name}.", "Name your field otherwise.", "archived_at"
        )
    for index in base.indexes:
        if indexes.setdefault(index.name, index) != index:
            _wrong(
                made.cls,
                f" brings a rule on {', '.join(index.fields)}, on which {base.name} has one.",
                "Leave it out, or add a field of yours to it.",
                index.fields[0],
            )
    for key in base.foreign_keys:
        if key not in made.foreign_keys:
            field = key.columns[1].removesuffix("_id")
            _wrong(made.cls, f".{field} has its key.", "Tie a reference of your own to further fields.", field)
    return replace(made, indexes=tuple(indexes.values()))


def _default(cls: type[Entity], name: str) -> Any:
    declared: Any = cls
    found = next(f for f in msgspec.structs.fields(declared) if f.name == name)
    return found.default if found.default_factory is msgspec.NODEFAULT else found.default_factory()


def _literal(field: FieldSpec, value: Any) -> str | None:
    """A default as SQL writes it; None for what a row cannot hold by default."""
    if field.kind in (Kind.TEXT, Kind.ENUM):
        return quote(str(value.value if isinstance(value, Enum) else value))
    if field.kind in (Kind.INTEGER, Kind.DECIMAL):
        number: int | Decimal = value
        return str(number)
    if field.kind is Kind.BOOLEAN:
        return str(value).lower()
    if field.kind is Kind.DATE and isinstance(value, date):
        return quote(value.isoformat())
    return quote(msgspec.json.encode(value).decode()) if field.kind is Kind.JSON else None


def extensions(entities: Iterable[type[Entity]]) -> dict[type[Entity], type[Entity]]:
    """The extension of each entity that has one. Raises ``Declaration`` for two of one entity."""
    found: dict[type[Entity], type[Entity]] = {}
    for entity in entities:
        base = spec_of(entity).extends
        if base is None:
            continue
        other = found.setdefault(base, entity)
        if other is not entity:
            _wrong(
                entity,
                f" and {other.__name__} both extend {base.__name__}.",
                "Put the fields of both into one class: a row is decoded into one.",
            )
    return found


def living(entities: Iterable[type[Entity]]) -> tuple[type[Entity], ...]:
    """The entities, those left out in whose place an extension stands. Raises ``Declaration``."""
    given = tuple(dict.fromkeys(entities))
    replaced = extensions(given)
    missing = next((b for b in replaced if b not in given), None)
    if missing is not None:
        _wrong(
            replaced[missing],
            f" extends {missing.__name__}, which this application does not have.",
            "Choose its domain: Tallystick.open(domains=[...]), or name it in entities.",
        )
    return tuple(e for e in given if e not in replaced)


def extended(spec: EntitySpec, entity: E) -> E:
    """An entity as its extension has it: operations of the library make plain ones. Its columns have their defaults."""
    if entity.__class__ is not spec.extends:
        return entity
    make: Any = spec.cls
    return cast("E", make(**{name: getattr(entity, name) for name in entity.__struct_fields__}))


def is_plain(spec: EntitySpec, entity: object) -> bool:
    """Whether an entity is of the class that this one extends, and so knows nothing of its columns."""
    return spec.extends is not None and entity.__class__ is spec.extends


__all__ = [
    "added", "base_of", "extended", "extensions", "field_of", "is_plain", "living", "rules_of", "states_of", "whole"
]  # fmt: skip
