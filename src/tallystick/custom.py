"""Custom fields on their way to a row: each value judged by what the tenant defined, before anything is stored."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeVar

from tallystick.constraints import CUSTOM_BYTES
from tallystick.errors import Invalid
from tallystick.extension import extended
from tallystick.spec import EntitySpec, FieldSpec

if TYPE_CHECKING:
    from tallystick.domains.identity.custom_fields import CustomField
    from tallystick.entity import Entity
    from tallystick.repository import Repository

E = TypeVar("E", bound="Entity")
LONGEST = 10_000
"""The most characters a custom text has."""
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""What a custom field is called."""
_DIGITS = 60
_BIGINT = 2**63
_PROMOTED = {str: ("text", "choice", "date", "decimal"), int: ("integer",), bool: ("boolean",)}


async def adapted(repository: Repository[E], entities: Sequence[E]) -> list[E]:
    """Entities that are about to be stored: of the class this application has, their custom fields judged.

    Raises ``Invalid`` with the field's name.
    """
    spec = repository.spec
    # Operations of the library make plain ones, and could give nothing that a tenant requires.
    whole = [e for e in entities if e.__class__ is spec.cls] if spec.custom else []
    if whole:
        defined = await _defined(repository)
        for entity in whole:
            for name in spec.custom:
                _judge(spec, spec.fields[name], getattr(entity, name), defined)
    return [extended(spec, e) for e in entities]


async def judged(repository: Repository[Any], changes: Mapping[str, Any], before: Any = None) -> None:
    """Judge the documents of custom fields among changes. Raises ``Invalid`` with the field's name.

    A value of a field that was retired may stay as it was ``before``, so that one can read, change another, and write.
    """
    spec = repository.spec
    names = [n for n in spec.custom if n in changes]
    if not names:
        return
    defined = await _defined(repository)
    for name in names:
        _judge(spec, spec.fields[name], changes[name], defined, getattr(before, name, None))


async def _defined(repository: Repository[Any]) -> dict[str, CustomField]:
    from tallystick.domains.identity.custom_fields import CustomField

    rows = await repository.db[CustomField].find(CustomField.entity == repository.spec.table)
    return {row.name: row for row in rows}


def _judge(
    spec: EntitySpec, field: FieldSpec, document: Any, defined: Mapping[str, CustomField], before: Any = None
) -> None:
    given: Any = {} if document is None and field.optional else document
    if given.__class__ is not dict or not all(isinstance(k, str) for k in given):
        raise _wrong(spec, field, "", "should be a dict with the names of custom fields", "Write custom={...}.")
    for name, value in given.items():
        one = defined.get(name)
        if one is None or one.retired:
            if one is not None and isinstance(before, dict) and name in before and before[name] == value:
                continue
            known = ", ".join(sorted(n for n, d in defined.items() if not d.retired and d.personal == field.sealed))
            raise _wrong(spec, field, name, "is no custom field here", f"Custom fields are: {known or 'none yet'}.")
        if one.personal != field.sealed:
            remedy = "Put it where personal values are sealed (PersonalCustom)." if one.personal else "Keep it apart."
            raise _wrong(spec, field, name, "is in the wrong document", remedy)
        _fits(spec, field, one, value)
    for name, one in defined.items():
        if one.required and not one.retired and one.personal == field.sealed and name not in given:
            raise _wrong(spec, field, name, "has no value and needs one", "Give it one.")
    if given and len(json.dumps(given, ensure_ascii=False).encode()) > CUSTOM_BYTES:
        raise _wrong(spec, field, "", f"is larger than {CUSTOM_BYTES} bytes", "Keep files and long texts elsewhere.")


def _fits(spec: EntitySpec, field: FieldSpec, one: CustomField, value: Any) -> None:
    kind, low, high = one.type.value, one.minimum, one.maximum
    problem = ""
    if kind == "boolean":
        problem = "" if value.__class__ is bool else "should be true or false"
    elif kind == "integer":
        problem = "" if value.__class__ is int and -_BIGINT <= value < _BIGINT else "should be a whole number"
        problem = problem or _between(value, low, high)
    elif value.__class__ is not str:
        problem = "should be text"
    elif not _is_text(value):
        problem = "is not text a database can hold"
    elif kind == "choice":
        problem = "" if value in one.choices else f"should be one of {', '.join(one.choices)}"
    elif kind == "date":
        problem = "" if _date(value) else "should be a date, written 2026-01-31"
    elif kind == "decimal":
        number = _decimal(value)
        problem = "should be a number in text, written 12.50" if number is None else _between(number, low, high)
    else:
        shortest, longest = low or 0, LONGEST if high is None else high
        problem = "" if shortest <= len(value) <= longest else f"should have {shortest} to {longest} characters"
    if not problem and kind not in _PROMOTED.get((field.promoted or {}).get(one.name, object), (kind,)):
        problem = "is of another type than the column it was promoted to"
    if problem:
        raise _wrong(spec, field, one.name, problem, "Nothing is converted, cut or rounded silently.")


def fits_promoted(fields: Iterable[FieldSpec], name: str, kind: str) -> bool:
    """Whether a custom field of that name and type can go where an entity promotes the name, if it does."""
    wanted = [f.promoted[name] for f in fields if f.promoted and name in f.promoted]
    return all(kind in _PROMOTED[python] for python in wanted)


def _between(value: int | Decimal, low: int | None, high: int | None) -> str:
    if low is not None and value < low:
        return f"should be {low} or more"
    return f"should be {high} or less" if high is not None and value > high else ""


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _date(value: str) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def _decimal(value: str) -> Decimal | None:
    try:
        found = Decimal(value) if len(value) <= _DIGITS and value.isascii() and "_" not in value else None
    except InvalidOperation:
        return None
    return found if found is not None and found.is_finite() and value.strip() == value else None


def _wrong(spec: EntitySpec, field: FieldSpec, name: str, problem: str, remedy: str) -> Invalid:
    # Names come from outside too: only what could be one is repeated.
    shown = name if NAME.fullmatch(name) else ""
    place = f"{field.name}.{shown}" if shown else field.name
    subject = f"{spec.name}.{place}" if shown or not name else f"{spec.name}.{field.name}: a name"
    return Invalid(f"{subject} {problem}.", field=place, entity=spec.name, remedy=remedy)
