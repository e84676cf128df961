"""``tally.outbox``: a loop that hands the messages of all tenants to their handlers."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import msgspec

from tallystick.actors import checked_who
from tallystick.domains.outbox.message import Message, seconds
from tallystick.domains.outbox.outbox import LEASE, Outbox, checked_topic
from tallystick.domains.outbox.retry import Retry
from tallystick.errors import Invalid, LeaseLost, TallystickError

if TYPE_CHECKING:
    from tallystick.app import Tallystick

log = logging.getLogger("tallystick.outbox")
Handler = Callable[[Message[Any]], Awaitable[None]]
ACTOR = "outbox"


class Handling(msgspec.Struct, frozen=True, kw_only=True):
    """How the messages of a topic are handled, where a bare function does not say enough.

    ``into`` is the payload's type. ``limit`` messages are claimed at once and handled one after another, their lease
    renewed meanwhile; one that takes longer than ``timeout`` has failed. ``retry`` says when it comes again.
    """

    handler: Callable[[Any], Awaitable[None] | None]
    into: Any = None
    limit: int = 20
    lease: timedelta = LEASE
    timeout: timedelta = timedelta(minutes=5)
    retry: Retry = msgspec.field(default_factory=Retry)


class Handled(msgspec.Struct, frozen=True):
    """How many deliveries went well, and how many did not."""

    done: int
    failed: int


class _Run:
    """One call of ``run``: whose turn it is, and what was done."""

    __slots__ = (
        "actor",
        "done",
        "failed",
        "found",
        "handlings",
        "left",
        "poll",
        "problem",
        "stop",
        "turn",
        "until_empty",
    )

    def __init__(self, handlings: Mapping[str, Handling], stop: asyncio.Event, poll: float, actor: str) -> None:
        self.handlings = handlings
        self.stop = stop
        self.poll = poll
        self.actor = actor
        self.until_empty = False
        self.turn = asyncio.Lock()
        self.left: deque[tuple[UUID, str]] = deque()
        self.found = True
        self.problem: TallystickError | None = None
        self.done = self.failed = 0


class OutboxWorkers:
    """The outboxes of all tenants, for programs that handle messages."""

    __slots__ = ("_app",)

    def __init__(self, app: Tallystick) -> None:
        self._app = app

    async def run(
        self,
        handlers: Mapping[str, Callable[[Message[Any]], Awaitable[None]] | Handling],
        *,
        concurrency: int = 4,
        stop: asyncio.Event | None = None,
        until_empty: bool = False,
        poll: timedelta = timedelta(milliseconds=500),
        actor: str = ACTOR,
    ) -> Handled:
        """Hand messages to handlers, by topic, until ``stop`` is set, or with ``until_empty`` until none is due.

        Tenants and topics take turns, a claim each, so that one with a backlog does not hold up the others. A handler
        is called with one message at a time, and ``concurrency`` of them run side by side; what it raises sends its
        message back. After a round that found nothing the next begins when ``poll`` is over. On ``stop`` whoever is at
        work finishes the message in hand, and what was claimed beyond it goes back. Raises ``Invalid``, and with
        ``until_empty`` what kept the last round from seeing whether something is due.
        """
        checked_who(actor)
        run = _Run(_checked(handlers), stop or asyncio.Event(), seconds(poll), actor)
        run.until_empty = until_empty
        most = self._app.settings.pool_max - 1
        if concurrency.__class__ is not int or not 1 <= concurrency <= max(most, 1):
            raise Invalid(
                f"concurrency is 1 to {max(most, 1)}: a connection for each handler, and one that renews their leases.",
                field="concurrency",
                remedy="Allow more connections (TALLYSTICK_POOL_MAX), or run more processes.",
            )
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(self._work(run))
        if until_empty and run.problem is not None and not run.stop.is_set():
            raise run.problem
        return Handled(run.done, run.failed)

    async def _work(self, run: _Run) -> None:
        while (place := await self._next(run)) is not None:
            try:
                await self._serve(run, *place)
            except TallystickError as problem:
                log.warning("Claiming messages failed: %s", problem.code)
                run.problem = problem
                await _pause(run)

    async def _next(self, run: _Run) -> tuple[UUID, str] | None:
        """The tenant and topic whose turn it is; None when there is no more to do."""
        async with run.turn:
            while not run.left and not run.stop.is_set():
                if not run.found:
                    if run.until_empty:
                        return None
                    await _pause(run)
                run.found, run.problem = False, None
                try:
                    tenants = [id async for id, _, active in self._app.tenants.all() if active]
                except TallystickError as problem:
                    log.warning("Listing the tenants failed: %s", problem.code)
                    run.problem = problem
                    continue
                run.left.extend((id, topic) for topic in run.handlings for id in tenants)
            return None if run.stop.is_set() else run.left.popleft()

    async def _serve(self, run: _Run, tenant: UUID, topic: str) -> None:
        how = run.handlings[topic]
        async with self._app.session(tenant, actor=run.actor, permissions=("*",)) as db:
            claimed = Outbox(db, self._app).claim(
                topic, into=how.into, limit=how.limit, lease=how.lease, retry=how.retry
            )
            beat: asyncio.Task[None] | None = None
            try:
                async with aclosing(cast("AsyncGenerator[Message[Any]]", claimed)) as messages:
                    async for message in messages:
                        run.found = True
                        if run.stop.is_set():
                            await message.release()
                            return
                        beat = beat or asyncio.create_task(self._beat(message, run.actor))
                        await self._handle(run, how, message)
                        # Another's round may have passed this tenant by meanwhile, and more may be due here by now.
                        run.found = True
            finally:
                if beat is not None:
                    beat.cancel()

    async def _handle(self, run: _Run, how: Handling, message: Message[Any]) -> None:
        problem: Exception
        try:
            async with message, asyncio.timeout(how.timeout.total_seconds()):
                await _called(how.handler, message)
            run.done += 1
            return
        except LeaseLost as lost:
            problem = lost
        except Exception as caught:
            problem = caught
        run.failed += 1
        log.warning(
            "Handling a message of %s failed, delivery %d: %s", message.topic, message.attempt, type(problem).__name__
        )

    async def _beat(self, message: Message[Any], actor: str) -> None:
        """Renew the leases of a claim while its messages are handled, on another session than the handler's."""
        held = message._lease
        async with self._app.session(held.db.tenant_id, actor=actor, permissions=("*",)) as db:
            while True:
                await asyncio.sleep(held.seconds / 3)
                try:
                    await held.renew(db)
                except TallystickError as problem:
                    log.warning("Renewing a lease failed: %s", problem.code)


async def _called(handler: Callable[[Any], Awaitable[None] | None], message: Message[Any]) -> None:
    """Call a handler; one that lets something else's cancellation out has failed, and the worker goes on."""
    try:
        waited = handler(message)
        if waited is not None:
            await waited
    except asyncio.CancelledError as ended:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        await message.fail(ended)
        raise RuntimeError("The handler ended cancelled.") from None


async def _pause(run: _Run) -> None:
    try:
        await asyncio.wait_for(run.stop.wait(), run.poll)
    except TimeoutError:
        return


def _checked(handlers: Mapping[str, Handler | Handling]) -> dict[str, Handling]:
    if not isinstance(handlers, Mapping) or not handlers:
        raise Invalid("run() takes handlers by topic.", field="handlers", remedy='Write {"loan.disbursed": notify}.')
    found: dict[str, Handling] = {}
    for topic, given in handlers.items():
        how = given if isinstance(given, Handling) else Handling(handler=given)
        if not callable(how.handler) or not isinstance(how.timeout, timedelta) or how.timeout <= timedelta(0):
            raise Invalid("A handler is an async function of one message.", field="handlers")
        seconds(how.lease)
        how.retry.checked()
        found[checked_topic(topic)] = how
    return found
