"""How the audit trail is: what waits, what is signed, what guards it. Numbers for a screen, a monitor and an alarm."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import asyncpg

from tallystick.audit.cursor import NEVER_SEALED, Cursor, held_by, read_cursor, read_waiting
from tallystick.audit.sealer import last_state
from tallystick.audit.state import read_state
from tallystick.audit.tiles import read_sizes
from tallystick.schema.roles import Roles

__all__ = ["AuditStatus", "LogStatus", "read_status"]


@dataclass(frozen=True, slots=True)
class LogStatus:
    """One tenant's log. ``leaves`` are sealed entries, ``unsealed`` wait, the oldest for ``unsealed_age`` seconds.

    ``signed`` is the size of the last checkpoint, ``signed_at`` its time by the sealer's clock.
    """

    tenant: UUID
    leaves: int
    unsealed: int
    unsealed_age: float
    signed: int
    signed_at: datetime | None

    @property
    def entries(self) -> int:
        """Everything that was captured, what retention dropped included."""
        return self.leaves + self.unsealed


@dataclass(frozen=True, slots=True)
class AuditStatus:
    """The whole trail. ``problems`` says in sentences what somebody should look at; it is empty when all is well.

    ``held_by`` names the transaction that keeps entries from being sealed, on whichever database of the server it
    runs. ``missed`` counts entries that the cursor passed and nobody sealed; it is None unless it was asked for, and
    has to be 0.
    """

    installation: UUID
    epoch: int
    logs: tuple[LogStatus, ...]
    held_by: str | None
    in_default_partition: bool
    partitions_until: datetime | None
    state: str
    state_changes: tuple[str, ...]
    weak: tuple[str, ...]
    missed: int | None = None
    problems: tuple[str, ...] = field(default=())

    @property
    def unsealed(self) -> int:
        """Entries that wait, over all logs."""
        return sum(log.unsealed for log in self.logs)

    @property
    def unsealed_age(self) -> float:
        """How long the oldest of them has waited, in seconds; the number to watch."""
        return max((log.unsealed_age for log in self.logs), default=0.0)


async def read_status(
    conn: asyncpg.Connection, roles: Roles, *, deep: bool = False, max_age: float = 900.0
) -> AuditStatus:
    """Ask the database. ``deep`` also looks for entries that were missed, which reads the whole trail."""
    cursor = await read_cursor(conn)
    sizes = await read_sizes(conn)
    waiting = {w.tenant: w for w in await read_waiting(conn, cursor)}
    tenants = sorted(sizes.keys() | waiting.keys(), key=lambda t: t.int)
    signed = {r["tenant_id"]: r for r in await conn.fetch(_SIGNED, tenants)}
    logs = tuple(
        LogStatus(
            tenant,
            sizes.get(tenant, 0),
            waiting[tenant].entries if tenant in waiting else 0,
            waiting[tenant].age if tenant in waiting else 0.0,
            signed[tenant]["size"] if tenant in signed else 0,
            signed[tenant]["at"] if tenant in signed else None,
        )
        for tenant in tenants
    )
    state, before = await read_state(conn, roles), await last_state(conn)
    facts: dict[str, Any] = {
        "installation": cursor.installation,
        "epoch": cursor.epoch,
        "logs": logs,
        "held_by": await held_by(conn) if waiting else None,
        "state": state.digest,
        "state_changes": () if before is None else tuple(state.changes_since(before)),
        "weak": tuple(state.weak),
        "missed": await _missed(conn, cursor) if deep else None,
        **await _partitions(conn),
    }
    found = AuditStatus(**facts)
    return AuditStatus(**facts, problems=tuple(_problems(found, before is not None, max_age)))


def _problems(found: AuditStatus, stated: bool, max_age: float) -> list[str]:
    told = []
    if found.unsealed_age > max_age:
        who = f"; {found.held_by} holds it up" if found.held_by else "; is a sealer running?"
        told.append(f"{found.unsealed:,} entries wait to be sealed, the oldest for {found.unsealed_age:,.0f} s{who}")
    if found.missed:
        told.append(f"{found.missed:,} entries were never sealed although the cursor has passed them")
    if found.in_default_partition:
        told.append("entries are in the default partition: a month had no partition of its own")
    if found.partitions_until is None or found.partitions_until < datetime.now(UTC):
        told.append("there is no partition for this month")
    if stated and found.state_changes:
        told.append(f"what guards the data changed since it was last sealed: {_some(found.state_changes)}")
    if found.weak:
        told.append(f"guards do not hold: {_some(found.weak)}")
    return told


def _some(names: tuple[str, ...], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


async def _missed(conn: asyncpg.Connection, cursor: Cursor) -> int:
    behind = "SELECT count(*) FROM tally_audit.entry e WHERE (e.xid, e.seq) <= ($1::text::xid8, $2)"
    return int(await conn.fetchval(f"{behind} {NEVER_SEALED}", str(cursor.xid), cursor.seq))


async def _partitions(conn: asyncpg.Connection) -> dict[str, Any]:
    rows = await conn.fetch("SELECT part, month, holds FROM tally_audit.partitions()")
    last = max((r["month"] for r in rows if r["month"] is not None), default=None)
    return {
        "partitions_until": None if last is None else _next_month(last),
        "in_default_partition": any(r["holds"] for r in rows if r["month"] is None),
    }


def _next_month(month: date) -> datetime:
    return datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC)


_SIGNED = """
SELECT c.* FROM unnest($1::uuid[]) AS t (tenant_id) CROSS JOIN LATERAL (
  SELECT k.tenant_id, k.size, k.at FROM tally_audit.checkpoint k WHERE k.tenant_id = t.tenant_id
  ORDER BY k.size DESC LIMIT 1) AS c
"""
