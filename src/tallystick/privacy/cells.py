"""Cells: opening and sealing single values with keys that were fetched before.

An envelope is bound to its cell (tenant, table, column, row) and to the person whose key it names, so a ciphertext
that is moved anywhere else does not open.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from tallystick.documents import written
from tallystick.errors import Erased, Invalid, Tampered
from tallystick.privacy.envelope import associated_data, open_, seal
from tallystick.privacy.sealed import MASK
from tallystick.spec import FieldSpec

if TYPE_CHECKING:
    from tallystick.privacy.keyring import HeldKey
    from tallystick.privacy.sealer import Sealer

ERASED: Final = "[erased]"
"""What a required text reads as once its person was erased; anything optional reads as None."""


class Opener:
    """Opens the sealed columns of rows whose keys were fetched."""

    __slots__ = ("_keys", "_tenant")

    def __init__(self, tenant: UUID, keys: dict[bytes, HeldKey]) -> None:
        self._tenant: Final = tenant
        self._keys: Final = keys

    def open(self, table: str, field: FieldSpec, envelope: bytes, row: UUID) -> Any:
        """The value of a personal field; once its person was erased, None, or a word where a text is required.

        Raises ``Tampered`` when the ciphertext was altered or moved, ``Erased`` where the field can be neither,
        ``Invalid`` for a value of another type than declared.
        """
        plain = self.plain(table, field.name, envelope, row)
        if plain is None:
            if field.optional:
                return None
            if field.inner is str:
                return ERASED
            raise Erased("The person was erased.")
        return plain.decode() if field.inner is str else _read(field, plain)

    def reveal(self, table: str, field: FieldSpec, envelope: bytes, row: UUID) -> Any:
        """The value of a secret. Raises ``Erased``, ``Tampered``, and ``Invalid`` for one of another type."""
        plain = self.plain(table, field.name, envelope, row)
        if plain is None:
            raise Erased("The person was erased; this can never be read again.")
        return plain.decode() if field.inner is str else _read(field, plain)

    def mask(self, table: str, column: str, envelope: bytes | None, row: UUID) -> str:
        """The mask of a secret. Raises ``Tampered``."""
        plain = None if envelope is None else self.plain(table, column, envelope, row)
        return MASK if plain is None else plain.decode()

    def plain(self, table: str, column: str, envelope: bytes, row: UUID) -> bytes | None:
        """The bytes in an envelope; None once its person was erased. Raises ``Tampered``."""
        held = self._keys.get(envelope[2:18])
        if held is None:
            raise Tampered("An encrypted field is no envelope.")
        if held.key is None:
            return None
        return open_(held.key, envelope, associated_data(self._tenant, table, column, row, held.subject))


class Writer:
    """Seals fields of entities whose persons' keys were fetched."""

    __slots__ = ("_keys", "_sealer", "tenant")

    def __init__(self, sealer: Sealer, keys: dict[tuple[UUID, str], HeldKey]) -> None:
        self._sealer = sealer
        self._keys = keys
        self.tenant = sealer.tenant

    def seal(self, table: str, field: FieldSpec, value: Any, row: UUID) -> bytes:
        """The envelope of a value, bound to tenant, table, column, row and person."""
        return self._sealed(table, field.name, field.purpose, _plain(field, value), row)

    def seal_mask(self, table: str, field: FieldSpec, mask: str, row: UUID) -> bytes:
        """The envelope of a mask, kept beside the secret it belongs to."""
        return self._sealed(table, field.mask_column, field.purpose, mask.encode(), row)

    def indexes(self, table: str, field: FieldSpec, value: Any) -> list[bytes | None]:
        """The blind indexes of a value, in the order of the field's columns."""
        return self._sealer.indexes(table, field, value)

    def _sealed(self, table: str, column: str, purpose: str, plain: bytes, row: UUID) -> bytes:
        held = self._keys[row, purpose]
        assert held.key is not None
        return seal(held.key, plain, associated_data(self.tenant, table, column, row, held.subject))


def _read(field: FieldSpec, plain: bytes) -> Any:
    try:
        return msgspec.json.decode(plain, type=field.inner)
    except msgspec.DecodeError:
        pass
    # Out here, because that error may quote what was opened.
    raise Invalid(
        f"A stored {field.name} is of another type than declared.",
        field=field.name,
        remedy="What is sealed keeps the type it was written with: declare that, and a second field for the new one.",
    )


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
    if isinstance(value, Decimal) and not value.is_finite():
        problem = "is NaN or an infinity"
    if problem:
        raise Invalid(f"{field.name} {problem}.", field=field.name, remedy="Give a value of the declared type.")
    return text.encode()
