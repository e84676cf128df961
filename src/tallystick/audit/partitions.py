"""The months of the log: made ahead, watched, and dropped when their time is over, by the sealing role."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from datetime import date
from typing import Any

import asyncpg

from tallystick.errors import Conflict, Invalid, NotFound, Unavailable
from tallystick.stores.postgres.errors import FAILURES, translate

AHEAD = 3
"""How many months after the present one have a partition."""
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Made:
    """What one run did: partitions made, and entries moved out of the default partition into a month of their own.

    ``rescued`` above zero is an alarm: for a while nobody made partitions.
    """

    made: int
    rescued: int


@dataclass(frozen=True, slots=True)
class Partition:
    """One part of the log: its month (None for the default one, which should be empty), its size, whether it holds."""

    name: str
    month: date | None
    bytes: int
    holds: bool


async def make_partitions(conn: asyncpg.Connection, ahead: int = AHEAD, *, patience: float = PATIENCE) -> Made:
    """Make the months that are missing, and empty the default partition. Writers are not waited for longer than 0.5 s.

    Run it daily. Raises ``Unavailable`` when the log stayed busy for ``patience`` seconds, ``Invalid``.
    """
    if ahead.__class__ is not int or not 0 <= ahead <= 24:
        raise Invalid("Partitions are made 0 to 24 months ahead.", field="ahead", remedy="Three is enough.")
    row = await _patiently(conn, patience, "SELECT made, rescued FROM tally_audit.make_partitions($1)", ahead)
    return Made(row["made"], row["rescued"])


async def partitions(conn: asyncpg.Connection) -> list[Partition]:
    """Every part of the log. Alarm when the default one holds anything, or no month lies ahead."""
    problem: Exception
    try:
        rows = await conn.fetch("SELECT part, month, bytes, holds FROM tally_audit.partitions()")
    except FAILURES as caught:
        problem = caught
    else:
        return [Partition(r["part"], r["month"], r["bytes"], r["holds"]) for r in rows]
    raise translate(problem)


async def drop_bodies(conn: asyncpg.Connection, month: date, *, patience: float = PATIENCE) -> int:
    """Drop the bodies and salts of a month, of all tenants; answers how many entries they were.

    The hashes stay, so every proof holds, and each tenant's log says what was dropped and on which basis. Raises
    ``Conflict`` for a month that the retention policy still keeps or that is not wholly sealed, ``NotFound`` for one
    that is not there (any more), ``Unavailable``.
    """
    if not isinstance(month, date):
        raise Invalid("A month is a date in it.", field="month", remedy="Write date(2019, 4, 1).")
    row = await _patiently(conn, patience, "SELECT tally_audit.drop_bodies($1) AS entries", month)
    return int(row["entries"])


async def _patiently(conn: asyncpg.Connection, patience: float, sql: str, *args: Any) -> asyncpg.Record:
    """Try again while the log is busy: whoever waits long for its lock would make every writer wait behind."""
    deadline = time.monotonic() + patience
    while True:
        problem: Exception
        try:
            (row,) = await conn.fetch(sql, *args)
        except asyncpg.LockNotAvailableError as caught:
            problem = caught
        except FAILURES as caught:
            problem = caught
            break
        else:
            return row
        if time.monotonic() >= deadline:
            break
        await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311  jitter, not a secret
    raise _told(problem)


def _told(problem: Exception) -> Exception:
    state = str(getattr(problem, "sqlstate", None) or "")
    if state == "55P03":
        return Unavailable("The audit log stayed busy.", remedy="End the long transactions that write, and try again.")
    if state == "TSA02":
        return Conflict("The retention policy still keeps this month.", remedy="Wait, or change the policy first.")
    if state == "TSA03":
        return NotFound("The log has no such month.", remedy="Its bodies may have been dropped before.")
    if state == "TSA04":
        return Conflict("Entries of this month are not sealed yet.", remedy="Seal first: tallystick audit seal.")
    return translate(problem)
