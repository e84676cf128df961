"""Living beside an application's own Alembic: what its autogenerate must leave alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from tallystick.schema.roles import ALL_SCHEMAS

if TYPE_CHECKING:
    IncludeName = Callable[[str | None, Any, Any], bool]
    IncludeObject = Callable[[Any, str | None, Any, bool, Any], bool]


class AlembicHooks(TypedDict):
    """The two filters that an Alembic environment hands to ``context.configure``."""

    include_name: IncludeName
    include_object: IncludeObject


def beside(include_name: IncludeName | None = None, include_object: IncludeObject | None = None) -> AlembicHooks:
    """The filters for a host's ``env.py``: ``context.configure(..., **beside())``.

    With them its autogenerate proposes nothing about Tallystick's schemas, with ``include_schemas`` and without, even
    where ``MetaData`` of the host holds copies of our tables; and it drops no foreign key into them that its models do
    not declare. Filters that the host has already are given as arguments and asked second; giving what ``beside``
    answered before changes nothing.
    """
    names, objects = include_name, include_object

    def both_names(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:
        return may_look(name, type_, parent_names) and (names is None or names(name, type_, parent_names))

    def both_objects(object_: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
        mine = may_propose(object_, name, type_, reflected, compare_to)
        return mine and (objects is None or objects(object_, name, type_, reflected, compare_to))

    return {"include_name": both_names, "include_object": both_objects}


def may_look(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:
    """Whether a host's autogenerate may look at an object; false for everything in Tallystick's schemas.

    Without it, an autogenerate that looks into all schemas proposes to drop every table it has no model for.
    """
    schema = name if type_ == "schema" else parent_names.get("schema_name")
    return schema not in ALL_SCHEMAS


def may_propose(object_: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """Whether a host's autogenerate may propose a change; false for our tables and for dropping keys that name them.

    A foreign key into our schemas that is in the database and in no model was made by hand or by a revision's own SQL;
    it goes by hand as well. One that a model declares by the same name is the host's to change.
    """
    table = object_ if type_ == "table" else getattr(object_, "table", None)
    if table is not None and table.schema in ALL_SCHEMAS:
        return False
    undeclared = type_ == "foreign_key_constraint" and reflected and compare_to is None
    return not (undeclared and any(_schema(key.target_fullname) in ALL_SCHEMAS for key in object_.elements))


def _schema(column: str) -> str | None:
    parts = column.split(".")
    return parts[-3] if len(parts) > 2 else None
