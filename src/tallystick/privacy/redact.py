"""Redaction of logs: what is personal by its declaration, or looks it, does not get into a line.

A last net and not the first: nothing of Tallystick logs a value. It is for lines that an application writes itself.
``RedactingFilter`` is for ``logging``, ``redacting_processor`` for structlog (a processor is a function of three
arguments, so nothing has to be installed).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final

from tallystick.entity import Entity, spec_of
from tallystick.privacy.sealed import Secret

REDACTED: Final = "[redacted]"
_ALWAYS: Final = frozenset(
    {"password", "passwd", "secret", "token", "authorization", "cookie", "api_key", "key_material", "dsn"}
)
_EMAIL: Final = re.compile(r"[^\s@<>\"'=,;:()]+@[^\s@<>\"'=,;:()]+\.[^\s@<>\"'=,;:()]+")
# Nine digits and more with the separators that numbers of people, cards and telephones have; not ids in hexadecimal.
_NUMBER: Final = re.compile(r"(?<![0-9A-Za-z-])\+?\d(?:[ ().-]{0,2}\d){8,}(?![0-9A-Za-z-])")
_URL: Final = re.compile(r"(?<=://)[^/\s@]+@")
_DEEP: Final = 8
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def personal_names(entities: Iterable[type[Entity]]) -> frozenset[str]:
    """The names of every sealed field of these entities."""
    return frozenset(f.name for e in entities for f in spec_of(e).fields.values() if f.sealed)


class Redactor:
    """Redacts values by the names they are logged under, and texts by what looks personal in them."""

    __slots__ = ("_names",)

    def __init__(self, entities: Iterable[type[Entity]] = ()) -> None:
        self._names = personal_names(entities) | _ALWAYS

    def text(self, text: str) -> str:
        """A text without e-mail addresses, credentials of URLs and long numbers."""
        return _NUMBER.sub(REDACTED, _EMAIL.sub(REDACTED, _URL.sub(f"{REDACTED}@", text)))

    def value(self, value: Any, name: str = "", depth: int = 0) -> Any:
        """A value as it may be logged: entities and secrets by their repr, mappings without what is personal."""
        if name.lower() in self._names and value is not None:
            return REDACTED
        if depth > _DEEP:
            return REDACTED
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (Entity, Secret)):
            return repr(value)
        if isinstance(value, Mapping):
            return {self._key(k): self.value(v, str(k), depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.value(v, "", depth + 1) for v in value]
        if isinstance(value, (bytes, bytearray)):
            return REDACTED
        return value

    def _key(self, key: Any) -> Any:
        return self.text(key) if isinstance(key, str) else key


class RedactingFilter(logging.Filter):
    """Put it on a handler: ``handler.addFilter(RedactingFilter(entities))``. It changes records and drops none.

    On a handler and not on a logger, because a logger's filters do not see the records of its children.
    """

    def __init__(self, entities: Iterable[type[Entity]] = ()) -> None:
        super().__init__()
        self._redactor = Redactor(entities)

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the message, what was passed as ``extra``, and the text of an exception."""
        redact = self._redactor
        if not isinstance(record.msg, str):
            # A mapping or an object in place of a message.
            record.msg = redact.value(record.msg)
        if isinstance(record.args, Mapping):
            record.args = redact.value(record.args)
        elif record.args:
            record.args = tuple(a if isinstance(a, (int, float)) else redact.value(a) for a in record.args)
        try:
            message = record.getMessage()
        except Exception:
            # The arguments do not fit the message, what is redacted was to be written as a number, or an object has no
            # text; a filter that raised would do so into whoever logs.
            message = f"{record.msg if isinstance(record.msg, str) else ''} {REDACTED}"
        record.msg, record.args = redact.text(message), None
        if record.exc_info or record.exc_text:
            # Another handler may have written it out already, with everything.
            text = record.exc_text
            if not text and isinstance(record.exc_info, tuple):
                text = logging.Formatter().formatException(record.exc_info)
            record.exc_text = redact.text(text or "")
        for name in set(vars(record)) - _STANDARD:
            setattr(record, name, redact.value(getattr(record, name), name))
        return True


def redacting_processor(
    entities: Iterable[type[Entity]] = (),
) -> Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]:
    """A structlog processor that redacts an event; put it before the renderer."""
    redactor = Redactor(entities)

    def process(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name in list(event):
            event[name] = redactor.value(event[name], name)
        return event

    return process
