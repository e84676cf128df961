"""Connections that watch themselves: what the server holds is compared with what the library believes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tallystick import Tallystick
from tallystick.stores.postgres.link import Link

_OPENING = re.compile(r"BEGIN.*set_config\('tally\.tenant', '([0-9a-f-]{36})', true\)", re.DOTALL)


class Leak(AssertionError):
    """The server's setting is not what the link's tag, or the transaction's opening, says."""


class WatchedLink(Link):
    """Asks the server for its setting before every statement, and records what was sent."""

    __slots__ = ("inside", "sent", "warmed")

    def __init__(self, raw: Any, *, named: bool, sent: list[str] | None) -> None:
        super().__init__(raw, named=named)
        self.inside: str | None = None
        self.sent = sent
        self.warmed = 0

    async def rows(self, sql: str, args: Sequence[Any]) -> list[Any]:
        await self._watch(sql)
        return await super().rows(sql, args)

    async def row(self, sql: str, args: Sequence[Any]) -> Any:
        await self._watch(sql)
        return await super().row(sql, args)

    async def script(self, sql: str) -> str:
        await self._watch(sql)
        answer = await super().script(sql)
        opened = _OPENING.search(sql)
        if opened:
            self.inside = opened[1]
        return answer

    async def warm(self, tenant: str) -> None:
        if self.in_transaction:
            raise Leak("a session setting was about to be made inside a transaction")
        self.warmed += 1
        await super().warm(tenant)

    async def _watch(self, sql: str) -> None:
        if self.sent is not None:
            self.sent.append(sql)
            return
        if "set_config('tally.tenant'" in sql or not self.named:
            return
        try:
            found = await self.raw.fetchval("SELECT current_setting('tally.tenant', true)")
        except BaseException as problem:
            self.judge(problem)
            raise
        expected = self.inside if self.in_transaction else self.tenant
        if not self.in_transaction:
            self.inside = None
        # Never set and reset read differently, and both are nobody.
        if (found or None) != expected:
            raise Leak(f"the server holds {found!r}, the library believes {expected!r}")


def watch(tally: Tallystick, *, record: list[str] | None = None) -> None:
    """Make every connection that the application opens from now on a watched one; ``record`` only notes the SQL."""
    store = tally.store
    dial = store._dial

    async def watched() -> Link:
        link = await dial()
        return WatchedLink(link.raw, named=link.named, sent=record)

    store._dial = watched  # type: ignore[method-assign]
    idle, store.pool._idle = store.pool._idle, []
    for link in idle:
        store.pool._open -= 1
        link.kill()
