"""Errors as problem documents (RFC 9457): what went wrong, by code, and never a value of anybody."""

from __future__ import annotations

import inspect
import logging
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec

from tallystick import errors as e

log = logging.getLogger("tallystick.web")
MEDIA_TYPE = "application/problem+json"
TYPE = "urn:tallystick:problem:{code}"
"""Where ``type`` points; ``docs/errors.md`` has a row for each code."""
REFUSED = "The request cannot be answered so; `code` and `remedy` say why."
NOT_NOW = "Not now; try again after `Retry-After`."
_NAME = re.compile(r"[a-z][a-z0-9_]{0,58}")
_BEARER = {"WWW-Authenticate": "Bearer"}
_SOON = {"Retry-After": "1"}
_LATER = {"Retry-After": "60"}
_STATUS: dict[type[e.TallystickError], tuple[int, dict[str, str]]] = {
    e.NotFound: (404, {}),
    e.Serialization: (503, _SOON),
    e.Conflict: (409, {}),
    e.InvalidTransition: (409, {}),
    e.TenantMissing: (500, {}),
    e.LoginRefused: (401, _BEARER),
    e.Denied: (403, {}),
    e.Erased: (410, {}),
    e.Declaration: (500, {}),
    e.Invalid: (422, {}),
    e.InsufficientFunds: (409, {}),
    e.QuotaExceeded: (429, _LATER),
    e.NotMigrated: (503, _LATER),
    e.NotProvisioned: (503, _LATER),
    e.StorageFull: (503, _LATER),
    e.Unavailable: (503, _SOON),
    e.Unsupported: (501, {}),
}


class Mistake(msgspec.Struct, frozen=True, omit_defaults=True):
    """One wrong part of a request: where, and what about it."""

    where: str
    problem: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document. ``code`` is stable, ``remedy`` says what to do, ``field`` names what was wrong."""

    type: str
    title: str
    status: int
    code: str = ""
    detail: str = ""
    remedy: str = ""
    field: str = ""
    mistakes: tuple[Mistake, ...] = ()


def problem_of(error: e.TallystickError, *, conditional: bool = False) -> tuple[Problem, dict[str, str]]:
    """The document and headers of an error.

    ``conditional`` says that the request had an ``If-Match``: a version that is no longer the row's is then 412, as
    HTTP asks, and 409 otherwise. What went wrong on the server's side is told by code alone, and in whole to the logger
    ``tallystick.web``.
    """
    kind = type(error)
    status, headers = next((_STATUS[k] for k in kind.__mro__ if k in _STATUS), (500, {}))
    if isinstance(error, e.QuotaExceeded) and error.until is not None:
        left = (error.until - datetime.now(UTC)).total_seconds()
        headers = {"Retry-After": str(max(1, math.ceil(left)))}
    if conditional and isinstance(error, e.StaleVersion):
        status = 412
    ours = status >= 500
    if ours:
        log.log(logging.ERROR if status == 500 else logging.WARNING, "Answered %d: %s", status, error)
    field = getattr(error, "field", "")
    found = Problem(
        type=TYPE.format(code=error.code),
        title=inspect.cleandoc(kind.__doc__ or kind.__name__).split("\n")[0],
        status=status,
        code=error.code,
        detail="" if ours else error.problem,
        remedy="" if ours else error.remedy,
        field=field if not ours and _NAME.fullmatch(field) else "",
    )
    return found, dict(headers)


def refused(status: int, detail: Any = "") -> Problem:
    """The document of a refusal by the framework, or by a handler that raises the framework's own exception."""
    title = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error"
    said = detail if isinstance(detail, str) and detail != title else ""
    return Problem(type="about:blank", title=title, status=status, detail=said)


def unreadable(mistakes: Iterable[Mistake], status: int = 422) -> Problem:
    """The document of a request that a framework could not read, without what it read."""
    found = tuple(mistakes)
    return Problem(
        type=TYPE.format(code=e.Invalid.code),
        title="The request is not what this operation takes.",
        status=status,
        code=e.Invalid.code,
        detail="; ".join(f"{m.where}: {m.problem}" for m in found[:20]),
        remedy="Correct what is named and send it again; nothing was written.",
        mistakes=found[:20],
    )


def place(parts: Iterable[Any]) -> str:
    """Where in a request something is, of names that a declaration may have; what a client made up is left out."""
    return ".".join(str(p) for p in parts if isinstance(p, int) or (isinstance(p, str) and _NAME.fullmatch(p)))


def encode(problem: Problem) -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(problem)
