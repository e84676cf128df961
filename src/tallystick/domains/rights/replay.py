"""Replaying the erasure ledger: what was erased stays erased after a database was restored from a backup.

A backup that is older than an erasure holds the wrapped keys that it destroyed. Run this on a restored database before
anything else opens it. Holds and policies are not asked: every line was decided with both in force.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from tallystick.domains.identity.users import User, UserStatus
from tallystick.domains.rights.erasure import LedgerLine, destroy, read_line, refuse_open
from tallystick.entity import spec_of
from tallystick.errors import Tampered

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.session import Session


class Replayed(msgspec.Struct, frozen=True):
    """What a replay found: lines of the ledger, how many were done again, and the keys that destroyed."""

    tenant: str
    lines: int
    again: int
    keys: int


async def replay_erasures(tally: Tallystick) -> list[Replayed]:
    """Carry out every erasure of the ledger that the database lacks, for every active tenant.

    It may be run any number of times. Raises ``Tampered`` for a ledger that cannot be read, ``Unavailable``.
    """
    return [
        await replay_tenant(db) async for db in tally.system(actor="system:replay", reason="erasures of the ledger")
    ]


async def replay_tenant(db: Session) -> Replayed:
    """Carry out what the database of one tenant lacks."""
    refuse_open(db)
    keyring = db.sealer.keyring()
    lines = [_read(line) for line in keyring.provider.erasures(db.tenant_id)]
    again = keys = 0
    for line in lines:
        done = await db.atomic(_again(line))
        again += done is not None
        keys += done or 0
    keyring.forget(db.tenant_id)
    return Replayed(db.tenant.slug, len(lines), again, keys)


def _again(line: LedgerLine) -> Callable[[Session], Awaitable[int | None]]:
    async def work(db: Session) -> int | None:
        user = await db.users.get_or_none(line.person)
        left = await db.unit.call(_LEFT, (db.tenant_id, line.subjects, line.classes))
        whole = set(spec_of(User).purposes) <= set(line.classes)
        open_account = user is not None and whole and user.status is not UserStatus.ERASED
        if not left[0][0] and not open_account:
            return None
        done = await destroy(db, line.person, line.classes, line.subjects)
        if user is not None and open_account:
            user = await db.users.lock(line.person)
            await db.users.update(user, status=UserStatus.ERASED)
        return done.keys

    return work


def _read(line: bytes) -> LedgerLine:
    found = None
    try:
        found = read_line(line)
    except msgspec.MsgspecError:
        found = None
    if found is None or found.v != 1:
        raise Tampered("A line of the erasure ledger cannot be read.")
    return found


_LEFT = (
    "SELECT count(*) FROM tally.data_key k WHERE k.tenant_id = $1 AND k.subject = ANY ($2) AND k.class = ANY ($3) "
    "AND k.state = 'live'"
)
