"""What an entity's class answers for the name of a field: conditions, its filter, its table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallystick.entity import Entity, spec_of

if TYPE_CHECKING:
    from tallystick.spec import EntitySpec


def handles_of(cls: type[Entity]) -> dict[str, Any]:
    """What ``cls.<name>`` answers: a condition handle per field, ``Filter`` and ``table``."""
    from tallystick.conditions import Field
    from tallystick.filters import filter_type

    spec = spec_of(cls)
    handles: dict[str, Any] = {name: Field(spec, field) for name, field in spec.fields.items()}
    handles["Filter"] = filter_type(spec)
    handles["table"] = _LazyTable(spec)
    return _Handles(handles)


class _LazyTable:
    """Stands for the Core table until somebody asks, because importing SQLAlchemy costs a quarter of a second."""

    __slots__ = ("spec",)

    def __init__(self, spec: EntitySpec) -> None:
        self.spec = spec


class _Handles(dict[str, Any]):
    def get(self, name: str, default: Any = None) -> Any:
        found = super().get(name, default)
        if found.__class__ is _LazyTable:
            from tallystick.schema.tables import table_of

            found = self[name] = table_of(found.spec)
        return found
