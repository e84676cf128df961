"""Tables made straight from declarations, for entities that have no revision of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tallystick.entity import spec_of
from tallystick.schema import ddl
from tallystick.schema.model import model_of, quote_text
from tallystick.schema.online import Runner

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tallystick.entity import Entity


async def make(run: Runner, entities: tuple[type[Entity], ...]) -> tuple[str, ...]:
    """Make the tables that are missing, all in one transaction; answer their names."""
    models = [model_of(spec_of(cls)) for cls in entities]

    def work(connection: Connection) -> tuple[str, ...]:
        with connection.begin():
            present = set(
                connection.exec_driver_sql(
                    "SELECT relname FROM pg_catalog.pg_class WHERE relnamespace = 'tally'::regnamespace"
                ).scalars()
            )
            missing = [m for m in models if m.name not in present]
            for statement in ddl.create(missing, run.roles, run.engine):
                connection.exec_driver_sql(statement)
            for model in missing:
                record = quote_text(msgspec.json.encode(model).decode())
                connection.exec_driver_sql(
                    f"INSERT INTO tally_ref.schema_entity (name, declared) VALUES ({quote_text(model.name)}, {record})"
                )
            return tuple(m.name for m in missing)

    return await run.attempt("Making tables from declarations", work) if models else ()
