"""The keyring: the data keys that this process has at hand, and how it comes by others.

A data key belongs to one person and purpose class of one tenant; it is random, wrapped by the key of an epoch, and
kept beside the rows (table ``data_key``). Every envelope names its key, so reading needs no path from a row to a
person. Unwrapped keys are kept here, bounded and for a limited time. Every read of sealed columns also brings the
tenant's key generation, which each erasure changes: what was kept under another one is dropped before anything is
opened, so what one process erased no other can open again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from uuid import UUID

from tallystick.errors import Erased, Serialization, Tampered
from tallystick.privacy.cells import Opener
from tallystick.privacy.envelope import DataKey, length_prefixed, open_, seal

if TYPE_CHECKING:
    from tallystick.privacy.keys import KeyProvider
    from tallystick.stores.base import Unit

T = TypeVar("T")
_MOST: Final = 20_000
_SECONDS: Final = 900.0
_AT_ONCE: Final = 10_000
_ROWS: Final = 1_024
_WRAP: Final = b"tallystick/1/data key"
_TRIES: Final = 4
VIEW_SECONDS: Final = 60.0
"""For how long a process goes by the generations of index keys that it read."""

Owner = tuple[UUID, str]
"""Whose key and for what: the person (or the row itself), and the purpose class of the data."""


class HeldKey(NamedTuple):
    """A data key and whose it is; ``key`` is None once it was erased."""

    key: DataKey | None
    subject: UUID


class TenantKeys:
    """The keys of one tenant that this process has at hand, as of one key generation."""

    __slots__ = ("_until", "by_id", "by_owner", "epoch", "epochs", "generation", "indexes", "indexes_until")

    def __init__(self) -> None:
        self.by_id: dict[bytes, HeldKey] = {}
        self.by_owner: dict[Owner, HeldKey] = {}
        self.epochs: dict[int, DataKey | None] = {}
        self.epoch: int | None = None
        self.generation = 0
        self._until = time.monotonic() + _SECONDS
        self.indexes: dict[tuple[str, str], int] = {}
        self.indexes_until = 0.0

    def forget_generations(self) -> None:
        """Read the generations of index keys again before the next value is indexed."""
        self.indexes_until = 0.0

    def at(self, generation: int | None) -> None:
        """Forget the keys unless they were kept under this generation, or when they have been here for long.

        A generation is never less or more than another, only the same or not: a transaction that was rolled back may
        have shown one here that never was.
        """
        if (generation or 0) != self.generation:
            self.by_id.clear()
            self.by_owner.clear()
            self.generation = generation or 0
            self.forget_generations()
        self.age()

    def age(self) -> None:
        """Forget everything, the epochs' keys too, when it has been here for long."""
        if time.monotonic() > self._until:
            self.by_id.clear()
            self.by_owner.clear()
            self.epochs.clear()
            self.epoch = None
            self._until = time.monotonic() + _SECONDS

    def shrink(self, share: float) -> None:
        """Forget the oldest keys and keep this share of them."""
        keep = int(len(self.by_id) * share)
        self.by_id = dict(islice(self.by_id.items(), len(self.by_id) - keep, None))
        self.by_owner = dict(islice(self.by_owner.items(), max(0, len(self.by_owner) - keep), None))


class Keyring:
    """All tenants' keys of one application."""

    __slots__ = ("_added", "_tenants", "provider")

    def __init__(self, provider: KeyProvider) -> None:
        self.provider: Final = provider
        self._tenants: dict[UUID, TenantKeys] = {}
        self._added = 0

    def of(self, tenant: UUID) -> TenantKeys:
        """What is at hand of a tenant."""
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = TenantKeys()
        return found

    def opener(self, tenant: UUID, wanted: Iterable[bytes], generation: int | None) -> Opener | None:
        """What opens envelopes that name these keys, where all of them are at hand in this generation; else None."""
        held = self._tenants.get(tenant)
        if held is None:
            return None
        held.at(generation)
        known, keys = held.by_id, dict[bytes, HeldKey]()
        for key_id in wanted:
            found = known.get(key_id)
            if found is None:
                return None
            keys[key_id] = found
        return Opener(tenant, keys)

    async def load(self, unit: Unit, wanted: Collection[bytes]) -> dict[bytes, HeldKey]:
        """Read the keys that envelopes name; those of committed rows stay at hand.

        Raises ``Tampered`` for an envelope whose key the tenant does not have.
        """
        found: dict[bytes, HeldKey] = {}
        for ids in _parts(list(wanted), _AT_ONCE):
            rows = await unit.call(_BY_ID, (unit.tenant, ids))
            found.update(await self._taken(unit.tenant, rows))
        if len(found) < len(wanted):
            raise Tampered("A sealed value names a key that its tenant does not have.")
        return found

    async def ready(self, unit: Unit, owners: Iterable[Owner], *, new: bool = False) -> dict[Owner, HeldKey]:
        """The keys of these owners, made where there are none yet; ``new`` says that most will have none.

        New keys are written by the unit: in its transaction when one is open, and are then not kept at hand, because it
        may still roll back. Raises ``Erased`` for one that was erased.
        """
        held = self.of(unit.tenant)
        held.age()
        # In one order everywhere, so that two who make the same keys wait for each other and do not lock up.
        wanted = sorted(set(owners))
        # What is kept as erased is asked again: whoever erased it may have rolled back.
        found = {o: k for o in wanted if (k := held.by_owner.get(o)) is not None and k.key is not None}
        missing = [o for o in wanted if o not in found]
        for attempt in range(_TRIES):
            if attempt or not new:
                for part in _parts(missing, _AT_ONCE):
                    found.update(await self._there(unit, part))
                missing = [o for o in missing if o not in found]
            for part in _powers(missing):
                found.update(await self._make(unit, part))
            missing = [o for o in missing if o not in found]
            if not missing:
                break
        if missing:
            raise Serialization("The key of a person was being made by somebody else.", remedy="Try again.")
        if any(k.key is None for k in found.values()):
            raise Erased("The person was erased; nothing more can be written about them in this class.")
        return found

    async def current_epoch(self, tenant: UUID) -> int:
        """The epoch in which new keys are wrapped; begins the first."""
        held = self.of(tenant)
        if held.epoch is None:
            epochs = await asyncio.to_thread(self.provider.epochs, tenant)
            living = [n for n, ended in epochs.items() if ended is None]
            held.epoch = max(living) if living else await asyncio.to_thread(self.provider.begin_epoch, tenant)
        return held.epoch

    async def epoch_keys(self, tenant: UUID, epochs: Collection[int]) -> Mapping[int, DataKey | None]:
        """The keys of epochs; None for one that was ended, and what it wrapped is erased with it."""
        held = self.of(tenant)
        for epoch in epochs:
            if epoch not in held.epochs:
                key: DataKey | None = None
                # In a thread, because it may be a service that answers.
                with contextlib.suppress(Erased):
                    key = await asyncio.to_thread(self.provider.epoch_key, tenant, epoch)
                held.epochs[epoch] = key
        return dict(held.epochs)

    async def index_generations(self, unit: Unit) -> None:
        """Read the generations of the tenant's index keys, where it is longer ago than a minute.

        What a transaction reads may be as old as the transaction, and is believed for so much less.
        """
        held = self.of(unit.tenant)
        asked = time.monotonic()
        if asked < held.indexes_until:
            return
        ((age, found),) = await unit.call(_INDEXES, (unit.tenant,))
        held.indexes = {(table, column): int(n) for table, column, n in (one.split(".") for one in found)}
        # The server's clock may have been set back since the transaction began.
        held.indexes_until = asked + VIEW_SECONDS - max(0.0, age)

    def forget(self, tenant: UUID) -> None:
        """Drop what is at hand of a tenant, its epochs too."""
        self._tenants.pop(tenant, None)

    # -- inside --------------------------------------------------------------------------------------------------

    async def _there(self, unit: Unit, owners: Sequence[Owner]) -> dict[Owner, HeldKey]:
        rows = await unit.call(_BY_OWNER, (unit.tenant, [o[0] for o in owners], [o[1] for o in owners]))
        keys = await self._taken(unit.tenant, rows)
        return {(row[1], row[2]): keys[row[0]] for row in rows}

    async def _make(self, unit: Unit, owners: Sequence[Owner]) -> dict[Owner, HeldKey]:
        """Write new keys for those who have none; answers the ones that are now theirs."""
        tenant, alone = unit.tenant, unit.depth == 0
        for last in (False, True):
            held = self.of(tenant)
            generation, epoch = held.generation, await self.current_epoch(tenant)
            wrapping = (await self.epoch_keys(tenant, (epoch,)))[epoch]
            if wrapping is None:
                # It was ended since it was looked up.
                self.forget(tenant)
                if last:
                    break
                continue
            drafts: dict[bytes, tuple[Owner, HeldKey]] = {}
            args: list[Any] = [tenant, epoch]
            for subject, purpose in owners:
                material = os.urandom(32)
                key = DataKey(material)
                drafts[key.key_id] = ((subject, purpose), HeldKey(key, subject))
                args += (subject, purpose, key.key_id, seal(wrapping, material, wrap_context(tenant, subject, purpose)))
                # Whoever reports errors with the variables of their frames must not find it here.
                del material
            try:
                rows = await unit.change(_make(len(owners)), args)
            except Serialization:
                # The epoch was closed since; outside a transaction the next one is asked for at once.
                held.epoch = None
                if last or not alone:
                    raise
                continue
            made = [drafts[row[0]] for row in rows]
            # Kept only under the generation of before it was made: it cannot have been erased in that one.
            if alone and held.generation == generation:
                self._keep(held, ((held_key.key.key_id, owner, held_key) for owner, held_key in made if held_key.key))
            return dict(made)
        raise Serialization("The key epoch was ended while a key was made in it.", remedy="Try again.")

    async def _taken(self, tenant: UUID, rows: Sequence[Sequence[Any]]) -> dict[bytes, HeldKey]:
        """Keys from rows of the table, all read at once, unwrapped; settled ones stay at hand."""
        if not rows:
            return {}
        held, found = self.of(tenant), dict[bytes, HeldKey]()
        epochs = await self.epoch_keys(tenant, {row[3] for row in rows if row[4] is not None})
        held.at(rows[0][-1])
        settled_keys: list[tuple[bytes, Owner, HeldKey]] = []
        for key_id, subject, purpose, epoch, wrapped, settled, _generation in rows:
            wrapping = epochs[epoch] if wrapped is not None else None
            known = held.by_id.get(key_id)
            if known is None or (known.key is None) != (wrapping is None):
                known = HeldKey(None, subject)
                if wrapped is not None and wrapping is not None:
                    key, _ = unwrapped(wrapping, wrapped, wrap_context(tenant, subject, purpose), key_id)
                    known = HeldKey(key, subject)
            found[key_id] = known
            if settled:
                settled_keys.append((key_id, (subject, purpose), known))
        self._keep(held, settled_keys)
        return found

    def _keep(self, held: TenantKeys, keys: Iterable[tuple[bytes, Owner, HeldKey]]) -> None:
        before = len(held.by_id)
        for key_id, owner, known in keys:
            held.by_id[key_id] = held.by_owner[owner] = known
        self._added += len(held.by_id) - before
        if self._added > _MOST // 2:
            self._added = 0
            total = sum(len(t.by_id) for t in self._tenants.values())
            if total > _MOST // 2:
                for tenant in self._tenants.values():
                    tenant.shrink(_MOST / 2 / total)


def wrap_context(tenant: UUID, subject: UUID, purpose: str) -> bytes:
    """What a wrapped data key is bound to: whose it is and for what."""
    return length_prefixed(_WRAP, tenant.bytes, subject.bytes, purpose.encode())


def unwrapped(wrapping: DataKey, wrapped: bytes, context: bytes, key_id: bytes) -> tuple[DataKey, bytes]:
    """A data key and its 32 bytes. Raises ``Tampered`` for a key that was altered, or has another id than its row."""
    material = open_(wrapping, wrapped, context)
    key = DataKey(material)
    if key.key_id != key_id:
        del material
        raise Tampered("A wrapped data key is not the one that its row names.")
    return key, material


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _powers(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """In parts of powers of two, so that few statements of different length are ever prepared."""
    start, size = 0, _ROWS
    while start < len(items):
        while size > len(items) - start:
            size //= 2
        yield items[start : start + size]
        start += size


@lru_cache(32)
def _make(count: int) -> str:
    """Several rows as VALUES: Citus refuses INSERT … SELECT under row-level security."""
    rows = ", ".join(f"($1, $2, ${i}, ${i + 1}, ${i + 2}, ${i + 3})" for i in range(3, 3 + 4 * count, 4))
    return (
        f"INSERT INTO tally.data_key (tenant_id, epoch, subject, class, key_id, wrapped) VALUES {rows} "
        "ON CONFLICT (tenant_id, subject, class) DO NOTHING RETURNING key_id"
    )


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
_INDEXES = (
    "SELECT extract(epoch FROM clock_timestamp() - now())::float8, ARRAY(SELECT s.logical || '.' || s.field || '.' || "
    "s.generation FROM tally.index_state s WHERE s.tenant_id = $1)"
)
