"""Replaying the erasure ledger: what was erased stays erased after a database was restored from a backup.

A backup that is older than an erasure holds the wrapped keys that it destroyed, or, where only some tables were
restored, the blind indexes. Run this on a restored database before anything else opens it. Holds and policies are not
asked: every line was decided with both in force. What a request left for later is not in the ledger; a request that
the backup does not know is therefore open again, to be decided.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tallystick.domains.guarded import put
from tallystick.domains.identity.consents import withdraw_all
from tallystick.domains.identity.erasures import OPEN, ErasureGround, ErasureRequest, ErasureStep, StepStatus
from tallystick.domains.identity.users import UserStatus
from tallystick.domains.rights.erasure import (
    LedgerLine,
    destroy,
    is_account,
    is_left,
    mark_erased,
    read_line,
    refuse_open,
)
from tallystick.domains.rights.places import all_declared
from tallystick.errors import Tampered
from tallystick.fields import Ref
from tallystick.query import one_of

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.session import Session


class Replayed(msgspec.Struct, frozen=True):
    """What a replay found: lines of the ledger, how many were done again, and the keys that destroyed.

    ``reopened`` are requests that the database did not know, of persons of whom something is left.
    """

    tenant: str
    lines: int
    again: int
    keys: int
    reopened: int = 0


async def replay_erasures(tally: Tallystick) -> list[Replayed]:
    """Carry out every erasure of the ledger that the database lacks, for every tenant, closed ones too.

    It may be run any number of times. Raises ``Tampered`` for a ledger that cannot be read, ``Unavailable``.
    """
    done = []
    async for id, _, _ in tally.tenants.all():
        async with tally._upkeep(id, actor="system:replay", reason="erasures of the ledger", permissions=("*",)) as db:
            done.append(await replay_tenant(db))
    return done


async def replay_tenant(db: Session) -> Replayed:
    """Carry out what the database of one tenant lacks."""
    refuse_open(db)
    await all_declared(db)
    keyring = db.sealer.keyring()
    lines = [_read(line) for line in keyring.provider.erasures(db.tenant_id)]
    again = keys = reopened = 0
    for line in lines:
        done = await db.atomic(_again(line))
        again += done is not None
        keys += done or 0
    asked: dict[UUID, list[LedgerLine]] = {}
    for line in lines:
        if line.request is not None:
            asked.setdefault(line.request, []).append(line)
    for request, of in asked.items():
        reopened += await db.atomic(_reopened(request, of))
    keyring.forget(db.tenant_id)
    return Replayed(db.tenant.slug, len(lines), again, keys, reopened)


def _again(line: LedgerLine) -> Callable[[Session], Awaitable[int | None]]:
    async def work(db: Session) -> int | None:
        user = await db.users.get_or_none(line.person)
        left = await db.unit.call(_LEFT, (db.tenant_id, line.subjects, line.classes))
        if user is None and not left[0][0]:
            return None
        ends = False
        if user is not None:
            user = await db.users.lock(line.person)
            ends = user.status is not UserStatus.ERASED and is_account(line.classes)
        if ends:
            await withdraw_all(db, line.person)
        done = await destroy(db, line.person, line.classes, line.subjects)
        if ends:
            await mark_erased(db, line.person)
        return done.keys if done.keys or done.indexes or ends else None

    return work


def _reopened(request: UUID, lines: list[LedgerLine]) -> Callable[[Session], Awaitable[bool]]:
    first = lines[0]

    async def work(db: Session) -> bool:
        if await db.users.get_or_none(first.person) is None:
            return False
        await db.users.lock(first.person)
        if await db[ErasureRequest].get_or_none(request) is not None or await db[ErasureRequest].exists(
            ErasureRequest.user == Ref(first.person), one_of(ErasureRequest.status, OPEN)
        ):
            return False
        if not await is_left(db, first.person):
            return False
        made = ErasureRequest(
            id=request,
            user=Ref(first.person),
            ground=first.ground or ErasureGround.CONSENT_WITHDRAWN,
            requested_at=first.at,
            final_epoch=max((line.epoch for line in lines if line.epoch is not None), default=None),
        )
        asked = await put(db[ErasureRequest], made)
        # What was erased for it later than at first too, or it would be judged again.
        for name, at in {name: line.at for line in lines for name in line.classes}.items():
            gone = ErasureStep(request=asked.ref, data_class=name, status=StepStatus.ERASED, erased_at=at)
            await put(db[ErasureStep], gone)
        return True

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
