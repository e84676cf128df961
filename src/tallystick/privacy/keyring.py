"""The keyring: the data keys that this process has at hand, and how it comes by others.

A data key belongs to one person and purpose class of one tenant; it is random, wrapped by the key of an epoch, and
kept beside the rows (table ``data_key``). Every envelope names its key, so reading needs no path from a row to a
person. Unwrapped keys are kept here, bounded and for a limited time. Every read of sealed columns also brings the
tenant's key generation, which each erasure moves: keys that are older than it are dropped before anything is opened,
so what one process erased no other can open again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from tallystick.errors import Conflict, Erased, Serialization, Tampered
from tallystick.privacy.envelope import DataKey, length_prefixed, open_, seal

if TYPE_CHECKING:
    from tallystick.privacy.keys import KeyProvider
    from tallystick.stores.base import Unit

_MOST: Final = 20_000
_SECONDS: Final = 900.0
_AT_ONCE: Final = 10_000
_WRAP: Final = b"tallystick/1/data key"
_TRIES: Final = 3

#: Whose key and for what: the person (or the row itself), and the purpose class of the data.
Owner = tuple[UUID, str]


class HeldKey(NamedTuple):
    """A data key and whose it is; ``key`` is None once it was erased."""

    key: DataKey | None
    subject: UUID


class TenantKeys:
    """The keys of one tenant that this process has at hand."""

    __slots__ = ("by_id", "by_owner", "epoch", "epochs", "generation", "since")

    def __init__(self) -> None:
        self.by_id: dict[bytes, HeldKey] = {}
        self.by_owner: dict[Owner, HeldKey] = {}
        self.epochs: dict[int, DataKey] = {}
        self.epoch: int | None = None
        self.generation = 0
        self.since = time.monotonic()

    def drop(self) -> None:
        """Forget every key."""
        self.by_id.clear()
        self.by_owner.clear()
        self.epochs.clear()
        self.epoch = None
        self.since = time.monotonic()

    def fresh(self, generation: int | None) -> None:
        """Forget the keys when somebody was erased since, when they are many, or when they have been here long."""
        if (generation or 0) > self.generation:
            self.drop()
            self.generation = generation or 0
        elif len(self.by_id) > _MOST or time.monotonic() - self.since > _SECONDS:
            self.drop()


class Keyring:
    """All tenants' keys of one application."""

    __slots__ = ("_tenants", "provider")

    def __init__(self, provider: KeyProvider) -> None:
        self.provider: Final = provider
        self._tenants: dict[UUID, TenantKeys] = {}

    def of(self, tenant: UUID) -> TenantKeys:
        """What is at hand of a tenant."""
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = TenantKeys()
        return found

    async def load(self, unit: Unit, wanted: Collection[bytes]) -> dict[bytes, HeldKey]:
        """Read the keys that envelopes name; those of committed rows stay at hand.

        Raises ``Tampered`` for an envelope whose key the tenant does not have.
        """
        held = self.of(unit.tenant)
        found: dict[bytes, HeldKey] = {}
        ids = list(wanted)
        for start in range(0, len(ids), _AT_ONCE):
            rows = await unit.call(_BY_ID, (unit.tenant, ids[start : start + _AT_ONCE]))
            found.update(await self._taken(unit.tenant, rows))
        missing = next((k for k in ids if k not in found and k not in held.by_id), None)
        if missing is not None:
            raise Tampered("A sealed value names a key that its tenant does not have.")
        return found

    async def ready(self, unit: Unit, owners: Iterable[Owner]) -> dict[Owner, HeldKey]:
        """The keys of these owners, made where there are none yet. Raises ``Erased`` for one that was erased.

        New keys are written by the unit, in its transaction when one is open; then they are not kept at hand, because
        it may still roll back.
        """
        held = self.of(unit.tenant)
        held.fresh(None)
        wanted = list(dict.fromkeys(owners))
        found = {o: k for o in wanted if (k := held.by_owner.get(o)) is not None}
        missing = [o for o in wanted if o not in found]
        for _ in range(_TRIES):
            if not missing:
                break
            for start in range(0, len(missing), _AT_ONCE):
                found.update(await self._there(unit, missing[start : start + _AT_ONCE]))
            missing = [o for o in missing if o not in found]
            for start in range(0, len(missing), _AT_ONCE):
                await self._make(unit, missing[start : start + _AT_ONCE])
        if missing:
            raise Serialization("The key of a person was being made by somebody else.", remedy="Try again.")
        if any(k.key is None for k in found.values()):
            raise Erased("The person was erased; nothing more can be written about them in this class.")
        return found

    async def _there(self, unit: Unit, owners: Sequence[Owner]) -> dict[Owner, HeldKey]:
        rows = await unit.call(_BY_OWNER, (unit.tenant, [o[0] for o in owners], [o[1] for o in owners]))
        keys = await self._taken(unit.tenant, rows)
        return {(row[1], row[2]): keys[row[0]] for row in rows}

    async def _make(self, unit: Unit, owners: Sequence[Owner]) -> None:
        tenant = unit.tenant
        for last in (False, True):
            epoch = await self._current_epoch(tenant)
            wrapping = await self._epoch_key(tenant, epoch)
            ids, wrapped = [], []
            for subject, purpose in owners:
                material = os.urandom(32)
                ids.append(DataKey(material).key_id)
                wrapped.append(seal(wrapping, material, wrap_context(tenant, subject, purpose)))
            args = (tenant, [o[0] for o in owners], [o[1] for o in owners], ids, wrapped, epoch)
            try:
                await unit.call(_MAKE, args)
                return
            except Conflict as problem:
                # The epoch was ended since it was looked up; outside a transaction the next one can be asked for.
                if last or unit.depth or problem.code != Conflict.code:
                    raise
                self.of(tenant).drop()

    async def _taken(self, tenant: UUID, rows: Sequence[Sequence[Any]]) -> dict[bytes, HeldKey]:
        """Keys from rows of the table, unwrapped; settled ones stay at hand."""
        held, found = self.of(tenant), dict[bytes, HeldKey]()
        settled_keys: list[tuple[bytes, Owner, HeldKey]] = []
        for key_id, subject, purpose, epoch, wrapped, settled, generation in rows:
            held.fresh(generation)
            known = held.by_id.get(key_id)
            if known is None or (known.key is not None) != (wrapped is not None):
                key = None
                if wrapped is not None:
                    wrapping = held.epochs.get(epoch) or await self._epoch_key(tenant, epoch)
                    key = DataKey(open_(wrapping, wrapped, wrap_context(tenant, subject, purpose)))
                    if key.key_id != key_id:
                        raise Tampered("A wrapped data key is not the one that its row names.")
                known = HeldKey(key, subject)
            found[key_id] = known
            if settled:
                settled_keys.append((key_id, (subject, purpose), known))
        # Somebody may have been erased while a key service answered: what was read before that is not kept.
        if rows and (rows[0][-1] or 0) >= held.generation:
            for key_id, owner, known in settled_keys:
                held.by_id[key_id] = held.by_owner[owner] = known
        return found

    async def _current_epoch(self, tenant: UUID) -> int:
        held = self.of(tenant)
        if held.epoch is None:
            epochs = await asyncio.to_thread(self.provider.epochs, tenant)
            living = [n for n, ended in epochs.items() if ended is None]
            held.epoch = max(living) if living else await asyncio.to_thread(self.provider.begin_epoch, tenant)
        return held.epoch

    async def _epoch_key(self, tenant: UUID, epoch: int) -> DataKey:
        held = self.of(tenant)
        found = held.epochs.get(epoch)
        if found is None:
            # In a thread, because it may be a service that answers.
            found = held.epochs[epoch] = await asyncio.to_thread(self.provider.epoch_key, tenant, epoch)
        return found


def wrap_context(tenant: UUID, subject: UUID, purpose: str) -> bytes:
    """What a wrapped data key is bound to: whose it is and for what."""
    return length_prefixed(_WRAP, tenant.bytes, subject.bytes, purpose.encode())


# What was made by the transaction under way carries its start as the time it was made.
_COLUMNS = (
    "k.key_id, k.subject, k.class, k.epoch, k.wrapped, k.created_at <> now() AS settled, "
    "(SELECT s.generation FROM tally.key_state s WHERE s.tenant_id = $1) AS generation"
)
_BY_ID = f"SELECT {_COLUMNS} FROM tally.data_key k WHERE k.tenant_id = $1 AND k.key_id = ANY ($2::bytea[])"
# One probe of the index for each person, whatever the planner knows of the table.
_BY_OWNER = (
    f"SELECT {_COLUMNS} FROM unnest($2::uuid[], $3::text[]) AS w (subject, class) CROSS JOIN LATERAL "
    "(SELECT * FROM tally.data_key d WHERE d.tenant_id = $1 AND d.subject = w.subject "
    'AND d.class = w.class COLLATE "C" LIMIT 1) AS k'
)
_MAKE = (
    "INSERT INTO tally.data_key (tenant_id, subject, class, key_id, wrapped, epoch) "
    "SELECT $1, w.subject, w.class, w.key_id, w.wrapped, $6::integer "
    "FROM unnest($2::uuid[], $3::text[], $4::bytea[], $5::bytea[]) AS w (subject, class, key_id, wrapped) "
    "ON CONFLICT (tenant_id, subject, class) DO NOTHING"
)
