"""What stands in the audit log, as values: entries that come out, events that go in."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from tallystick.errors import Invalid

OPS = {
    "I": "inserted",
    "U": "updated",
    "D": "deleted",
    "E": "event",
    "R": "read",
    "B": "baseline",
    "P": "bodies dropped by policy",
    "S": "state of the schema",
}
"""What happened, by the letter that the log keeps."""
DOCUMENT = 65_536
"""How long each document of an event may be, in bytes of JSON."""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a tenant's log.

    ``seq`` counts over the whole installation, so a tenant's numbers have gaps. ``op`` is a key of ``OPS``; ``table``
    and ``key`` say what it is about. ``actor``, ``reason`` and ``request`` are what the session said, ``role`` is
    whom the server knew. ``old`` and ``new`` are the row's columns before and after as JSON values (numbers exact,
    what is sealed as its ciphertext in hex); other entries have an ``event`` instead. ``body`` is the exact text that
    is hashed.
    """

    seq: int
    xid: int
    at: datetime
    table: str
    op: str
    key: str
    actor: str | None = None
    reason: str | None = None
    request: str | None = None
    role: str
    old: dict[str, Any] | None = None
    new: dict[str, Any] | None = None
    event: dict[str, Any] | None = None
    body: str

    @property
    def changed(self) -> tuple[str, ...]:
        """The columns that an update changed, without those that change with every update."""
        if self.old is None or self.new is None:
            return ()
        kept = ("version", "updated_at", "updated_by")
        return tuple(n for n in self.new if n not in kept and self.old.get(n, _MISSING) != self.new[n])


_MISSING: Any = object()
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


def entry_of(body: str) -> AuditEntry:
    """An entry from its body, which says everything that its columns do."""
    found: dict[str, Any] = _decode(body)
    found.pop("tenant")
    found["at"] = datetime.fromisoformat(found["at"])
    return AuditEntry(**found, body=body)


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an application says happened: a decision of a model, a document sent, a login, a check passed.

    ``type`` ("decision.made") and ``category`` ("decision") name it, and ``service`` says which program speaks.
    ``application`` is the loan application that it is about; any other subject goes into ``table`` and ``key``.
    ``regulation`` and ``requirement`` say which rule asks for the record ("ECOA", "1002.9(a)(1)"), ``retention``
    which class of the retention policy it falls under. ``confidence`` is a percentage with two decimals.
    ``happened_at`` is for events that are told later; the log has its own time beside it. ``ip`` and ``user_agent``
    are about a person and stay in the log as long as its bodies do: give them only where a rule asks for them.

    Raises ``Invalid`` for what is missing, too long or of another type, and never says what was given.
    """

    type: str
    category: str
    service: str
    description: str | None = None
    application: UUID | None = None
    table: str = ""
    key: str = ""
    decision: str | None = None
    risk_score: int | None = None
    confidence: Decimal | None = None
    user_role: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    service_version: str | None = None
    environment: str | None = None
    data: Mapping[str, Any] | None = None
    previous_state: Mapping[str, Any] | None = None
    new_state: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    requirement: str | None = None
    regulation: str | None = None
    retention: str | None = None
    happened_at: datetime | None = None

    def written(self) -> str:
        """The event as the JSON document that is recorded, without what it leaves out."""
        found: dict[str, Any] = {}
        for name, most in _TEXTS.items():
            if (value := getattr(self, name)) is not None or name in _REQUIRED:
                found[name] = _text(name, value, most, least=1 if name in _REQUIRED else 0)
        for name in _DOCUMENTS:
            if (value := getattr(self, name)) is not None:
                found[name] = _document(name, value)
        if self.application is not None:
            found["application"] = _of(UUID, "application", self.application)
        if self.risk_score is not None:
            found["risk_score"] = _number(self.risk_score)
        if self.confidence is not None:
            found["confidence"] = _percentage(self.confidence)
        if self.ip is not None:
            found["ip"] = _address(self.ip)
        if self.happened_at is not None:
            found["happened_at"] = _moment(self.happened_at)
        return _encode(found)

    @property
    def subject(self) -> tuple[str, str]:
        """The logical table and the key that the entry stands under."""
        table, key = _text("table", self.table, 63), _text("key", self.key, 200)
        if not table and self.application is not None:
            return "application", str(self.application)
        return table or "event", key


_REQUIRED = ("type", "category", "service")
_TEXTS = {
    "type": 100,
    "category": 50,
    "service": 100,
    "description": 2_000,
    "decision": 20,
    "user_role": 50,
    "user_agent": 500,
    "service_version": 50,
    "environment": 20,
    "requirement": 100,
    "regulation": 50,
    "retention": 63,
}
_DOCUMENTS = ("data", "previous_state", "new_state", "metadata")


def _wrong(name: str, should: str) -> Invalid:
    return Invalid(f"AuditEvent.{name} should be {should}.", field=name, entity="AuditEvent", remedy="Check the event.")


def _text(name: str, value: Any, most: int, *, least: int = 0) -> str:
    if not isinstance(value, str) or not least <= len(value) <= most or "\0" in value or not _is_unicode(value):
        raise _wrong(name, f"text of {least} to {most} characters")
    return value


def _is_unicode(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _of(kind: type, name: str, value: Any) -> Any:
    if not isinstance(value, kind):
        raise _wrong(name, f"a {kind.__name__}")
    return value


def _number(value: Any) -> int:
    if value.__class__ is not int or not -(2**31) <= value < 2**31:
        raise _wrong("risk_score", "a whole number")
    return int(value)


def _percentage(value: Any) -> Decimal:
    if not isinstance(value, Decimal) or not value.is_finite() or not 0 <= value <= 100:
        raise _wrong("confidence", "a Decimal from 0 to 100")
    return value.quantize(Decimal("0.01"))


def _address(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(value)) if isinstance(value, str) else _refuse_address()
    except ValueError:
        pass
    return _refuse_address()


def _refuse_address() -> str:
    raise _wrong("ip", "an IPv4 or IPv6 address")


def _moment(value: Any) -> str:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _wrong("happened_at", "a datetime with a time zone")
    return value.astimezone(UTC).isoformat()


def _document(name: str, value: Any) -> msgspec.Raw:
    text = None
    if isinstance(value, Mapping):
        try:
            text = _encode(dict(value))
        except (TypeError, ValueError, OverflowError, RecursionError):
            text = None
    if text is None or "\\u0000" in text:
        raise _wrong(name, "a mapping of plain values (text, numbers, dates, ids, lists, mappings)")
    if len(text.encode()) > DOCUMENT:
        raise _wrong(name, f"at most {DOCUMENT} bytes of JSON")
    return msgspec.Raw(text.encode())


_encoder = msgspec.json.Encoder(decimal_format="number").encode


def _encode(value: Any) -> str:
    return _encoder(value).decode()
