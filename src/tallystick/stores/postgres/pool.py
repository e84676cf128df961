"""A small pool of links that prefers one already carrying the tenant that is asked for.

The driver's own pool resets the session at every release, which costs a round trip and forgets the tenant; see
``docs/decisions/0002-own-pool.md``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tallystick.errors import Tampered, Unavailable
from tallystick.stores.postgres.link import Link

Connect = Callable[[], Awaitable[Link]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How many links a pool keeps, and for how long. Times are seconds; ``keep`` idle links are never given up.

    ``strict`` never hands out a link that was idle for longer than ``idle_lifetime``: a process that was frozen
    meanwhile may not have heard that the other side is gone.
    """

    size: int
    timeout: float
    keep: int = 0
    idle_lifetime: float = 300.0
    max_lifetime: float | None = None
    strict: bool = False


@dataclass(slots=True)
class PoolStats:
    """What a pool is doing: links open, idle, callers waiting, and how often a link was already warm."""

    open: int = 0
    idle: int = 0
    waiting: int = 0
    warm: int = 0
    cold: int = 0


class Pool:
    """Links to one database, as many as its limits allow, handed out last-used first."""

    def __init__(self, connect: Connect, limits: PoolLimits, *, verify: bool = False) -> None:
        self._connect = connect
        self._limits = limits
        self._size = limits.size
        self._verify = verify
        self._idle: list[Link] = []
        self._open = 0
        self._waiters: deque[asyncio.Future[Link | None]] = deque()
        self._busy: set[Link] = set()
        self._closed = False
        self.warm = self.cold = 0

    def take(self, tenant: str) -> Link | None:
        """An idle link that carries the tenant, without awaiting anything; None when there is none."""
        if self._limits.strict:
            self._reap()
        idle = self._idle
        for at in range(len(idle) - 1, -1, -1):
            link = idle[at]
            if link.tenant == tenant and not self._verify and not link.raw.is_closed():
                del idle[at]
                self.warm += 1
                self._busy.add(link)
                return link
        return None

    def take_any(self) -> Link | None:
        """Any idle link, without awaiting; a transaction brings its own settings."""
        if self._limits.strict:
            self._reap()
        while self._idle:
            link = self._idle.pop()
            if not link.raw.is_closed():
                self._busy.add(link)
                return link
            self._open -= 1
        return None

    async def acquire(self, tenant: str | None) -> Link:
        """A link carrying the tenant, or any link when ``tenant`` is None (a transaction brings its own settings).

        Raises ``Unavailable`` when none comes free in time or the server cannot be reached.
        """
        link = await self._obtain(tenant)
        if tenant is not None:
            try:
                if link.tenant != tenant:
                    self.cold += 1
                    await link.warm(tenant)
                elif self._verify:
                    await self._check(link, tenant)
            except BaseException:
                link.broken = True
                self.release(link)
                raise
        return link

    def release(self, link: Link) -> None:
        """Hand a link back. One that is broken, closed or still in a transaction is closed for good."""
        self._busy.discard(link)
        if self._closed or link.broken or link.raw.is_closed() or link.in_transaction:
            if not link.raw.is_closed():
                link.kill()
            self._open -= 1
            self._wake(None)
            return
        link.used = now = time.monotonic()
        lifetime = self._limits.max_lifetime
        if lifetime is not None and now - link.born > lifetime:
            link.kill()
            self._open -= 1
            self._wake(None)
        elif not self._wake(link):
            self._idle.append(link)

    async def fill(self) -> None:
        """Open links until ``keep`` are there, so that the first requests need not wait for a login."""
        made = [await self._grow() for _ in range(self._limits.keep - self._open)]
        for link in made:
            self.release(link)

    async def close(self) -> None:
        """Close every idle link, and busy ones as they come back."""
        self._closed = True
        while self._waiters:
            self._wake(None)
        idle, self._idle = self._idle, []
        self._open -= len(idle)
        for link in idle:
            try:
                await link.raw.close(timeout=5)
            except (OSError, TimeoutError):
                link.kill()
        for link in tuple(self._busy):
            link.kill()

    def stats(self) -> PoolStats:
        """A snapshot for health and metrics."""
        return PoolStats(self._open, len(self._idle), len(self._waiters), self.warm, self.cold)

    async def _obtain(self, tenant: str | None) -> Link:
        deadline = time.monotonic() + self._limits.timeout
        while True:
            if self._closed:
                raise Unavailable("The pool is closed.", remedy="Open Tallystick before using sessions.")
            link = self._pick(tenant)
            if link is not None:
                self._busy.add(link)
                return link
            if self._open < self._size:
                return await self._grow()
            handed = await self._wait(deadline)
            if handed is not None:
                self._busy.add(handed)
                return handed

    def _pick(self, tenant: str | None) -> Link | None:
        """Same tenant first; then one without a tenant; another tenant's only when the pool may not grow."""
        self._reap()
        idle = self._idle
        if not idle:
            return None
        if tenant is None:
            return idle.pop()
        for at in range(len(idle) - 1, -1, -1):
            if idle[at].tenant == tenant:
                self.warm += 1
                return idle.pop(at)
        for at, link in enumerate(idle):
            if link.tenant is None:
                return idle.pop(at)
        return idle.pop(0) if self._open >= self._size else None

    def _reap(self) -> None:
        """Give up links that were idle too long, the longest idle first, down to those that are kept."""
        if not self._idle:
            return
        horizon = time.monotonic() - self._limits.idle_lifetime
        spare = self._open - self._limits.keep
        kept = []
        for link in self._idle:
            closed = link.raw.is_closed()
            if closed or (spare > 0 and link.used < horizon):
                spare -= 1
                self._open -= 1
                if not closed:
                    link.kill()
            else:
                kept.append(link)
        self._idle = kept

    async def _grow(self) -> Link:
        self._open += 1
        try:
            link = await self._connect()
        except BaseException:
            self._open -= 1
            self._wake(None)
            raise
        self._busy.add(link)
        return link

    async def _wait(self, deadline: float) -> Link | None:
        waiter: asyncio.Future[Link | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await asyncio.wait([waiter], timeout=max(0.0, deadline - time.monotonic()))
        except BaseException:
            if not waiter.cancel():
                # It was served at the same moment: what it got, a link or the right to open one, is the next waiter's.
                handed = waiter.result()
                if handed is None:
                    self._wake(None)
                else:
                    self.release(handed)
            raise
        if waiter.done():
            return waiter.result()
        waiter.cancel()
        raise Unavailable(
            f"No connection came free within {self._limits.timeout:g} s (pool of {self._size}).",
            remedy="Raise pool_max, shorten transactions, or look for a session that is never closed.",
        )

    def _wake(self, link: Link | None) -> bool:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(link)
                return True
        return False

    async def _check(self, link: Link, tenant: str) -> None:
        found = await link.row("SELECT current_setting('tally.tenant', true)", ())
        if found[0] != tenant:
            raise Tampered("A pooled connection carries another tenant than its tag says.")
