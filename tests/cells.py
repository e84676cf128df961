"""Sealing and opening without a database, for tests of the codec: every person has a key that is worked out."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from tallystick import LocalKeys
from tallystick.privacy.cells import Opener, Writer
from tallystick.privacy.envelope import DataKey
from tallystick.privacy.keyring import HeldKey, Keyring
from tallystick.privacy.sealer import Sealer
from tallystick.spec import FieldSpec


class Everybody(dict[tuple[UUID, str], HeldKey]):
    """Keys by row and purpose class; each row is its own subject."""

    def __init__(self, tenant: UUID) -> None:
        self.tenant = tenant
        self.by_id: dict[bytes, HeldKey] = {}

    def __missing__(self, place: tuple[UUID, str]) -> HeldKey:
        row, purpose = place
        key = DataKey(hashlib.sha256(self.tenant.bytes + row.bytes + purpose.encode()).digest())
        held = self[place] = self.by_id[key.key_id] = HeldKey(key, row)
        return held


def sealer(tenant: UUID, keys: LocalKeys | None) -> Sealer:
    """The sealer of a session that has no database."""
    return Sealer(None if keys is None else Keyring(keys), cast("Any", SimpleNamespace(tenant=tenant)))


class Cells(Writer):
    """Seals and opens for one tenant."""

    def __init__(self, tenant: UUID, keys: LocalKeys) -> None:
        everybody = Everybody(tenant)
        super().__init__(sealer(tenant, keys), everybody)
        self._opener = Opener(tenant, everybody.by_id)

    def open(self, table: str, field: FieldSpec, envelope: bytes, row: UUID) -> Any:
        return self._opener.open(table, field, envelope, row)

    def reveal(self, table: str, field: FieldSpec, envelope: bytes, row: UUID) -> Any:
        return self._opener.reveal(table, field, envelope, row)

    def mask(self, table: str, column: str, envelope: bytes | None, row: UUID) -> Any:
        return self._opener.mask(table, column, envelope, row)
