"""Idempotency: a command that is repeated with its key is done once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec

from tallystick.entity import Entity
from tallystick.errors import Invalid, KeyReused
from tallystick.fields import Length, Once
from tallystick.ids import uuid7
from tallystick.rules import Check, Readable, Rules, Unique

if TYPE_CHECKING:
    from tallystick.session import Session

_LONGEST_OP, _LONGEST_KEY = 100, 200


class CommandKey(Entity):
    """A command that was done: its operation, its key, a hash of the request and the ids of what it made.

    Ids and not bodies are kept: a repeated caller is answered with what is stored now. Old keys are removed with
    ``db[CommandKey].purge_where``; a key that is gone is new again.
    """

    op: Annotated[str, Length(_LONGEST_OP, min=1), Once()]
    key: Annotated[str, Length(_LONGEST_KEY, min=1), Once()]
    request: Annotated[bytes, Once()]
    results: list[UUID] = msgspec.field(default_factory=list)

    rules = Rules(
        Unique("op", "key"),
        Check("request", "octet_length(request) = 32"),
        audit=False,
        readable={"op": Readable.CODE, "key": Readable.CODE, "request": Readable.DIGEST, "results": Readable.CODE},
    )


class Command:
    """One run of a command: whether it is a repetition, and the ids of what it made."""

    __slots__ = ("replayed", "results")

    def __init__(self, results: Iterable[UUID] = (), *, replayed: bool = False) -> None:
        self.results: tuple[UUID, ...] = tuple(results)
        self.replayed = replayed


_CLAIM = (
    "INSERT INTO tally.command_key (tenant_id, id, op, key, request, results) "
    "VALUES ($1, $2, $3, $4, $5, $6::jsonb) "
    "ON CONFLICT (tenant_id, op, key) DO NOTHING RETURNING id"
)
_KNOWN = "SELECT request, results FROM tally.command_key WHERE tenant_id = $1 AND op = $2 AND key = $3"
_REMEMBER = "UPDATE tally.command_key SET results = $4::jsonb WHERE tenant_id = $1 AND op = $2 AND key = $3"
_CLAIM_TRIES = 5
_ids = msgspec.json.Decoder(list[UUID]).decode


@asynccontextmanager
async def idempotent(
    db: Session, op: str, key: str | None, request: Any, *, makes: Sequence[UUID] = ()
) -> AsyncIterator[Command]:
    """A transaction whose work is done once for each key: ``async with idempotent(db, op, key, request) as once``.

    When ``once.replayed`` is true the work was done before: read ``once.results`` again and answer that. Otherwise do
    the work and set ``once.results`` to the ids of what it made. Callers with the same key wait for the first one; if
    it fails nothing is remembered and the next does the work. ``request`` is whatever tells two requests apart: a
    tuple or dict of plain values, money, dates, ids and structs. Without a key it is only a transaction. ``makes`` are
    the results, where the caller chose the ids: what a hot row waits for is then a round trip shorter.

    Raises ``KeyReused`` when the key came with another request before, ``Invalid`` for an unusable key.
    """
    if key is None:
        async with db.transaction():
            yield Command()
        return
    _check(op, _LONGEST_OP, "op")
    _check(key, _LONGEST_KEY, "key")
    digest = sha256(_canonical(request).encode("utf-8", "surrogatepass")).digest()
    async with db.transaction():
        once = await _claim(db, op, key, digest, tuple(makes))
        yield once
        if not once.replayed and once.results != tuple(makes):
            await db.unit.call(_REMEMBER, (db.tenant_id, op, key, _written(once.results)))


async def _claim(db: Session, op: str, key: str, digest: bytes, makes: tuple[UUID, ...]) -> Command:
    """Take the key, or wait for who has it and learn what they made."""
    for _ in range(_CLAIM_TRIES):
        if await db.unit.call(_CLAIM, (db.tenant_id, uuid7(), op, key, digest, _written(makes))):
            return Command(makes)
        # A statement of its own, because only a fresh snapshot sees the row that was waited for.
        known = await db.unit.call(_KNOWN, (db.tenant_id, op, key))
        if known:
            if bytes(known[0][0]) != digest:
                raise KeyReused("The key was used before, for a different request.", entity="CommandKey", rule=op)
            return Command(_ids(known[0][1]), replayed=True)
    raise KeyReused("The key was removed while it was looked at.", entity="CommandKey", rule=op)


def _written(results: Iterable[UUID]) -> str:
    return msgspec.json.encode(list(results)).decode()


def _check(text: Any, most: int, field: str) -> None:
    if not isinstance(text, str) or not 1 <= len(text) <= most or not text.isprintable():
        raise Invalid(
            f"An idempotency {field} is 1 to {most} printable characters.",
            field=field,
            remedy="Make one for each request, str(uuid4()) for instance, and repeat it only with that request.",
        )


def _canonical(value: Any) -> str:
    """One text for each different request: every value carries its type and its length."""
    if isinstance(value, Mapping):
        inner = "".join(sorted(_canonical(k) + _canonical(v) for k, v in value.items()))
        return f"m{len(inner)}:{inner}"
    if isinstance(value, (list, tuple)):
        inner = "".join(map(_canonical, value))
        return f"l{len(inner)}:{inner}"
    if isinstance(value, msgspec.Struct):
        inner = "".join(_canonical(getattr(value, name)) for name in value.__struct_fields__)
        return f"o{len(inner)}:{inner}"
    if isinstance(value, Enum):
        return _canonical(value.value)
    if value is None or isinstance(value, (bool, int, str, UUID, Decimal, date, datetime, time, bytes)):
        text = value.hex() if isinstance(value, bytes) else str(value)
        return f"{type(value).__name__}{len(text)}:{text}"
    raise Invalid(
        f"A request holds a {type(value).__name__}, which cannot be told apart from another.",
        field="request",
        remedy="Describe the request by text, numbers, money, dates, ids, lists and dicts.",
    )
