"""A row's history, read from the log: every version with who made it, when and why, and the row as of a moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

import msgspec

from tallystick.audit.trail import PERMISSION
from tallystick.codec import codec_of
from tallystick.entity import Entity, default_of
from tallystick.errors import Invalid, TallystickError
from tallystick.spec import ColumnSpec, EntitySpec

if TYPE_CHECKING:
    from tallystick.repository import Repository

E = TypeVar("E", bound=Entity)
MOST = 10_000
_STAMPS = frozenset({"version", "updated_at", "updated_by"})
_OF = (
    'SELECT body FROM tally_audit.entry WHERE tenant_id = $1 AND "table" = $2 AND key = $3 '
    "AND op IN ('I', 'U', 'D', 'B')"
)


class _Body(msgspec.Struct):
    """A body with its images as they were written, so that every number stays what it was."""

    seq: int
    at: datetime
    op: str
    role: str
    actor: str | None = None
    reason: str | None = None
    request: str | None = None
    old: dict[str, msgspec.Raw] | None = None
    new: dict[str, msgspec.Raw] | None = None


_decode = msgspec.json.Decoder(_Body).decode


@dataclass(frozen=True, slots=True)
class Version(Generic[E]):
    """A row after one change: who made it, when, why, and which fields it changed.

    ``entity`` is None after a removal, and for a version that this code cannot read any more; ``unread`` then names
    the columns that are missing, were renamed or hold what is no longer declared. Fields that stay out of the log
    have their defaults. ``op`` is I, U, D, or B for a row that was there before its table was audited.
    """

    entity: E | None
    op: str
    at: datetime
    actor: str | None
    reason: str | None
    request: str | None
    role: str
    changed: tuple[str, ...]
    unread: tuple[str, ...]
    seq: int


async def history(repository: Repository[E], id: UUID) -> list[Version[E]]:
    """Every version of one row that the log still holds, oldest first. See ``Repository.history``."""
    db, spec = repository.db, repository.spec
    await _may(repository)
    sql = f"{_OF} ORDER BY seq LIMIT {MOST + 1}"
    rows = await db.unit.call(sql, (db.tenant_id, spec.table, str(id)))
    if len(rows) > MOST:
        raise Invalid(
            f"The {spec.name} has more than {MOST} versions.",
            entity=spec.name,
            remedy="Page through db.audit.entries(table, key=id).",
        )
    return [await _version(repository, _decode(row[0])) for row in rows]


async def as_of(repository: Repository[E], id: UUID, moment: datetime) -> E | None:
    """The row as it was at a moment, None when it did not exist then. See ``Repository.as_of``."""
    db, spec = repository.db, repository.spec
    await _may(repository)
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise Invalid("A moment is a datetime with a time zone.", field="moment", remedy="Use datetime.now(UTC).")
    key = (db.tenant_id, spec.table, str(id), moment)
    rows = await db.unit.call(f"{_OF} AND at <= $4 ORDER BY seq DESC LIMIT 1", key)
    if rows:
        return await _image(repository, _decode(rows[0][0]).new)
    later = await db.unit.call(f"{_OF} AND at > $4 ORDER BY seq LIMIT 1", key)
    if later:
        # Earlier bodies were dropped, or there were none; what the next change found is what there was.
        return await _image(repository, _decode(later[0][0]).old)
    now = await repository.get_or_none(id)
    return now if now is not None and now.created_at <= moment else None


async def _may(repository: Repository[Any]) -> None:
    await repository.db.require(PERMISSION)
    if not repository.spec.audit:
        raise Invalid(
            f"{repository.spec.name} is not audited.",
            entity=repository.spec.name,
            remedy="Leave audit=False out of its rules, and migrate.",
        )


async def _version(repository: Repository[E], body: _Body) -> Version[E]:
    spec, old, new = repository.spec, body.old, body.new
    entity, unread = (None, ()) if new is None else await decoded(repository, new)
    names: set[str] = set()
    if old is not None and new is not None:
        names = {c for c in new if c not in _STAMPS and old.get(c) != new[c]}
    changed = tuple(f.name for f in spec.fields.values() if names & {c.name for c in f.columns})
    return Version(
        entity, body.op, body.at, body.actor, body.reason, body.request, body.role, changed, unread, body.seq
    )


async def _image(repository: Repository[E], image: Mapping[str, msgspec.Raw] | None) -> E | None:
    if image is None:
        return None
    entity, unread = await decoded(repository, image)
    if entity is None:
        raise Invalid(
            f"The {repository.spec.name} of then cannot be read by this version ({', '.join(unread)}).",
            entity=repository.spec.name,
            remedy="Read it raw: db.audit.entries(table, key=id).",
        )
    return entity


async def decoded(repository: Repository[E], image: Mapping[str, msgspec.Raw]) -> tuple[E | None, tuple[str, ...]]:
    """The entity of an image, and the columns that could not be read.

    A column that the table did not have yet has its field's default; one that it no longer has is only named.
    """
    spec, codec = repository.spec, codec_of(repository.spec)
    unread = [name for name in image if not any(c.name == name for c in spec.columns)]
    row: list[Any] = []
    whole = True
    for name in spec.read_columns:
        column = spec.column(name)
        try:
            value = _value(column, image[name]) if name in image else _default(spec, column)
        except (ValueError, KeyError, msgspec.MsgspecError):
            value, whole = None, False
            unread.append(name)
        row.append(value)
    if whole:
        try:
            opener = None
            if codec.opened_at:
                # Images are older than keys: whether the person was erased is asked now.
                row.append(await repository.db.sealer.generation())
                opener = await repository.db.sealer.opener(codec, (row,))
            return codec.decode(row, opener), tuple(unread)
        except (TallystickError, TypeError, ValueError):
            unread = unread or ["values"]
    return None, tuple(unread)


def _default(spec: EntitySpec, column: ColumnSpec) -> Any:
    """What a row has in a column that its image lacks. Raises ``KeyError`` when nothing can be known."""
    if column.nullable:
        return None
    field = next((f for f in spec.fields.values() if column in f.columns), None)
    if field is None:
        raise KeyError(column.name)
    value = default_of(spec.cls, field.name)
    if value is msgspec.NODEFAULT:
        raise KeyError(column.name)
    return getattr(value, "units", getattr(value, "value", value))


def _value(column: ColumnSpec, raw: msgspec.Raw) -> Any:
    """A column's value as the driver would have answered it."""
    text = bytes(raw)
    if text == b"null":
        return None
    kind = column.sql
    if kind == "jsonb":
        return text.decode()
    if kind.startswith("numeric"):
        return Decimal(text.decode())
    if kind in ("bigint", "integer", "boolean"):
        return msgspec.json.decode(text)
    plain = msgspec.json.decode(text, type=str)
    if kind == "uuid":
        return UUID(plain)
    if kind == "date":
        return date.fromisoformat(plain)
    if kind == "bytea":
        return bytes.fromhex(plain.removeprefix("\\x"))
    return datetime.fromisoformat(plain) if kind == "timestamp with time zone" else plain
