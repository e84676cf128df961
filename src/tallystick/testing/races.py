"""Races: many callers at once on committed connections, released together."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tallystick.app import Tallystick
from tallystick.errors import Invalid, TallystickError

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.domains.identity.tenants import TenantInfo

R = TypeVar("R")
_MOST = 60
_STEP = 16
_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class RaceResult(Generic[R]):
    """How a race ended. ``outcomes`` has one entry a caller, in their order: what it answered, or its error."""

    outcomes: tuple[R | TallystickError, ...]

    @property
    def results(self) -> list[R]:
        """What the callers that succeeded answered."""
        return [o for o in self.outcomes if not isinstance(o, TallystickError)]

    @property
    def errors(self) -> list[TallystickError]:
        """The errors of the callers that did not."""
        return [o for o in self.outcomes if isinstance(o, TallystickError)]

    @property
    def winners(self) -> int:
        """How many callers succeeded."""
        return len(self.results)

    @property
    def kinds(self) -> set[type[TallystickError]]:
        """The classes of the errors."""
        return {type(e) for e in self.errors}


class Race:
    """``await race(16, fn)``: sixteen sessions of one tenant run ``fn(db)`` at the same time.

    Each caller has its own session on its own connection, opened before the start. ``fn(db, number)`` is told which
    caller it is. Errors of Tallystick are results; any other exception is raised here.
    """

    def __init__(self, tally: Tallystick, tenant: str | UUID | TenantInfo | None = None) -> None:
        self._outer = tally
        self._tenant = tenant
        self._app: Tallystick | None = None
        self._size = 0

    def within(self, tenant: str | UUID | TenantInfo) -> Race:
        """The same racers, for another tenant."""
        return _Within(self, tenant)

    async def __call__(
        self,
        n: int,
        fn: Callable[..., Awaitable[R]],
        *,
        tenant: str | UUID | TenantInfo | None = None,
        timeout: float = _TIMEOUT,
    ) -> RaceResult[R]:
        """Run ``fn`` in ``n`` callers at once, 2 to 60. Raises ``TimeoutError`` when they are not done in time."""
        wanted = tenant if tenant is not None else self._tenant
        if n.__class__ is not int or not 2 <= n <= _MOST:
            raise Invalid(f"A race has 2 to {_MOST} callers.", field="n")
        if wanted is None:
            raise Invalid("A race needs a tenant.", field="tenant", remedy="Name it: race(16, fn, tenant=slug).")
        app = await self._grown(n)
        await self._warm(app, n, wanted)
        barrier = asyncio.Barrier(n)
        numbered = _takes_two(fn)

        async def caller(number: int) -> R:
            async with app.session(wanted, actor=f"racer:{number}", permissions=("*",)) as db:
                await barrier.wait()
                return await (fn(db, number) if numbered else fn(db))

        async with asyncio.timeout(timeout):
            found = await asyncio.gather(*(caller(i) for i in range(n)), return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, TallystickError):
                raise one
        return RaceResult(tuple(found))  # type: ignore[arg-type]

    async def close(self) -> None:
        """Close the racers' connections."""
        app, self._app, self._size = self._app, None, 0
        if app is not None:
            await app.close()

    async def _grown(self, n: int) -> Tallystick:
        """An application with a connection for each caller, kept from race to race."""
        if self._app is None or n > self._size:
            await self.close()
            outer, size = self._outer, max(n, _STEP)
            app = Tallystick(
                replace(outer.settings, pool_max=size),
                outer.domains,
                outer.entities,
                keys=outer.keys,
                clock=outer.clock,
                version_locations=outer._version_locations,
                verifier=outer.verifier,
                logins=outer.login_policy,
            )
            await app.start()
            self._app, self._size = app, size
        return self._app

    async def _warm(self, app: Tallystick, n: int, tenant: Any) -> None:
        """Open every connection and look the tenant up, so that nobody starts with a handicap."""
        pool = app.store.pool
        links = await asyncio.gather(*(pool.acquire(None) for _ in range(n)))
        for link in links:
            pool.release(link)
        await app.tenants.resolve(tenant)


class _Within(Race):
    """A race for one tenant on the connections of another."""

    def __init__(self, race: Race, tenant: Any) -> None:
        super().__init__(race._outer, tenant)
        self._race = race

    async def close(self) -> None:
        """Leave the connections to their owner."""

    async def _grown(self, n: int) -> Tallystick:
        return await self._race._grown(n)


def _takes_two(fn: Callable[..., Any]) -> bool:
    needed = [
        p
        for p in inspect.signature(fn).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    return len(needed) >= 2
