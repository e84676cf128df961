"""A plausible value for any field: within its length, digits and simple checks, and never the same twice."""

from __future__ import annotations

import random
import re
import types
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin
from uuid import UUID

import msgspec

from tallystick.errors import Invalid
from tallystick.money import Money
from tallystick.privacy.sealed import secret
from tallystick.spec import EntitySpec, FieldSpec, Kind

_FIRST = ("Ada", "Amina", "Chidi", "Chen", "Elif", "Ines", "Juma", "Kofi", "Lena", "Mateo", "Noor", "Zoë")
_LAST = ("Okafor", "Silva", "Mwangi", "Novak", "García", "Haddad", "Jensen", "Kaya", "Lindqvist", "Moreau", "Tanaka")
_DAWN = datetime(2026, 1, 1, 9, tzinfo=UTC)
_LOW, _HIGH = 1, 1_000
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


class Guesses:
    """Values drawn from one seed. ``number`` counts what was drawn, which is what keeps unique values apart."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311  repeatable on purpose
        self._number = 0

    def value(self, spec: EntitySpec, field: FieldSpec, asset: str = "USD") -> Any:
        """A value for one field; references are the caller's business."""
        self._number += 1
        kind = field.kind
        if field.sealed:
            plain = self._person(field) if field.inner is str else self.plain(field.inner, field.name)
            return secret(plain) if kind is Kind.SECRET else plain
        low, high = _bounds(spec, field)
        if kind is Kind.TEXT:
            text = f"{field.name.replace('_', ' ')} {self._number}"
            named = any(f"{field.column} ~ '^[a-z]" in c.sql for c in spec.checks)
            return self._text(field, text.replace(" ", "_") if named else text)
        if kind is Kind.INTEGER:
            return self._within(low, high)
        if kind is Kind.MONEY:
            return Money(self._within(low, high, scale=100), asset)
        if kind is Kind.CHAIN:
            return self._within(low, high, scale=10**15)
        if kind is Kind.LEDGER:
            return self._within(low, high, scale=100)
        if kind is Kind.DECIMAL:
            return self._decimal(field, low, high)
        if kind is Kind.ENUM:
            return self._member(spec, field)
        if kind is Kind.BYTES:
            return self._random.randbytes(_octets(spec, field)[0])
        return self.plain(field.python, field.name)

    def member(self, field: FieldSpec) -> Any:
        """Any member of an enum, or either truth value."""
        return self._random.choice([False, True] if field.kind is Kind.BOOLEAN else list(field.python))

    def plain(self, hint: Any, name: str) -> Any:
        """A value of a Python type, inside a document or a sealed field."""
        origin, number = get_origin(hint), self._number
        if origin is Annotated:
            return self.plain(get_args(hint)[0], name)
        if origin in (Union, types.UnionType):
            return None if type(None) in get_args(hint) else self.plain(get_args(hint)[0], name)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return next(iter(hint))
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            needed = [f for f in msgspec.structs.fields(hint) if f.required]
            return hint(**{f.name: self.plain(f.type, f.name) for f in needed})
        made = {
            str: f"{name} {number}",
            int: number,
            bool: False,
            Decimal: Decimal(number),
            datetime: _DAWN + timedelta(minutes=number),
            date: (_DAWN + timedelta(days=number)).date(),
            bytes: self._random.randbytes(8),
            UUID: UUID(int=self._random.getrandbits(128), version=4),
            dict: {},
            list: [],
            Any: {},
        }
        known = origin if origin in (dict, list) else hint
        if known not in made:
            raise Invalid(f"No value can be made up for {name}.", field=name, remedy=f"Give it: make(..., {name}=...).")
        return made[known]

    def _person(self, field: FieldSpec) -> str:
        number, pick = self._number, self._random
        normal = field.search or ""
        if normal == "email" or "email" in field.name:
            made = f"{pick.choice(_FIRST).lower().replace('ë', 'e')}.{number}@example.org"
        elif normal == "phone" or "phone" in field.name:
            # 555-01xx is set aside for fiction; the number goes where an area code would be.
            made = f"+1{200 + number // 100 % 800:03}55501{number % 100:02}"
        elif normal == "digits":
            made = f"{pick.randrange(100, 899)}{number % 1_000_000:06}"
        elif normal == "name" or "name" in field.name:
            whole = {"first_name": pick.choice(_FIRST), "last_name": pick.choice(_LAST)}
            made = whole.get(field.name) or f"{pick.choice(_FIRST)} {pick.choice(_LAST)} {_letters(number)}"
        else:
            made = f"{field.name.replace('_', ' ')} {number}"
        return self._text(field, made)

    def _text(self, field: FieldSpec, wanted: str) -> str:
        most = field.max_length
        if most is not None and len(wanted) > most:
            mark = _base36(self._number)
            wanted = mark[-most:].rjust(min(most, 8), "0")[-most:] if most else ""
        return wanted.ljust(field.min_length, "x")

    def _within(self, low: int | None, high: int | None, scale: int = 1) -> int:
        bottom = low if low is not None else _LOW if high is None or high >= _LOW else high - _HIGH
        top = high if high is not None else max(bottom, 0) + _HIGH * scale
        if top - bottom >= _HIGH:
            # Steps through the range, so that many draws in a row all differ.
            return bottom + (self._number * scale + self._random.randrange(scale)) % (top - bottom + 1)
        return bottom + self._number % (top - bottom + 1)

    def _decimal(self, field: FieldSpec, low: int | None, high: int | None) -> Decimal:
        scale, whole = field.scale or 0, (field.precision or 38) - (field.scale or 0)
        bottom = Decimal(low if low is not None else 0)
        top = Decimal(high) if high is not None else bottom + min(10 ** max(whole, 0), 10) - Decimal(1).scaleb(-scale)
        steps = int((top - bottom).scaleb(min(scale, 4)))
        return bottom + Decimal(self._random.randint(0, max(steps, 0))).scaleb(-min(scale, 4))

    def _member(self, spec: EntitySpec, field: FieldSpec) -> Any:
        machine = next((t for t in spec.transitions if t.field == field.name), None)
        if machine is not None:
            return field.python(machine.initial[0])
        listed = re.compile(rf"\b{field.column}\s+in\s*\(([^)]*)\)", re.IGNORECASE)
        for check in spec.checks:
            found = listed.search(check.sql)
            if found and len(allowed := re.findall(r"'([^']*)'", found.group(1))) < len(field.python):
                return field.python(allowed[0])
        return next(iter(field.python))


def _bounds(spec: EntitySpec, field: FieldSpec) -> tuple[int | None, int | None]:
    """What simple checks say of a number: ``x between 1 and 9``, ``x >= 0``, ``x < 100``."""
    low: list[int] = []
    high: list[int] = []
    name = rf"(?<!\w)(?<!\(){re.escape(field.column)}\s*"
    for check in spec.checks:
        for a, b in re.findall(rf"{name}between\s+(-?\d+)\s+and\s+(-?\d+)", check.sql, re.IGNORECASE):
            low.append(int(a))
            high.append(int(b))
        for sign, limit in re.findall(rf"{name}(>=|<=|>|<)\s*(-?\d+)(?![.\d])", check.sql):
            step = {">=": 0, "<=": 0, ">": 1, "<": -1}[sign]
            (low if ">" in sign else high).append(int(limit) + step)
    return (max(low) if low else None), (min(high) if high else None)


def _octets(spec: EntitySpec, field: FieldSpec) -> tuple[int, int]:
    pattern = rf"octet_length\({re.escape(field.column)}\)\s*(?:between\s+(\d+)\s+and\s+(\d+)|=\s*(\d+))"
    for check in spec.checks:
        found = re.search(pattern, check.sql, re.IGNORECASE)
        if found:
            low, high, exact = found.groups()
            return (int(exact), int(exact)) if exact else (int(low), int(high))
    return 16, 16


def _base36(number: int) -> str:
    text = ""
    while number or not text:
        number, digit = divmod(number, 36)
        text = _ALPHABET[digit] + text
    return text


def _letters(number: int) -> str:
    text = ""
    while number or not text:
        number, letter = divmod(number, 26)
        text = chr(ord("A") + letter) + text
    return text
