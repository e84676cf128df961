"""SQLAlchemy Core tables from declarations, for statements of one's own and for compiling ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from tallystick.schema.model import Table, model_of
from tallystick.spec import REGISTRY_SCHEMA, SCHEMA

if TYPE_CHECKING:
    from tallystick.entity import Entity
    from tallystick.spec import EntitySpec

METADATA = sa.MetaData(schema=SCHEMA)
"""Every table of the process; foreign keys inside it resolve once both sides were asked for."""

_TENANT = sa.Table(
    "tenant",
    METADATA,
    sa.Column("id", sa.Uuid(as_uuid=True), primary_key=True),
    sa.Column("slug", sa.Text(collation="C")),
    sa.Column("name", sa.Text(collation="C")),
    schema=REGISTRY_SCHEMA,
    comment="Declared as far as foreign keys need it; the application reads tenants through functions.",
)
_NUMERIC = re.compile(r"numeric\((\d+),(\d+)\)\Z")
_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    'text COLLATE "C"': sa.Text(collation="C"),
    "text": sa.Text(),
    "bigint": sa.BigInteger(),
    "integer": sa.Integer(),
    "boolean": sa.Boolean(),
    "uuid": sa.Uuid(as_uuid=True),
    "timestamp with time zone": sa.TIMESTAMP(timezone=True),
    "date": sa.Date(),
    "bytea": sa.LargeBinary(),
    "jsonb": pg.JSONB(none_as_null=True),
}


def type_of(sql: str) -> sa.types.TypeEngine[Any]:
    """The Core type whose values asyncpg takes and gives as they are."""
    digits = _NUMERIC.match(sql)
    return sa.Numeric(int(digits[1]), int(digits[2])) if digits else _TYPES[sql]


_BUILT: WeakKeyDictionary[type[Entity], sa.Table] = WeakKeyDictionary()


def table_of(spec: EntitySpec) -> sa.Table:
    """The Core table of an entity; the same object every time."""
    found = _BUILT.get(spec.cls)
    if found is None:
        older = METADATA.tables.get(f"{spec.schema}.{spec.table}")
        if older is not None:
            METADATA.remove(older)
        found = _BUILT[spec.cls] = build(model_of(spec), METADATA)
    return found


def build(model: Table, metadata: sa.MetaData) -> sa.Table:
    """A Core table with the keys, checks and indexes of the model."""
    columns = [_column(model, c.name) for c in model.columns]
    rules: list[sa.schema.SchemaItem] = [sa.CheckConstraint(sa.text(c.sql), name=c.name) for c in model.checks]
    rules += [
        sa.ForeignKeyConstraint(f.columns, [f"{f.schema}.{f.table}.{c}" for c in f.target_columns], name=f.name)
        for f in model.foreign_keys
    ]
    table = sa.Table(model.name, metadata, *columns, *rules, schema=model.schema, comment=model.comment or None)
    for index in model.indexes:
        where = sa.text(index.where) if index.where else None
        sa.Index(
            index.name,
            *(table.c[c] for c in index.columns),
            unique=index.unique,
            postgresql_where=where,
            postgresql_include=index.include,
        )
    return table


def _column(model: Table, name: str) -> sa.Column[Any]:
    column = model.column(name)
    assert column is not None
    return sa.Column(
        name,
        type_of(column.sql),
        *([sa.Computed(column.generated, persisted=True)] if column.generated else []),
        nullable=column.nullable,
        primary_key=name in model.primary_key,
        server_default=sa.text(column.default) if column.default else None,
        autoincrement=False,
    )
