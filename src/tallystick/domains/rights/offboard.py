"""Offboarding: a tenant leaves with everything it has, and what stays behind can never be read again."""

from __future__ import annotations

import asyncio
from os import PathLike
from typing import TYPE_CHECKING, Any

import msgspec

from tallystick.domains.rights.erasure import refuse_open
from tallystick.domains.rights.export import Manifest, check_export, export_tenant
from tallystick.errors import Invalid
from tallystick.privacy.rotation import NEVER

if TYPE_CHECKING:
    from tallystick.session import Session


class Offboarded(msgspec.Struct, frozen=True):
    """What was written, and the key epochs that were ended."""

    export: Manifest
    epochs: tuple[int, ...]


async def offboard(db: Session, path: str | PathLike[str], *, confirm: str, reason: str, key: Any = None) -> Offboarded:
    """Export the tenant, check what was written, end every epoch of its keys, and close the tenant.

    ``confirm`` is the tenant's slug. It cannot be undone: from then on nothing sealed can be read, in backups neither.
    The audit log and the books stay, unreadable where they were sealed. Stopped half way it is run again, with another
    folder; the folder that was whole first is the export, because keys may have ended since. Needs
    "privacy.export_tenant" and "tenant.manage"; raises ``Invalid``, ``Unsupported`` for keys without a folder.
    """
    refuse_open(db)
    await db.require("tenant.manage")
    if confirm != db.tenant.slug:
        raise Invalid(
            "Offboarding has to be confirmed with the tenant's slug.", field="confirm", remedy="Give its exact slug."
        )
    provider = db.sealer.keyring().provider
    # An epoch that is ended again below: keys that cannot end one refuse here, before anything is done.
    await asyncio.to_thread(provider.begin_epoch, db.tenant_id)
    manifest = await export_tenant(db, path, reason, key)
    await asyncio.to_thread(check_export, path)
    # No key is made any more in any epoch, whoever begins another one.
    await db.unit.change("SELECT tally.close_epochs($1)", (NEVER,))
    epochs = await asyncio.to_thread(provider.epochs, db.tenant_id)
    living = sorted(n for n, ended in epochs.items() if ended is None)
    for epoch in living:
        await asyncio.to_thread(provider.end_epoch, db.tenant_id, epoch)
    db.sealer.keyring().forget(db.tenant_id)
    # Last, because a closed tenant has no session in which this could be run again.
    await db.unit.change(_CLOSE, (msgspec.json.encode({"is_active": False}).decode(),))
    return Offboarded(manifest, tuple(living))


_CLOSE = "SELECT id FROM tally_ref.tenant_update($1::jsonb)"
