"""How structs print themselves: what is sealed where it is stored does not show."""

from __future__ import annotations

from typing import Any, Final

import msgspec


class _Hidden:
    __slots__ = ()

    def __repr__(self) -> str:
        return "…"


HIDDEN: Final = _Hidden()
"""What stands for a value that is not shown."""


def fields_of(one: Any, hidden: frozenset[str]) -> list[tuple[str, Any]]:
    """The fields of a struct for who prints it, those named in ``hidden`` without what they were given."""
    given = [(name, getattr(one, name)) for name in one.__struct_fields__]
    return [(n, HIDDEN if n in hidden and v is not None and v is not msgspec.UNSET else v) for n, v in given]


def text_of(self: Any) -> str:
    """The ``repr`` of a struct from what it tells printers that ask for fields (``__rich_repr__``)."""
    shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
    return f"{type(self).__name__}({shown})"
