"""Entities, pages and money where pydantic wants to know them: read, checked, written and described by msgspec.

Imported by the ``__get_pydantic_core_schema__`` of those types alone, which is pydantic's own protocol: nothing here or
there needs pydantic until somebody uses it.
"""

from __future__ import annotations

import re
import types
from functools import cache
from hashlib import blake2b
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from pydantic_core import PydanticCustomError
from pydantic_core import core_schema as cs

from tallystick.entity import Entity
from tallystick.errors import Invalid
from tallystick.inputs import converted
from tallystick.page import Page
from tallystick.privacy.sealed import Secret, secret_dec_hook
from tallystick.web import schemas

_LOCAL = "tallystick:"
_REFERRED = re.compile(rf'"{_LOCAL}([^"]+)"')


def core_schema(kind: Any, *, text: bool = False) -> Any:
    """How pydantic takes and writes a type of ours. ``text`` writes JSON text in one go, for a whole response."""

    def take(value: Any) -> Any:
        return value if fits(value, kind) else _read(value, kind)

    if text:
        write = cs.plain_serializer_function_ser_schema(_text)
    else:
        write = cs.plain_serializer_function_ser_schema(schemas.builtins_of, when_used="json")
    schema, found = _schema(kind)
    name = str(schema.get("$ref", "")).removeprefix(_LOCAL)
    if name:
        schema = found[name]
    return cs.no_info_plain_validator_function(
        take,
        ref=_ref(name, found) if name else None,
        serialization=write,
        metadata={"pydantic_js_functions": [lambda _schema, handler: _resolved(schema, found, handler)]},
    )


def _text(value: Any) -> str:
    return schemas.encode(value).decode()


def _read(value: Any, kind: Any) -> Any:
    """A value of a request's body. An entity is never read: what a client may set is its ``New`` or ``Change``."""
    problem, field = "This is no value of the declared type.", ""
    try:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and not issubclass(kind, (Entity, Page)):
            return converted(kind, value)
        if not (isinstance(kind, type) and issubclass(kind, (Entity, Page))):
            return msgspec.convert(value, kind, dec_hook=secret_dec_hook)
    except Invalid as wrong:
        problem, field = wrong.problem, wrong.field
    except (msgspec.ValidationError, ValueError, TypeError):
        pass
    # Raised out here, because the first error may quote the value.
    raise PydanticCustomError("tallystick", "{problem}", {"problem": problem, "field": field})


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type already, which is what a handler answers."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return fits(value, arguments[0])
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin in (list, set, frozenset):
        return isinstance(value, origin) and all(fits(one, arguments[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(one, arguments[1]) for one in value.values())
    if origin is tuple and arguments[1:] == (...,):
        return isinstance(value, tuple) and all(fits(one, arguments[0]) for one in value)
    if origin is Page:
        return isinstance(value, Page) and all(fits(one, arguments[0]) for one in value.items)
    if kind is None:
        return value is None
    where = origin or kind
    return kind is Any or (isinstance(where, type) and isinstance(value, where))


def _schema(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if kind is Secret or get_origin(kind) is Secret:
        return {"type": "string"}, {}
    return schemas.components(kind, _LOCAL + "{name}")


def _resolved(schema: Any, found: dict[str, Any], handler: Any) -> Any:
    if isinstance(schema, list):
        return [_resolved(one, found, handler) for one in schema]
    if not isinstance(schema, dict):
        return schema
    name = str(schema.get("$ref", "")).removeprefix(_LOCAL)
    if name:
        # A chain, because the handler writes what it is given by its type alone, and a link of a chain as a whole.
        return handler(cs.chain_schema([_named(name, _Parts(found))]))
    return {key: _resolved(value, found, handler) for key, value in schema.items()}


def _ref(name: str, found: dict[str, Any]) -> str:
    """What pydantic knows a schema by: its name and what it says, because two types may have one name."""
    said, left = dict[str, bytes](), [name]
    while left:
        one = left.pop()
        if one not in said:
            said[one] = msgspec.json.encode(found[one], order="sorted")
            left += _REFERRED.findall(said[one].decode())
    return f"{name}:{blake2b(b''.join(said[one] for one in sorted(said)), digest_size=8).hexdigest()}"


class _Parts(dict[str, Any]):
    """The schemas a document refers to, by name; equal when their names are, so that each is described once."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self)))


@cache
def _named(name: str, found: _Parts) -> Any:
    return cs.any_schema(
        ref=_ref(name, found),
        metadata={"pydantic_js_functions": [lambda _schema, handler: _resolved(found[name], found, handler)]},
    )


class Wire:
    """Marks an annotation whose value msgspec reads and writes whole: ``Annotated[list[Loan], Wire(list[Loan])]``.

    ``text`` writes the JSON itself, for a response that sends it on as it is.
    """

    __slots__ = ("kind", "text")

    def __init__(self, kind: Any, *, text: bool = True) -> None:
        self.kind = kind
        self.text = text

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema(self.kind, text=self.text)


def is_ours(kind: Any, known: Any = (msgspec.Struct, Secret)) -> bool:
    """Whether a type is, or holds, something that msgspec reads and writes and pydantic alone does not."""
    if isinstance(kind, type) and issubclass(kind, known):
        return True
    return any(is_ours(one, known) for one in get_args(kind))
