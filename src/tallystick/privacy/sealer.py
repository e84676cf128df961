"""Sealing and opening the fields of one tenant: the codec's view of keys, envelopes and blind indexes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from tallystick.documents import written
from tallystick.errors import Invalid, Unavailable
from tallystick.privacy.keys import KeyProvider
from tallystick.privacy.sealed import MASK, Secret
from tallystick.spec import FieldSpec


class Sealer:
    """Seals field values for one tenant. Without a key provider it refuses, so nothing is ever stored unsealed.

    Raises ``Unavailable`` when no provider is configured and ``Tampered`` when a ciphertext was altered or moved.
    """

    __slots__ = ("_blind", "_cells", "_cells_of", "_in_row", "_keys", "_open", "_seal", "tenant")

    def __init__(self, keys: KeyProvider | None, tenant: UUID) -> None:
        self._keys = keys
        self.tenant = tenant
        self._cells: dict[tuple[str, str], bytes] = {}
        if keys is not None:
            from tallystick.privacy.blind import blind_index
            from tallystick.privacy.envelope import cells_of, in_row, open_, seal

            self._seal, self._open, self._blind = seal, open_, blind_index
            self._cells_of, self._in_row = cells_of, in_row

    def seal(self, table: str, field: FieldSpec, value: Any, row: UUID) -> bytes:
        """The envelope of a value, bound to tenant, table, column and row."""
        key = self._provider().data_key(self.tenant, table, field.name)
        return self._seal(key, _plain(field, value), self._cell(table, field.name, row))

    def open(self, table: str, field: FieldSpec, envelope: bytes, row: UUID) -> Any:
        """The value of an envelope."""
        key = self._provider().data_key(self.tenant, table, field.name)
        plain = self._open(key, envelope, self._cell(table, field.name, row))
        return plain.decode() if field.inner is str else msgspec.json.decode(plain, type=field.inner)

    def seal_mask(self, table: str, field: FieldSpec, mask: str, row: UUID) -> bytes:
        """The envelope of a mask, kept beside the secret it belongs to."""
        key = self._provider().data_key(self.tenant, table, field.mask_column)
        return self._seal(key, mask.encode(), self._cell(table, field.mask_column, row))

    def open_mask(self, table: str, field: FieldSpec, envelope: bytes | None, row: UUID) -> str:
        """The mask of a secret."""
        if envelope is None:
            return MASK
        key = self._provider().data_key(self.tenant, table, field.mask_column)
        return self._open(key, envelope, self._cell(table, field.mask_column, row)).decode()

    def index(self, table: str, field: FieldSpec, value: Any) -> bytes:
        """The blind index of a value: equal values of one tenant and column are equal, and nothing else is."""
        key = self._provider().index_key(self.tenant, table, field.name)
        kind = field.inner if isinstance(field.inner, type) else object
        if not isinstance(value, kind) or isinstance(value, Secret) or (kind is int and isinstance(value, bool)):
            raise Invalid(
                f"{field.name} should be compared with its plain value.",
                field=field.name,
                remedy=f"Give a value of the declared type ({getattr(field.inner, '__name__', 'see the entity')}).",
            )
        normal, problem = field.search or "exact", ""
        try:
            return self._blind(key, normal, str(value), field.search_bits)
        except Invalid as caught:
            problem = caught.problem
        raise Invalid(f"{field.name} cannot be indexed: {problem}", field=field.name, remedy="Check its form.")

    def _cell(self, table: str, column: str, row: UUID) -> bytes:
        cells = self._cells.get((table, column))
        if cells is None:
            cells = self._cells[table, column] = self._cells_of(self.tenant, table, column)
        return self._in_row(cells, row, None)

    def _provider(self) -> KeyProvider:
        if self._keys is None:
            raise Unavailable(
                "No key provider is configured, so sealed fields can be neither written nor read.",
                remedy="Set TALLYSTICK_KEY_FILE to a key file (mode 0600), or pass keys= to Tallystick.open(); the "
                "development keys exist only on the embedded server.",
            )
        return self._keys


def _plain(field: FieldSpec, value: Any) -> bytes:
    if field.inner is str:
        if not isinstance(value, str):
            raise Invalid(f"{field.name} should be text.", field=field.name, remedy="Convert it first.")
        if not field.min_length <= len(value) <= (field.max_length or 1_000_000):
            raise Invalid(
                f"{field.name} is shorter or longer than declared.",
                field=field.name,
                remedy=f"Between {field.min_length} and {field.max_length or 1_000_000} characters.",
            )
        try:
            return value.encode()
        except UnicodeEncodeError:
            pass
        raise Invalid(
            f"{field.name} is not valid Unicode text.", field=field.name, remedy="Decode it with the right encoding."
        )
    text, problem = written(value, field.inner)
    if problem:
        raise Invalid(f"{field.name} {problem}.", field=field.name, remedy="Give a value of the declared type.")
    return text.encode()
