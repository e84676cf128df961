"""``db.outbox``: adding messages in the transaction of the work, claiming them, and what became of them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec

from tallystick.documents import written
from tallystick.domains.guarded import put
from tallystick.domains.identity.users import User
from tallystick.domains.named import id_of
from tallystick.domains.outbox import statements
from tallystick.domains.outbox.message import Lease, Message
from tallystick.domains.outbox.messages import LARGEST, LONGEST_KEY, LONGEST_TOPIC, OutboxMessage
from tallystick.domains.outbox.retry import Retry
from tallystick.entity import spec_of
from tallystick.errors import Conflict, Duplicate, Invalid, KeyReused, LeaseLost, NotFound, TallystickError, Tampered
from tallystick.fields import Ref
from tallystick.ids import uuid7

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.session import Session

T = TypeVar("T")
MOST: Final = 1_000
"""Messages in one claim."""
LEASE: Final = timedelta(minutes=1)
"""How long a claim holds when nothing else is said."""
_KEEP: Final = timedelta(days=7)
_TOPIC = re.compile(rf"[a-z][a-z0-9_.:/-]{{0,{LONGEST_TOPIC - 1}}}")
# Where the last claim of a topic ended, so that keys take turns, and whether messages without one are first next.
_turns: WeakKeyDictionary[Tallystick, dict[tuple[UUID, str], tuple[str, bool]]] = WeakKeyDictionary()


class TopicStatus(msgspec.Struct, frozen=True):
    """What of a topic is not over: due, due later, in somebody's hands, given up; ``oldest`` in seconds."""

    topic: str
    waiting: int
    later: int
    held: int
    dead: int
    stuck: int
    oldest: int


class Outbox:
    """The tenant's messages to the outside and to its own background work."""

    __slots__ = ("_app", "db")

    def __init__(self, db: Session, app: Tallystick) -> None:
        self.db = db
        self._app = app

    # -- adding ------------------------------------------------------------------------------------------------

    async def add(
        self,
        topic: str,
        payload: Any = None,
        *,
        key: str | None = None,
        dedupe: str | None = None,
        subject: User | UUID | None = None,
        personal: Any = None,
        not_before: datetime | None = None,
    ) -> OutboxMessage:
        """Add a message in the open transaction: it is delivered if that commits, and never if it does not.

        ``payload`` is a JSON value or a Struct of up to 64 KiB that is about nobody. ``personal`` is an object about
        the user ``subject``, sealed under that person's key. Messages of one topic and ``key`` are delivered in the
        order of their commits; whoever adds to a key waits for transactions that added to it before. A message with
        the ``dedupe`` of one that is still kept is not added again: the earlier one is answered.

        Raises ``Invalid``, ``UnknownReference``, ``Erased``, and ``KeyReused`` for the same ``dedupe`` with another
        key, payload, subject or personal part.
        """
        db = self.db
        message = OutboxMessage(
            topic=checked_topic(topic),
            key=_word(key, "key"),
            payload=_json(payload, "payload"),
            personal=_json(personal, "personal"),
            subject=None if subject is None else Ref(id_of(subject, User, "subject")),
            dedupe=_word(dedupe, "dedupe"),
            reason=db.unit.reason,
            request_id=db.unit.request,
            due_at=not_before,
        )
        _about(message)
        rows = db[OutboxMessage]
        if dedupe is None:
            return await put(rows, message)
        try:
            async with db.transaction():
                return await put(rows, message)
        except Duplicate:
            pass
        known = await rows.one(OutboxMessage.topic == topic, OutboxMessage.dedupe == dedupe)
        if any(getattr(known, f) != getattr(message, f) for f in ("key", "payload", "subject", "personal")):
            raise KeyReused("Another message was added to this topic with the same dedupe.", entity="OutboxMessage")
        return known

    # -- claiming ----------------------------------------------------------------------------------------------

    @overload
    def claim(
        self, topic: str, *, into: type[T], limit: int = ..., lease: timedelta = ..., retry: Retry | None = ...
    ) -> AsyncIterator[Message[T]]: ...
    @overload
    def claim(
        self, topic: str, *, into: None = ..., limit: int = ..., lease: timedelta = ..., retry: Retry | None = ...
    ) -> AsyncIterator[Message[Any]]: ...
    async def claim(
        self, topic: str, *, into: Any = None, limit: int = 20, lease: timedelta = LEASE, retry: Retry | None = None
    ) -> AsyncIterator[Message[Any]]:
        """Lease up to ``limit`` messages of a topic that are due, and go through them: ``async for message in ...``.

        Of each key only the first messages that are not over, in their order; what a failed message holds up is left
        out. Enter each: leaving normally marks it done, an exception sends it back. ``lease`` is for the whole claim,
        renewed when a third of it is over before the next message. Raises ``Invalid``, also inside a transaction.
        """
        db, policy = self.db, (retry or Retry()).checked()
        checked_topic(topic)
        if limit.__class__ is not int or not 1 <= limit <= MOST:
            raise Invalid(f"claim() takes 1 to {MOST} messages.", field="limit", remedy="Claim again for more.")
        if db.unit.depth:
            raise Invalid(
                "A claim commits by itself and cannot be part of a transaction.",
                remedy="Claim outside, and open message.transaction() for each message.",
            )
        held = Lease(db, uuid7(), lease, policy, into)
        async with db.transaction():
            await db.unit.call(statements.IN_ORDER, ())
            left = await self._take(held, topic, limit)
        held.held.update((row.id, row.key) for row in left)
        renewed = monotonic()
        unread: list[UUID] = []
        try:
            while left:
                if monotonic() - renewed > held.seconds / 3:
                    kept = await held.renew(db)
                    gone, left = [r for r in left if r.id not in kept], [r for r in left if r.id in kept]
                    for row in gone:
                        held.leave(row.id, row.key)
                        unread.append(row.id)
                    renewed = monotonic()
                    continue
                row = left.pop(0)
                if row.key in held.over:
                    unread.append(row.id)
                    continue
                message = Message[Any](held, row)
                if row.id in held.broken:
                    await message.fail(Tampered)
                    continue
                if row.tries > policy.attempts:
                    # Its earlier deliveries never came back, not even with an error.
                    await message.fail(LeaseLost)
                    continue
                yield message
        finally:
            unread += [row.id for row in left]
            if unread:
                # Where this fails, the leases run out by themselves.
                with suppress(TallystickError):
                    await db.unit.call(statements.UNREAD, (db.tenant_id, unread, held.token, db.actor))

    async def _take(self, held: Lease, topic: str, limit: int) -> list[OutboxMessage]:
        """Keys in turn from where the last claim ended, then messages without one; every other time those come first.

        The same limit for both: neither can keep the other from being claimed.
        """
        turns, place = _turns.setdefault(self._app, {}), (self.db.tenant_id, topic)
        after, loose_first = turns.get(place, ("", False))
        found: list[OutboxMessage] = []
        if loose_first:
            found += await self._lease(statements.loose, held, topic, (limit + 1) // 2)
        of_keys = await self._lease(statements.heads, held, topic, limit - len(found), after)
        # Turns go round: after the last key the first is next.
        keys = [row.key for row in of_keys if row.key is not None]
        last = max((k for k in keys if k <= after), default=max(keys, default=""))
        turns[place] = (last, not loose_first)
        found += of_keys
        if len(found) < limit:
            found += await self._lease(statements.loose, held, topic, limit - len(found))
        return found

    async def _lease(
        self, part: Callable[[str], str], held: Lease, topic: str, limit: int, *more: str
    ) -> list[OutboxMessage]:
        db = self.db
        args = (db.tenant_id, topic, held.token, held.seconds, limit, db.actor, *more)
        rows = await db.unit.call(_statement(part), args, spec_of(OutboxMessage))
        found, broken = await self._opened(rows)
        held.broken |= broken
        return sorted(found, key=lambda m: (m.key or "", m.position, m.id))

    async def _opened(self, rows: list[Any]) -> tuple[list[OutboxMessage], set[UUID]]:
        """The messages, and which of them were altered where they are stored: without what is personal.

        One that does not open fails alone, and holds up no other.
        """
        open_all = self.db[OutboxMessage]._entities
        try:
            return await open_all(rows), set()
        except Tampered:
            if len(rows) > 1:
                parts = [await self._opened([row]) for row in rows]
                return [m for found, _ in parts for m in found], {id for _, broken in parts for id in broken}
        personal = spec_of(OutboxMessage).read_columns.index("personal")
        (found,) = await open_all([tuple(None if i == personal else v for i, v in enumerate(rows[0]))])
        return [found], {found.id}

    # -- what became of them -----------------------------------------------------------------------------------

    async def dead(self, topic: str | None = None, *, limit: int = 100) -> list[OutboxMessage]:
        """Dead letters, oldest first: messages given up, whether their key went on or is stuck behind them."""
        args = (self.db.tenant_id, None if topic is None else checked_topic(topic), limit)
        rows = await self.db.unit.call(_statement(statements.given_up), args, spec_of(OutboxMessage))
        return (await self._opened(rows))[0]

    async def retry(self, id: UUID) -> OutboxMessage:
        """Deliver a dead letter again, with all its attempts. Needs "outbox.manage".

        Where its key went on meanwhile it comes out of order; where the key is stuck it comes in its place. Raises
        ``NotFound``, ``Conflict``.
        """
        return await self._decide(statements.AGAIN, id, "Only a dead letter is delivered again.")

    async def discard(self, id: UUID, reason: str) -> OutboxMessage:
        """Give a message up for good; its key goes on. Needs "outbox.manage", and the reason goes to the audit log.

        Raises ``NotFound``, ``Conflict`` for one that is over already.
        """
        from tallystick.audit.entries import AuditEvent

        if not isinstance(reason, str) or not reason.strip():
            raise Invalid("Discarding a message needs a reason.", field="reason", remedy="Say why.")
        async with self.db.transaction():
            found = await self._decide(statements.DISCARD, id, "It is over already.")
            said = AuditEvent(
                type="outbox.discarded",
                category="operations",
                service="outbox",
                description=reason.strip()[:500],
                table="outbox_message",
                key=str(found.id),
            )
            await self.db.audit.record(said)
        return found

    async def purge(self, *, older_than: timedelta = _KEEP, batch: int = 1_000) -> int:
        """Remove messages that were over for so long, a batch a transaction; answers how many. Needs "outbox.manage".

        With a message goes the memory of its ``dedupe``.
        """
        await self.db.require("outbox.manage")
        if not isinstance(older_than, timedelta) or older_than < timedelta(0):
            raise Invalid("older_than is a timedelta.", field="older_than", remedy="Write timedelta(days=7).")
        if batch.__class__ is not int or not 1 <= batch <= 10_000:
            raise Invalid("A batch is 1 to 10,000 messages.", field="batch")
        gone = 0
        while True:
            args = (self.db.tenant_id, older_than.total_seconds(), batch)
            found = len(await self.db.unit.change(statements.PURGE, args, spec_of(OutboxMessage)))
            gone += found
            if found < batch:
                return gone

    async def status(self) -> list[TopicStatus]:
        """What is not over, by topic."""
        rows = await self.db.unit.call(statements.STATUS, (self.db.tenant_id,), spec_of(OutboxMessage))
        return [TopicStatus(*row) for row in rows]

    async def _decide(self, sql: str, id: UUID, refusal: str) -> OutboxMessage:
        await self.db.require("outbox.manage")
        spec, args = spec_of(OutboxMessage), (self.db.tenant_id, id_of(id, OutboxMessage, "id"))
        changed = await self.db.unit.change(sql, args, spec)
        rows = await self.db.unit.call(_statement(statements.one), args, spec)
        if not rows:
            raise NotFound("No OutboxMessage has this id.", entity="OutboxMessage")
        ((found,), _) = await self._opened(rows)
        if not changed:
            raise Conflict(f"The message is {found.state.value}.", entity="OutboxMessage", remedy=refusal)
        return found


@cache
def _statement(part: Callable[[str], str]) -> str:
    spec = spec_of(OutboxMessage)
    generation = "(SELECT s.generation FROM tally.key_state s WHERE s.tenant_id = $1)"
    return part(", ".join(f"m.{c}" for c in spec.read_columns) + f", {generation}")


def checked_topic(topic: Any) -> str:
    """The topic. Raises ``Invalid`` for what is none."""
    if isinstance(topic, str) and _TOPIC.fullmatch(topic):
        return topic
    raise Invalid(
        f"A topic is a lower-case name of up to {LONGEST_TOPIC} characters.",
        field="topic",
        entity="OutboxMessage",
        remedy='Write one like "loan.disbursed": letters, digits and . _ : / -, a letter first.',
    )


def _word(text: Any, field: str) -> str | None:
    if text is None or (isinstance(text, str) and 1 <= len(text) <= LONGEST_KEY and text.isprintable()):
        return text
    raise Invalid(
        f"A message's {field} is 1 to {LONGEST_KEY} printable characters.",
        field=field,
        entity="OutboxMessage",
        remedy="Give the id of what the message is about, as text: str(loan.id).",
    )


def _json(value: Any, field: str) -> Any:
    """The value as plain JSON, so that what is read back is what was added."""
    if value is None:
        return None
    text, problem = written(value, Any)
    if not problem and len(text.encode()) > LARGEST:
        problem = f"is larger than {LARGEST} bytes as JSON"
    if not problem:
        plain = msgspec.json.decode(text)
        if field == "payload" or isinstance(plain, dict):
            return plain
        problem = "should be an object"
    raise Invalid(
        f"A message's {field} {problem}.",
        field=field,
        entity="OutboxMessage",
        remedy="Give a small JSON value or a Struct, and ids of what is large: the consumer can read it.",
    )


def _about(message: OutboxMessage) -> None:
    if message.personal is not None and message.subject is None:
        raise Invalid(
            "What is personal is about somebody.",
            field="subject",
            entity="OutboxMessage",
            remedy="Name the user: subject=user. It is sealed under that person's key, and erased with it.",
        )
