"""What an entity's declaration says, resolved once: fields, columns, keys, indexes, rules.

Everything that is generated (tables, policies, triggers, codecs, filters, lint) reads this and nothing else, so a
fact about a field is written in exactly one place: the entity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any

from tallystick.rules import Guard, Readable, Transitions

if TYPE_CHECKING:
    from tallystick.entity import Entity

SCHEMA = "tally"
REGISTRY_SCHEMA = "tally_ref"
SYSTEM_FIELDS = ("tenant_id", "id", "version", "created_at", "created_by", "updated_at", "updated_by")
QUEUE_COLUMNS = ("lease_token", "lease_until", "lease_by", "attempts", "done_at")


class Kind(StrEnum):
    """The storage kind of a field."""

    # An enum's own hash is a Python function, and kinds key dictionaries on the path of every value.
    __hash__ = str.__hash__

    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    UUID = "uuid"
    TIMESTAMP = "timestamp"
    DATE = "date"
    DECIMAL = "decimal"
    ENUM = "enum"
    JSON = "json"
    BYTES = "bytes"
    MONEY = "money"
    CHAIN = "chain"
    LEDGER = "ledger"
    REF = "ref"
    SECRET = "secret"  # noqa: S105
    PERSONAL = "personal"


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column. ``sql`` is the PostgreSQL type; every text column is COLLATE "C" (one order on every server)."""

    name: str
    sql: str
    nullable: bool = False
    default: str | None = None
    generated: str | None = None
    insertable: bool = True
    updatable: bool = True


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field: its kind, its Python type and the columns it occupies (the first is the one conditions use)."""

    name: str
    kind: Kind
    python: Any
    optional: bool
    columns: tuple[ColumnSpec, ...]
    system: bool = False
    max_length: int | None = None
    min_length: int = 0
    precision: int | None = None
    scale: int | None = None
    search: str | None = None
    search_bits: int | None = None
    search_last: int | None = None
    """How many closing characters of the normalised value an index is over; None for all of it."""
    indexed: str = ""
    """The blind-index column, where it is not named after the field."""
    ending: FieldSpec | None = None
    """The field as its closing characters are searched: the same values, another index."""
    mask_last: int | None = None
    inner: Any = None
    asset_column: str | None = None
    promoted: Mapping[str, type] | None = None
    maintained: bool = False
    once: bool = False
    purpose: str = ""
    """The purpose class of a sealed field's data key."""

    added: tuple[Enum, ...] = ()
    """The members that an extension adds to an enum's own."""

    custom: bool = False
    """Whether the document holds what tenants define."""

    @property
    def column(self) -> str:
        """The column that conditions and order use."""
        return self.columns[0].name

    @property
    def members(self) -> tuple[Enum, ...]:
        """Every state of an enum's field."""
        return (*self.python, *self.added)

    @property
    def index_column(self) -> str:
        """The blind-index column of a secret or personal field, for index keys of odd generations."""
        return self.indexed or f"{self.name}_bidx"

    @property
    def next_column(self) -> str:
        """The blind-index column for index keys of even generations."""
        return f"{self.index_column}_next"

    @property
    def key_name(self) -> str:
        """The name under which a provider derives the keys of this index."""
        return self.indexed or self.name

    @property
    def vague(self) -> bool:
        """Whether equal indexes of the field do not mean equal values."""
        return self.search_bits is not None and self.search_bits < 256

    @property
    def blind(self) -> tuple[FieldSpec, ...]:
        """The field as each of its blind indexes sees it."""
        return tuple(f for f in (self if self.search else None, self.ending) if f is not None)

    @property
    def mask_column(self) -> str:
        """The encrypted mask of a secret that shows its last characters."""
        return f"{self.name}_mask"

    @property
    def sealed(self) -> bool:
        """Whether the stored bytes are ciphertext."""
        return self.kind in (Kind.SECRET, Kind.PERSONAL)


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """An index or unique rule as the database has it, the tenant first."""

    name: str
    columns: tuple[str, ...]
    unique: bool
    where: str | None
    query: str
    fields: tuple[str, ...]
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """A named check constraint."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class ForeignKeySpec:
    """A foreign key; inside the tenant schema both sides start with the tenant."""

    name: str
    columns: tuple[str, ...]
    schema: str
    table: str
    target_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class EntitySpec:
    """Everything a declaration says, ready for generators."""

    cls: type[Entity]
    table: str
    doc: str
    fields: Mapping[str, FieldSpec]
    columns: tuple[ColumnSpec, ...]
    read_columns: tuple[str, ...]
    indexes: tuple[IndexSpec, ...]
    checks: tuple[CheckSpec, ...]
    foreign_keys: tuple[ForeignKeySpec, ...]
    transitions: tuple[Transitions, ...]
    append_only: bool
    queue: str | None
    archivable: bool
    retain: str | None
    kept: bool = False
    guards: tuple[Guard, ...] = ()
    fillfactor: int | None = None
    schema: str = SCHEMA
    audit: bool = True
    audit_reads: bool = False
    subject: str | None = None
    """The reference that names whose data a row is; without one the row is its own subject."""
    unaudited: tuple[str, ...] = ()
    """Columns that stay out of the audit log although the entity is audited: blind indexes, what is worked out."""
    derived: str | None = None
    """The SQL function that works columns out again, so that they can be compared although no log has them."""

    extends: type[Entity] | None = None
    """The entity whose table this one adds columns to."""
    custom: tuple[str, ...] = ()
    """The documents that hold what tenants define."""

    readable: Mapping[str, Readable] = field(default_factory=dict)
    """Why texts, documents and bytes are stored readable, by field."""

    @property
    def sealed(self) -> bool:
        """Whether any field is stored as ciphertext."""
        return any(f.sealed for f in self.fields.values())

    @property
    def blind(self) -> tuple[FieldSpec, ...]:
        """The sealed fields as each of their blind indexes sees them."""
        return tuple(b for f in self.fields.values() for b in f.blind)

    @property
    def index_columns(self) -> tuple[str, ...]:
        """The columns of the blind indexes, two for each."""
        return tuple(name for b in self.blind for name in (b.index_column, b.next_column))

    @property
    def opened(self) -> tuple[str, ...]:
        """The columns that every read opens: personal values, and masks that show something of a secret."""
        sealed = [f for f in self.fields.values() if f.sealed]
        names = [f.column if f.kind is Kind.PERSONAL else f.mask_column for f in sealed]
        return tuple(c.name for c in self.columns if c.name in names)

    @property
    def adapts(self) -> bool:
        """Whether an entity is looked at before it is stored: made an extension's, its custom fields judged."""
        return self.extends is not None or bool(self.custom)

    def owns(self, other: EntitySpec) -> bool:
        """Whether another declaration's fields are this one's too: its own, and those of the entity it extends."""
        return other is self or (self.extends is not None and other.cls is self.extends)

    @property
    def purposes(self) -> tuple[str, ...]:
        """The purpose classes of the sealed fields."""
        return tuple(dict.fromkeys(f.purpose for f in self.fields.values() if f.sealed))

    @property
    def name(self) -> str:
        """The entity's class name."""
        return self.cls.__name__

    @property
    def qualified(self) -> str:
        """Schema and table, as written in SQL (both are validated identifiers)."""
        return f"{self.schema}.{self.table}"

    def column(self, name: str) -> ColumnSpec:
        """The column of that name."""
        return next(c for c in self.columns if c.name == name)
