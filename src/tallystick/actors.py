"""Who acts, why, and for which request: the words of a session that every change carries into the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tallystick.errors import Invalid


@dataclass(frozen=True, slots=True)
class Who:
    """Who acts, why, and for which request."""

    actor: str
    reason: str | None = None
    request_id: str | None = None


def checked_who(actor: object, reason: object = None, request_id: object = None) -> Who:
    """The words of a session, ``Invalid`` when the actor is missing or one of them is unusable."""
    return Who(
        _text(actor, "actor", 200, 'Say who acts: tally.session(tenant, actor="user:42").'),
        None if reason is None else _text(reason, "reason", 500, 'Say why: reason="hardship request 91".').strip(),
        None if request_id is None else _text(request_id, "request_id", 200, "Give the id that your web server made."),
    )


def _text(value: Any, field: str, most: int, remedy: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > most or "\0" in value:
        raise Invalid(
            f"{'An' if field == 'actor' else 'A'} {field} is 1 to {most} characters of text without NUL.",
            field=field,
            remedy=remedy,
        )
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise Invalid(
            f"The {field} is not valid Unicode text.", field=field, remedy="Decode it with the right encoding."
        )
    return value
