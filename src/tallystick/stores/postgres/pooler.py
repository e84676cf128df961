"""Noticing a transaction pooler that the settings do not know of.

Behind one, the server that answers changes between statements, so a session setting made on one server is not there on
the next, and another tenant's may be. Row-level security and the predicate together still show no foreign row, but they
would show nothing at all, silently; so such a pooler is refused at the start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tallystick.errors import Invalid
from tallystick.stores.postgres.link import Link

_WHO = "SELECT pg_catalog.pg_backend_pid()"
_ROUNDS = 4


async def refuse_transaction_pooler(link: Link, dial: Callable[[], Awaitable[Link]]) -> None:
    """Raise ``Invalid`` when ``link`` leads through a pooler that hands out servers by the transaction.

    The login names a server process; where another one answers there is a pooler between. It works by the session when
    two connections held at once are answered by two processes that stay the same, and else by the transaction.
    """
    process = await _who(link)
    if process == link.raw.get_server_pid():
        return
    mine, others = {process}, set[int]()
    other = await dial()
    try:
        for _ in range(_ROUNDS):
            others.add(await _who(other))
            mine.add(await _who(link))
    finally:
        other.kill()
    if len(mine) > 1 or len(others) > 1 or mine & others:
        raise hidden_pooler()


def hidden_pooler() -> Invalid:
    """The error for settings that do not say what stands before the server."""
    return Invalid(
        "The server is behind a connection pooler that works by the transaction.",
        field="pooler",
        remedy='Set TALLYSTICK_POOLER=transaction (Settings(pooler="transaction")), or connect past the pooler.',
    )


def pooler_without_transactions() -> Invalid:
    """The error for a pooler that hands out servers by the statement."""
    return Invalid(
        "The server is behind a connection pooler that works by the statement, and there are no transactions there.",
        field="pooler",
        remedy="Set pool_mode = transaction in PgBouncer, and TALLYSTICK_POOLER=transaction.",
    )


async def _who(link: Link) -> int:
    return int((await link.row(_WHO, ()))[0])
