"""A message in a consumer's hands: what it says, and how the work on it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from uuid import UUID

import msgspec

from tallystick.domains.outbox import statements
from tallystick.domains.outbox.messages import OutboxMessage, OutboxState
from tallystick.entity import spec_of
from tallystick.errors import Invalid, LeaseLost

if TYPE_CHECKING:
    from tallystick.domains.outbox.retry import Retry
    from tallystick.session import Session

P = TypeVar("P")
_LONGEST_NAME = 100
_LONGEST_LEASE = timedelta(days=1)


class Lease:
    """What messages of one claim share: the token, the policy, what is held, and the keys whose rest went back."""

    __slots__ = ("broken", "db", "held", "into", "over", "retry", "seconds", "token")

    def __init__(self, db: Session, token: UUID, lease: timedelta, retry: Retry, into: Any) -> None:
        self.db = db
        self.token = token
        self.seconds = seconds(lease)
        self.retry = retry
        self.into = into
        self.held: dict[UUID, str | None] = {}
        self.over: set[str] = set()
        self.broken: set[UUID] = set()

    async def run(self, sql: str, id: UUID, *more: Any) -> bool:
        """One statement about a message of this lease; whether it held that still."""
        db = self.db
        args = (db.tenant_id, id, self.token, db.actor, *more)
        return bool(await db.unit.call(sql, args, spec_of(OutboxMessage)))

    async def finish(self, id: UUID, key: str | None) -> None:
        """Mark a message handled. Raises ``LeaseLost`` where it, or what comes before it in its key, went back."""
        if id not in self.held or not await self.run(statements.FINISH, id):
            raise self.lost(id, key)

    def leave(self, id: UUID, key: str | None) -> list[UUID]:
        """Go on with nothing more of a key, because what comes first of it went back; answers the ids of its rest."""
        self.held.pop(id, None)
        rest = [] if key is None else [other for other, its in self.held.items() if its == key]
        if key is not None:
            self.over.add(key)
        for other in rest:
            self.held.pop(other)
        return rest

    def lost(self, id: UUID, key: str | None) -> LeaseLost:
        """The error for a message that somebody else may have by now, and what follows it in its key."""
        self.leave(id, key)
        return LeaseLost("The lease on this message is over, and somebody else may have it.", entity="OutboxMessage")

    async def renew(self, db: Session, seconds: float | None = None) -> set[UUID]:
        """Hold everything that is still held for another while; answers the ids of that."""
        args = (db.tenant_id, list(self.held), self.token, db.actor, seconds or self.seconds)
        return {row[0] for row in await db.unit.call(statements.EXTEND, args, spec_of(OutboxMessage))}


class Message(Generic[P]):
    """One delivery of a message. Enter it to work: normal exit marks it done, an exception sends it back to wait.

    ``attempt`` counts its deliveries, this one included; ``redelivered`` says that an earlier one may have been
    handled, wholly or in part. An effect outside this database is repeated only if whoever receives it does not know
    ``id`` already; effects inside it happen once in ``transaction()``.
    """

    __slots__ = ("_lease", "_row", "_settled")

    def __init__(self, lease: Lease, row: OutboxMessage) -> None:
        self._lease = lease
        self._row = row
        self._settled = False

    @property
    def id(self) -> UUID:
        """What stays the same in every delivery; give it to others as their idempotency key."""
        return self._row.id

    @property
    def topic(self) -> str:
        """What it is about."""
        return self._row.topic

    @property
    def key(self) -> str | None:
        """What it is in order with, where there is an order."""
        return self._row.key

    @property
    def payload(self) -> P:
        """What it says, as the type that ``claim`` was given. Raises ``Invalid`` where it does not fit."""
        return _typed(self._row.payload, self._lease.into)  # type: ignore[no-any-return]

    @property
    def personal(self) -> dict[str, Any] | None:
        """What it says of its subject; None once that person was erased."""
        return self._row.personal

    @property
    def subject(self) -> UUID | None:
        """The user whose data ``personal`` is."""
        return None if self._row.subject is None else self._row.subject.id

    @property
    def attempt(self) -> int:
        """The how many-th delivery this is."""
        return self._row.tries

    @property
    def redelivered(self) -> bool:
        """Whether it was delivered before."""
        return self._row.tries > 1

    @property
    def added_at(self) -> datetime:
        """When the transaction that added it began, UTC."""
        return self._row.created_at

    @property
    def actor(self) -> str:
        """Who added it."""
        return self._row.created_by

    @property
    def reason(self) -> str | None:
        """Why, as the session that added it said."""
        return self._row.reason

    @property
    def request_id(self) -> str | None:
        """In which request it was added."""
        return self._row.request_id

    @property
    def db(self) -> Session:
        """The session that claimed it."""
        return self._lease.db

    async def done(self) -> None:
        """Mark it handled. Raises ``LeaseLost`` when the lease ran out and somebody else has it."""
        await self._lease.finish(self.id, self.key)
        self._over()

    async def fail(self, error: BaseException | type[BaseException] | None = None) -> None:
        """Send it back to wait for its next delivery, or set it aside as a dead letter when it had enough of them.

        The name of the error's class is kept and never its text, which may quote a person. A lease that is already
        lost is no error.
        """
        retry = self._lease.retry
        state = OutboxState.PENDING
        if self.attempt >= retry.attempts:
            state = OutboxState.STUCK if retry.block and self.key is not None else OutboxState.DEAD
        await self._give(state, retry.wait(self.attempt), error)

    async def release(self) -> None:
        """Give it back at once, for anybody; a lease that is already lost is no error."""
        await self._give(OutboxState.PENDING, timedelta(0), None)

    async def extend(self, lease: timedelta | None = None) -> None:
        """Hold it, and what else this claim still holds, for so long from now. Raises ``LeaseLost``."""
        held = self._lease
        if self.id not in await held.renew(held.db, None if lease is None else seconds(lease)):
            raise held.lost(self.id, self.key)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """A transaction that handles the message: what is written in it stands exactly if the message is done.

        Raises ``LeaseLost`` at its end, and keeps nothing, when somebody else has the message by then.
        """
        db = self.db
        async with db.transaction():
            yield db
            await self._lease.finish(self.id, self.key)
        self._over()

    def _over(self) -> None:
        self._settled = True
        self._lease.held.pop(self.id, None)

    async def _give(
        self, state: OutboxState, wait: timedelta, error: BaseException | type[BaseException] | None
    ) -> None:
        kind = error if error is None or isinstance(error, type) else type(error)
        name = None if kind is None else kind.__name__[:_LONGEST_NAME]
        held = self._lease
        rest = held.leave(self.id, None if state is OutboxState.DEAD else self.key)
        self._settled = True
        await held.run(statements.FAIL, self.id, state.value, wait.total_seconds(), name, rest)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._settled:
            return
        if kind is None:
            await self.done()
        elif issubclass(kind, Exception):
            await self.fail(kind)
        else:
            await self.release()


def seconds(lease: Any) -> float:
    """A lease in seconds. Raises ``Invalid``."""
    if not isinstance(lease, timedelta) or not timedelta(0) < lease <= _LONGEST_LEASE:
        raise Invalid(
            "A lease is a timedelta above zero and up to a day.", field="lease", remedy="Write timedelta(minutes=1)."
        )
    return lease.total_seconds()


def _typed(value: Any, into: Any) -> Any:
    if into is None:
        return value
    try:
        return msgspec.convert(value, into, str_keys=True)
    except (msgspec.ValidationError, TypeError):
        pass
    # Raised outside the handler: the first error may quote the value, and a chained error would carry it along.
    raise Invalid(
        f"The message's payload does not fit {getattr(into, '__name__', 'what was given as into')}.",
        field="payload",
        entity="OutboxMessage",
        remedy="Claim it into the type that it was added as, and give new fields defaults.",
    )
