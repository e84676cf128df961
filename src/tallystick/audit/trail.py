"""``db.audit``: what a tenant's log says, and what the application has to say in it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.audit.entries import OPS, AuditEntry, AuditEvent, entry_of
from tallystick.entity import Entity, spec_of
from tallystick.errors import Invalid
from tallystick.page import MAX_LIMIT, Page

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tallystick.session import Session

PERMISSION = "audit.read"
_RECORD = "SELECT tally_audit.record($1, $2, $3, $4::jsonb)"


class Trail:
    """A tenant's audit log within a session: ``record`` events, read ``entries``."""

    __slots__ = ("_db",)

    def __init__(self, db: Session) -> None:
        self._db = db

    async def record(self, event: AuditEvent) -> int:
        """Put an event of the application's own into the log; answers its sequence number.

        It stands and falls with the open transaction, or commits by itself. Raises ``Invalid`` for an event that is
        no ``AuditEvent``, too long or of wrong types.
        """
        if not isinstance(event, AuditEvent):
            raise Invalid(
                "record() takes an AuditEvent.", remedy='AuditEvent(type="...", category="...", service="...")'
            )
        table, key = event.subject
        return await put(self._db, "E", table, key, event.written())

    async def entries(
        self,
        table: type[Entity] | str | None = None,
        *,
        key: UUID | str | None = None,
        actor: str | None = None,
        ops: Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[AuditEntry]:
        """One page of the log, oldest first, behind the permission "audit.read".

        ``table`` is an entity or a logical table's name, ``key`` a row of it; ``ops`` are keys of ``OPS``. ``since``
        and ``until`` bound the time of the change (until itself not included); ``actor`` needs one of them or a
        table, because there is no index on it. ``after`` is the ``next`` of the page before. Entries whose bodies
        were dropped by policy are not there any more. Raises ``RoleMissing``, ``Invalid``.
        """
        db = self._db
        await db.require(PERMISSION)
        if limit.__class__ is not int or not 1 <= limit <= MAX_LIMIT:
            raise Invalid(
                f"limit should be between 1 and {MAX_LIMIT}.", field="limit", remedy="Follow `next` for more."
            )
        if key is not None and table is None:
            raise Invalid("A key is looked for in a table.", field="key", remedy="Give the entity as well.")
        if actor is not None and table is None and since is None:
            raise Invalid("An actor is looked for in a table or since a moment.", field="actor", remedy="Give since=.")
        where, args = ["tenant_id = $1"], [db.tenant_id]

        def also(condition: str, value: Any) -> None:
            args.append(value)
            where.append(condition.format(f"${len(args)}"))

        if table is not None:
            also('"table" = {}', table if isinstance(table, str) else spec_of(table).table)
        if key is not None:
            also("key = {}", str(key))
        if found := _ops(ops):
            also("op = ANY ({})", found)
        for name, moment, sign in (("since", since, ">="), ("until", until, "<")):
            if moment is not None:
                also(f"at {sign} {{}}", _moment(name, moment))
        if actor is not None:
            also("body::json ->> 'actor' = {}", str(actor))
        if after is not None:
            also("seq > {}", _cursor(after))
        rows = await db.unit.call(
            f"SELECT body FROM tally_audit.entry WHERE {' AND '.join(where)} ORDER BY seq LIMIT {limit + 1}", args
        )
        items = [entry_of(row[0]) for row in rows[:limit]]
        return Page(items=items, limit=limit, next=str(items[-1].seq) if len(rows) > limit else None)


async def put(db: Session, op: str, table: str, key: str, event: str) -> int:
    """Write an event or a read in the open transaction, or in one of its own that carries the actor."""
    if db.unit.depth:
        rows = await db.unit.call(_RECORD, (op, table, key, event))
    else:
        async with db.transaction():
            rows = await db.unit.call(_RECORD, (op, table, key, event))
    return int(rows[0][0])


def _ops(ops: Iterable[str]) -> list[str]:
    found = list(ops)
    if any(op not in OPS for op in found):
        raise Invalid("There is no such kind of entry.", field="ops", remedy=f"Kinds are: {', '.join(OPS)}.")
    return found


def _moment(name: str, value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise Invalid(f"{name} should be a datetime with a time zone.", field=name, remedy="Use datetime.now(UTC).")
    return value


def _cursor(after: Any) -> int:
    if isinstance(after, str) and after.isascii() and after.isdigit() and len(after) < 19:
        return int(after)
    raise Invalid("The cursor is not one of this log.", field="after", remedy="Give the `next` of the page before.")
