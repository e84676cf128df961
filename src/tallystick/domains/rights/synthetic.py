"""Synthetic values: in place of a personal one, of the same form, and the same for the same value in one run.

What is made depends on the run's key, the column and the value, so that equal values stay equal and nobody without the
key can try names until one fits. Letters become letters and digits digits; lengths and punctuation stay, and what
is written as a date is one still.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tallystick.errors import Invalid, Unsupported
from tallystick.spec import FieldSpec

if TYPE_CHECKING:
    from tallystick.domains.identity.custom_fields import CustomField

_FIRST: Final = date(1940, 1, 1).toordinal()
_DAYS: Final = 365 * 60
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SMALL, _LARGE = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Synthetic:
    """Makes synthetic values under one run's key, at least 32 bytes."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if key.__class__ is not bytes or len(key) < 32:
            raise Invalid("A run's key is at least 32 bytes.", field="key", remedy="Use os.urandom(32), and keep none.")
        self._key = key

    def value(self, table: str, field: FieldSpec, value: Any) -> Any:
        """A value for a sealed field in place of its own. Raises ``Unsupported`` for a type that cannot be made up."""
        made = self._made(f"{table}.{field.name}", value, email=field.search == "email")
        if type(made) is type(value):
            return made
        try:
            return msgspec.convert(made, field.inner)
        except msgspec.ValidationError:
            pass
        raise Unsupported(f"{table}.{field.name} is of a type for which nothing can be made up.")

    def document(self, table: str, field: FieldSpec, value: dict[str, Any], defined: Mapping[str, CustomField]) -> Any:
        """A document of custom fields in place of its own, which the tenant's definitions still fit."""
        place = f"{table}.{field.name}"
        return {n: self._fitting(f"{place}.{n}", v, defined.get(n)) for n, v in value.items()}

    def _fitting(self, place: str, value: Any, one: CustomField | None) -> Any:
        kind = "" if one is None else one.type.value
        if one is not None and kind == "choice" and isinstance(value, str):
            return one.choices[self._number(place, value) % len(one.choices)]
        made = self._made(place, value)
        if one is None or kind not in ("integer", "decimal"):
            return made
        if kind == "decimal":
            made = self._digits(place, value)
        if one.minimum is not None and Decimal(made) < one.minimum:
            return type(made)(one.minimum)
        return type(made)(one.maximum) if one.maximum is not None and Decimal(made) > one.maximum else made

    def words(self, place: str, value: Any) -> Any:
        """A readable value with its texts made up; numbers, which are measurements, stay."""
        if isinstance(value, str):
            return self._made(place, value)
        if isinstance(value, list):
            return [self.words(place, v) for v in value]
        if isinstance(value, dict):
            return {k: self.words(f"{place}.{k}", v) for k, v in value.items()}
        return value

    def raw(self, place: str, value: bytes) -> bytes:
        """As many bytes."""
        stream = self._stream(place, value)
        return bytes(next(stream) for _ in value)

    def _made(self, place: str, value: Any, *, email: bool = False) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            if _DATE.fullmatch(value) and (day := _day(value)) is not None:
                return self._made(place, day).isoformat()
            return self._email(place, value) if email else self._text(place, value)
        if isinstance(value, int):
            return int(self._digits(place, str(value)))
        if isinstance(value, datetime):
            return value - timedelta(days=self._number(place, value.isoformat()) % 3_650)
        if isinstance(value, date):
            return date.fromordinal(_FIRST + self._number(place, value.isoformat()) % _DAYS)
        if isinstance(value, (Decimal, float)):
            return type(value)(self._digits(place, str(value)))
        if isinstance(value, (list, tuple)):
            return [self._made(place, v) for v in value]
        if isinstance(value, dict):
            return {k: self._made(f"{place}.{k}", v) for k, v in value.items()}
        return self._made(place, msgspec.to_builtins(value))

    def _text(self, place: str, value: str) -> str:
        stream = self._stream(place, value.encode())
        made = []
        for character in value:
            if character.isdecimal():
                # A leading zero would make a number shorter.
                made.append(str(next(stream) % 9 + 1))
            elif character.isalpha() or unicodedata.category(character)[0] in "MN":
                # Marks too: the vowels of many scripts are such.
                letters = _LARGE if character.isupper() else _SMALL
                made.append(letters[next(stream) % 26])
            else:
                made.append(character)
        return "".join(made)

    def _digits(self, place: str, value: str) -> str:
        """A number as it is written: its sign, point and exponent stay."""
        number, mark, exponent = value.partition("E" if "E" in value else "e")
        stream = self._stream(place, value.encode())
        return "".join(str(next(stream) % 9 + 1) if c.isdecimal() else c for c in number) + mark + exponent

    def _email(self, place: str, value: str) -> str:
        # Enough of a hash that two addresses never meet, whatever unique rule there is.
        return f"masked.{self._digest(place, value.strip().casefold().encode())[:10].hex()}@example.org"

    def _number(self, place: str, value: str) -> int:
        return int.from_bytes(self._digest(place, value.encode())[:8], "big")

    def _digest(self, place: str, value: bytes, count: int = 0) -> bytes:
        return hmac.digest(self._key, b"%d\0%s\0%s" % (count, place.encode(), value), "sha256")

    def _stream(self, place: str, value: bytes) -> Iterator[int]:
        count = 0
        while True:
            yield from self._digest(place, value, count)
            count += 1


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
