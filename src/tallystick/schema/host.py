"""Living beside an application's own Alembic: what it must leave alone."""

from __future__ import annotations

from collections.abc import Mapping

from tallystick.schema.roles import SCHEMAS


def include_name(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:
    """Whether a host's autogenerate may look at an object; false for everything in Tallystick's schemas.

    Pass it to the host's own ``context.configure(include_name=include_name)``: without it, an autogenerate that
    looks into all schemas proposes to drop every table it has no model for.
    """
    schema = name if type_ == "schema" else parent_names.get("schema_name")
    return schema not in SCHEMAS
