"""JSON schemas of what goes over the wire: one form for both frameworks, and the one that msgspec writes.

An entity is an object of its fields. Money is ``{"units": 1250, "asset": "USD"}``, exact and without parsing; in a
query string, which has no objects, it is "12.50 USD". A reference is ``{"id": ...}``. A secret goes out as its mask and
comes in as text.
"""

from __future__ import annotations

import inspect
from datetime import datetime
from functools import cache
from typing import Any, get_args, get_origin

import msgspec

from tallystick.entity import Entity, spec_of
from tallystick.errors import Declaration
from tallystick.filters import Filter
from tallystick.page import Page, PageQuery
from tallystick.privacy.sealed import Secret, enc_hook
from tallystick.spec import Kind

_ENCODER = msgspec.json.Encoder(enc_hook=enc_hook)
REF = "#/components/schemas/{name}"


def encode(value: Any) -> bytes:
    """A value as JSON: entities, pages, receipts, lists of them; secrets as their masks."""
    return _ENCODER.encode(value)


def builtins_of(value: Any) -> Any:
    """The same as plain dicts, lists and texts."""
    return msgspec.to_builtins(value, enc_hook=enc_hook, str_keys=True)


def plain(value: Any) -> Any:
    """A value with what is ours in it as plain dicts, lists and texts, and all else as it is."""
    if isinstance(value, (msgspec.Struct, Secret)):
        return builtins_of(value)
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return value


def components(kind: Any, template: str = REF) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The schema of a type, and those it refers to by name."""
    schema, found = _components(kind, template)
    return dict(schema), {name: dict(one) for name, one in found.items()}


@cache
def _components(kind: Any, template: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    (schema,), named = msgspec.json.schema_components([kind], schema_hook=_hook, ref_template=template)
    found = {name: _clean(one, top=True) for name, one in named.items()}
    for struct in _structs(msgspec.inspect.type_info(kind), {}).values():
        about: dict[str, Any] = next((one for one in found.values() if one.get("title") == _title(struct.cls)), {})
        for field in struct.fields:
            if _is_moment(field.type) and field.encode_name in about.get("properties", {}):
                _dated(about["properties"][field.encode_name])
        if about and issubclass(get_origin(struct.cls) or struct.cls, (Entity, Page)):
            # They only go out, and then with all their fields.
            about["required"] = list(about["properties"])
        for name, states in _added(struct.cls).items():
            about["properties"][name] = {"enum": states}
    return _clean(schema), found


def _title(kind: Any) -> str:
    """What msgspec calls the schema of a struct."""
    parts = ", ".join(getattr(part, "__name__", str(part)) for part in get_args(kind))
    return f"{kind.__name__}[{parts}]" if parts else str(kind.__name__)


def _added(kind: Any) -> dict[str, list[str]]:
    """The states of fields to which an extension added some."""
    entity = isinstance(kind, type) and issubclass(kind, Entity) and kind is not Entity
    fields = spec_of(kind).fields.values() if entity else ()
    return {f.name: sorted(str(m.value) for m in f.members) for f in fields if f.added}


def _structs(info: Any, found: dict[type, Any]) -> dict[type, Any]:
    """The structs inside a type. msgspec names the format of a moment only where its zone is required."""
    if isinstance(info, msgspec.inspect.StructType):
        if info.cls in found:
            return found
        found[info.cls] = info
        for field in info.fields:
            _structs(field.type, found)
    elif isinstance(info, msgspec.inspect.UnionType):
        for one in info.types:
            _structs(one, found)
    elif isinstance(info, msgspec.inspect.Metadata):
        _structs(info.type, found)
    for part in ("item_type", "key_type", "value_type"):
        if hasattr(info, part):
            _structs(getattr(info, part), found)
    return found


def refuse_entities(kind: Any) -> None:
    """Raise ``Declaration`` for a body that is a whole entity, or holds one: a client would set all of it."""
    try:
        left = [msgspec.inspect.type_info(kind)]
    except (TypeError, NameError):
        return  # no type that msgspec reads, so no entity would be read
    seen: list[Any] = []
    while left:
        info = left.pop()
        if info in seen:
            continue
        seen.append(info)
        cls = getattr(info, "cls", None)
        if isinstance(cls, type) and issubclass(cls, Entity):
            raise Declaration(
                f"A handler takes a whole {cls.__name__} as its body, or inside it.",
                entity=cls.__name__,
                remedy=f"Take {cls.__name__}.New or {cls.__name__}.Change: they hold what a client may set.",
            )
        left += [field.type for field in getattr(info, "fields", ())]
        for part in ("types", "item_types"):
            left += getattr(info, part, ())
        for part in ("type", "item_type", "key_type", "value_type"):
            if hasattr(info, part):
                left.append(getattr(info, part))


def _is_moment(info: Any) -> bool:
    if isinstance(info, msgspec.inspect.UnionType):
        return any(_is_moment(one) for one in info.types)
    return isinstance(info, msgspec.inspect.DateTimeType)


def _dated(schema: dict[str, Any]) -> None:
    for one in schema.get("anyOf", [schema]):
        if one.get("type") == "string":
            one["format"] = "date-time"


def _hook(kind: Any) -> dict[str, Any]:
    if kind is Secret or get_origin(kind) is Secret:
        inner = (get_args(kind) or (str,))[0]
        return {**_clean(msgspec.json.schema(inner)), "description": "Sealed: goes out as its mask."}
    raise NotImplementedError


def _clean(schema: Any, *, top: bool = False) -> Any:
    """Short descriptions, and no defaults: what comes out is always there, and what goes in has none of msgspec's."""
    if isinstance(schema, list):
        return [_clean(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {k: v for k, v in schema.items() if k != "default" and (k, v) != ("required", [])}
    for keyword in ("properties", "$defs"):
        if keyword in found:
            found[keyword] = {name: _clean(one) for name, one in found[keyword].items()}
    for keyword in ("items", "anyOf", "allOf", "oneOf", "prefixItems", "additionalProperties"):
        if keyword in found:
            found[keyword] = _clean(found[keyword])
    if top and isinstance(found.get("description"), str):
        found["description"] = " ".join(inspect.cleandoc(found["description"]).split("\n\n")[0].split())
    return found


@cache
def parameters(kind: type[Filter] | type[PageQuery]) -> tuple[dict[str, Any], ...]:
    """The parameters of a query string that a filter or ``PageQuery`` decodes, as OpenAPI lists them."""
    found = []
    for field in msgspec.structs.fields(kind):
        members = [a for a in get_args(field.type) if a is not type(None)] or [field.type]
        hint = field.type if get_origin(field.type) is not None and not get_args(field.type)[1:] else members[0]
        if field.name == "limit":
            hint = field.type
        schema = msgspec.json.schema(hint)
        definitions = schema.pop("$defs", {})
        schema = _inlined(_clean(schema), definitions)
        if hint is datetime:
            schema["format"] = "date-time"
        if kind is not PageQuery and _is_money(kind, field.name):
            schema |= {"pattern": r"^[+-]?[0-9]{1,100}(\.[0-9]{1,100})? [A-Z0-9]{1,20}$", "example": "12.50 USD"}
        one: dict[str, Any] = {"name": field.name, "in": "query", "required": False, "schema": schema}
        if schema.get("type") == "array":
            one |= {"style": "form", "explode": True}
        found.append(one)
    return tuple(found)


def _is_money(kind: Any, name: str) -> bool:
    field, operation = kind._tally_plan[name]
    return operation != "missing" and spec_of(kind._tally_entity).fields[field].kind is Kind.MONEY


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _clean(definitions[schema["$ref"].rsplit("/", 1)[1]], top=True)
    return {k: _inlined(v, definitions) for k, v in schema.items()}
