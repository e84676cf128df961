"""Sealing and opening the fields of one tenant: the codec's view of keys, envelopes and blind indexes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from tallystick.documents import written
from tallystick.entity import spec_of
from tallystick.errors import Invalid, Unavailable
from tallystick.fields import Ref
from tallystick.privacy.blind import LONGEST, digest_of, normalise, stored
from tallystick.privacy.sealed import Secret
from tallystick.spec import EntitySpec, FieldSpec, IndexSpec

if TYPE_CHECKING:
    from tallystick.codec import Codec
    from tallystick.privacy.cells import Opener, Writer
    from tallystick.privacy.keyring import Keyring, Owner
    from tallystick.stores.base import Unit


class Sealer:
    """The keys of one session's tenant. Without a key provider it refuses, so nothing is ever stored unsealed.

    Keys of persons are fetched before rows are opened or sealed: ``opener`` and ``writer`` answer what the codec works
    with, for exactly those rows. Raises ``Unavailable`` when no provider is configured.
    """

    __slots__ = ("_keyring", "_unit", "tenant")

    def __init__(self, keyring: Keyring | None, unit: Unit) -> None:
        self._keyring = keyring
        self._unit = unit
        self.tenant = unit.tenant

    async def opener(self, codec: Codec, rows: Sequence[Any]) -> Opener | None:
        """What opens the sealed columns of these rows; None for an entity that has none.

        The last value of each row is the tenant's key generation as of the read.
        """
        if not codec.opened_at or not rows:
            return None
        wanted, at = set[bytes](), codec.opened_at
        for row in rows:
            for i in at:
                if (value := row[i]) is not None:
                    wanted.add(value[2:18])
        if not wanted:
            from tallystick.privacy.cells import Opener

            return Opener(self.tenant, {})
        generation = rows[-1][codec.width]
        # Nearly always, and it waits for nothing.
        found = self.keyring().opener(self.tenant, wanted, generation)
        return found if found is not None else await self.opener_of(wanted, generation)

    async def opener_of(self, wanted: set[bytes], generation: int | None) -> Opener:
        """What opens envelopes that name these keys, read when the tenant's key generation was this."""
        from tallystick.privacy.cells import Opener

        keyring = self.keyring()
        held = keyring.of(self.tenant)
        held.at(generation)
        known = held.by_id
        keys = {k: v for k in wanted if (v := known.get(k)) is not None}
        if len(keys) < len(wanted):
            keys |= await keyring.load(self._unit, [k for k in wanted if k not in keys])
        return Opener(self.tenant, keys)

    async def generation(self) -> int:
        """The tenant's key generation now."""
        rows = await self._unit.call(_GENERATION, (self.tenant,))
        return rows[0][0] if rows else 0

    async def writer(
        self, spec: EntitySpec, entities: Iterable[Any], *, new: bool = False, changes: Mapping[str, Any] | None = None
    ) -> Sealer | Writer:
        """What seals the fields of these entities, or only ``changes`` of them; this itself where nothing is to seal.

        ``new`` says that they are about to be added. Raises ``Erased`` for a person who was erased.
        """
        fields = sealed_fields(spec.cls)
        owners: dict[tuple[UUID, str], Owner] = {}
        for entity in entities if fields else ():
            if not isinstance(entity, spec.cls):
                continue  # the codec refuses it by name
            for name, purpose in fields:
                given = getattr(entity, name) if changes is None else changes.get(name)
                if given is not None and (entity.id, purpose) not in owners:
                    owners[entity.id, purpose] = (subject_of(spec, entity), purpose)
        if not owners:
            return self
        from tallystick.privacy.cells import Writer

        # A new row that is its own subject has no key yet.
        keys = await self.keyring().ready(self._unit, owners.values(), new=new and spec.subject is None)
        if spec.blind:
            await self.current()
        return Writer(self, {place: keys[owner] for place, owner in owners.items()})

    @property
    def keyed(self) -> bool:
        """Whether a key provider is configured."""
        return self._keyring is not None

    async def current(self) -> None:
        """Know of which generation the tenant's index keys are, as of the last minute."""
        await self.keyring().index_generations(self._unit)

    def renew(self) -> None:
        """Ask again for the generations of index keys before the next value is indexed."""
        if self._keyring is not None:
            self._keyring.of(self.tenant).forget_generations()

    def generation_of(self, table: str, field: FieldSpec) -> int:
        """The generation of a blind index's key, as this process knows it."""
        return self.keyring().of(self.tenant).indexes.get((table, field.index_column), 1)

    def rule(self, spec: EntitySpec, rule: IndexSpec) -> IndexSpec:
        """The unique rule as it stands in the columns that hold the blind indexes of now."""
        other = {b.index_column: b.next_column for b in spec.blind if not self.generation_of(spec.table, b) % 2}
        columns = tuple(other.get(c, c) for c in rule.columns)
        return next(i for i in spec.indexes if i.unique and i.columns == columns and i.where == rule.where)

    def indexes(self, table: str, field: FieldSpec, value: Any) -> list[bytes | None]:
        """The blind indexes of a value, in the order of the field's columns, for a row that is written."""
        found: list[bytes | None] = []
        for blind in field.blind:
            part = closing(blind, normal(blind, value))
            found += (None, None) if part is None else self._pair(table, blind, part)
        return found

    def operand(self, table: str, field: FieldSpec, value: Any) -> tuple[bytes, bytes]:
        """What is looked for: the value's index of now and the next one, each where its column is.

        A process that has not heard of a rotation finds every row so, until the one after it clears what it knows.
        """
        part = normal(field, value)
        if field.search_last is not None and len(part.decode()) != field.search_last:
            raise Invalid(
                f"{field.name} is searched by its last {field.search_last} characters.",
                field=field.name,
                remedy=f"Give exactly {field.search_last} of them.",
            )
        return self._pair(table, field, part)

    def fingerprint(self, table: str, field: FieldSpec, value: Any) -> bytes:
        """What a cursor knows an operand by: the same in every generation, and in no column."""
        key = self.keyring().provider.index_key(self.tenant, table, field.key_name, 0)
        return digest_of(key, normal(field, value))

    def at(self, table: str, field: FieldSpec, value: Any, generation: int) -> bytes | None:
        """The blind index of a value under one generation's key; None for one that is too short to have any."""
        part = closing(field, normal(field, value))
        return None if part is None else self._index(table, field, part, generation)

    def _pair(self, table: str, field: FieldSpec, part: bytes) -> tuple[bytes, bytes]:
        generation = self.generation_of(table, field)
        now, later = (self._index(table, field, part, n) for n in (generation, generation + 1))
        return (now, later) if generation % 2 else (later, now)

    def _index(self, table: str, field: FieldSpec, part: bytes, generation: int) -> bytes:
        """Equal values of one tenant, column and generation are equal, and nothing else is."""
        key = self.keyring().provider.index_key(self.tenant, table, field.key_name, generation)
        return stored(generation, digest_of(key, part, field.search_bits))

    def keyring(self) -> Keyring:
        """The application's keys, which must have been configured."""
        if self._keyring is None:
            raise Unavailable(
                "No key provider is configured, so sealed fields can be neither written nor read.",
                remedy="Set TALLYSTICK_KEY_FILE to a key file (mode 0600), or pass keys= to Tallystick.open(); the "
                "development keys exist only on the embedded server.",
            )
        return self._keyring


def normal(field: FieldSpec, value: Any) -> bytes:
    """What of a value is indexed. Raises ``Invalid``."""
    kind = field.inner if isinstance(field.inner, type) else object
    if not isinstance(value, kind) or isinstance(value, Secret) or (kind is int and isinstance(value, bool)):
        raise Invalid(
            f"{field.name} should be compared with its plain value.",
            field=field.name,
            remedy=f"Give a value of the declared type ({getattr(field.inner, '__name__', 'see the entity')}).",
        )
    problem = ""
    try:
        return normalise(field.search or "exact", _text(value))
    except Invalid as caught:
        problem = caught.problem
    except (OverflowError, ValueError):
        # A moment that has no year in UTC, an integer of thousands of digits.
        problem = "It is out of range."
    raise Invalid(f"{field.name} cannot be indexed: {problem}", field=field.name, remedy="Check its form.")


def _text(value: Any) -> str:
    """One text for all values that are equal: 1.0 and 1.00, an hour in two zones, a document in any order."""
    if isinstance(value, (str, int, UUID)) or (isinstance(value, date) and not isinstance(value, datetime)):
        return str(value)
    if isinstance(value, Decimal):
        return _digits(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return str(value.astimezone(UTC))
    text, problem = written(value, Any)
    if problem:
        raise Invalid(f"The value {problem}.", field="value", remedy="Give a value of the declared type.")
    return msgspec.json.encode(msgspec.json.decode(text), order="deterministic").decode()


def _digits(value: Decimal) -> str:
    if not value:
        return "0"
    if abs(value.adjusted()) > LONGEST:
        # A short text may stand for gigabytes of zeros.
        raise Invalid("It has too many digits.", field="value", remedy="Give a value of a size that occurs.")
    # Not by normalize(), which rounds to the context's digits.
    digits = format(value, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def closing(field: FieldSpec, value: bytes) -> bytes | None:
    """The part of a normalised value that an index is over; None for one that is too short for it."""
    if field.search_last is None:
        return value
    text = value.decode()
    return text[-field.search_last :].encode() if len(text) >= field.search_last else None


@lru_cache(1024)
def sealed_fields(entity: type) -> tuple[tuple[str, str], ...]:
    """The names of an entity's sealed fields, and the purpose class of each."""
    return tuple((f.name, f.purpose) for f in spec_of(entity).fields.values() if f.sealed)


def subject_of(spec: EntitySpec, entity: Any) -> UUID:
    """Whose data an entity is: the person that its rules name, or, where that is nobody, the row itself."""
    found = getattr(entity, spec.subject) if spec.subject is not None else None
    return found.id if isinstance(found, Ref) else entity.id


_GENERATION = "SELECT s.generation FROM tally.key_state s WHERE s.tenant_id = $1"
