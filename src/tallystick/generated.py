"""The code generated for each entity: straight positional functions from row to entity, and from entity to row.

The way dataclasses generate ``__init__``: one function per entity, no loop over fields at run time. It stands apart
from ``Codec``, which answers for single fields, because this is text that writes Python and is read as such.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec

from tallystick import values as check
from tallystick.entity import default_of
from tallystick.errors import Invalid, WrongTenant
from tallystick.fields import Ref
from tallystick.ids import NIL
from tallystick.money import Money
from tallystick.privacy.sealed import MASK, Secret, mask_of, plaintext_of, sealed
from tallystick.spec import EntitySpec, FieldSpec, Kind


def generate(make: Callable[[EntitySpec, dict[str, Any]], str], spec: EntitySpec) -> Any:
    """The function that one of the three below writes for an entity, compiled."""
    scope: dict[str, Any] = {
        "cls": spec.cls,
        "Ref": Ref,
        "Money": Money,
        "sealed": sealed,
        "check": check,
        "UUID": UUID,
        "NIL": NIL,
    }
    exec(compile(make(spec, scope), f"<tallystick {make.__name__} of {spec.name}>", "exec"), scope)  # noqa: S102
    return scope["made"]


def decoder(spec: EntitySpec, scope: dict[str, Any]) -> str:
    """``made(row, sealer)``: the entity of a row in the order of ``read_columns``."""
    at = {name: f"c{i}" for i, name in enumerate(spec.read_columns)}
    arguments = []
    for name, field in spec.fields.items():
        column = at[field.column]
        arguments.append(f"{name}={_guard(field, column, _decoded(spec, field, column, at, scope))}")
    generation = "_generation, " if spec.opened else ""
    show = "    show = sealer.mask\n" if any(f.mask_last is not None for f in spec.fields.values()) else ""
    return (
        f"def made(row, sealer):\n    ({', '.join(at.values())}, {generation}) = row\n{show}"
        f"    return cls({', '.join(arguments)})\n"
    )


def _guard(field: FieldSpec, column: str, expression: str) -> str:
    return f"None if {column} is None else {expression}" if field.optional and expression != column else expression


def _decoded(spec: EntitySpec, field: FieldSpec, column: str, at: dict[str, str], scope: dict[str, Any]) -> str:
    kind, name = field.kind, field.name
    if kind is Kind.ENUM:
        scope[f"E_{name}"] = {str(m.value): m for m in field.members}
        return f"E_{name}[{column}]"
    if kind is Kind.REF:
        return f"Ref({column})"
    if kind is Kind.MONEY:
        return f"Money({column}, {at[field.asset_column or 'asset']})"
    if kind in (Kind.CHAIN, Kind.LEDGER):
        return f"int({column})"
    if kind is Kind.JSON:
        scope[f"J_{name}"] = msgspec.json.Decoder(field.python).decode
        return f"J_{name}({column})"
    if field.sealed:
        scope[f"F_{name}"] = field
        row = at["id"]
        if kind is Kind.PERSONAL:
            return f"sealer.open({spec.table!r}, F_{name}, {column}, {row})"
        if field.mask_last is not None:
            mask = field.mask_column
            # Most masks that are read are never looked at: what it takes to answer one is kept, and nothing done.
            return f"sealed({column}, (show, {spec.table!r}, {mask!r}, {at[mask]}, {row}))"
        return f"sealed({column})"
    return column


def encoder(spec: EntitySpec, scope: dict[str, Any]) -> str:
    """``made(entity, tenant, sealer)``: the values of a new row, checked, in the order of ``insert_columns``."""
    scope["foreign"] = _foreign(spec)
    scope["one_asset"] = _one_asset(spec)
    shared = _sharing(spec)
    lines = [
        "def made(e, tenant, sealer):",
        "    if e.__class__ is not cls: foreign(e, tenant)",
        "    if e.tenant_id is not NIL and e.tenant_id != tenant: foreign(e, tenant)",
        "    row = e.id",
        "    if not isinstance(row, UUID): check.plain(F_id, row, tenant)",
        "    out = [tenant, row]",
    ]
    scope["F_id"] = spec.fields["id"]
    asset_written = False
    for name, field in spec.fields.items():
        if field.system:
            continue
        scope[f"F_{name}"] = field
        if field.maintained:
            scope[f"D_{name}"] = default_of(spec.cls, name)
            scope["not_ours"] = _not_ours
            lines.append(f"    if e.{name} != D_{name}: raise not_ours(F_{name})")
            continue
        lines.append(f"    v = e.{name}")
        body = _encoded(field, spec, scope)
        if field.optional:
            empty = ", ".join("None" for c in field.columns if c.insertable)
            lines += [f"    if v is None: out.extend(({empty},))", "    else:", *(f"        {b}" for b in body)]
        else:
            lines += [f"    {b}" for b in body]
        if field in shared and not asset_written:
            asset_written = True
            amounts = ", ".join(f"e.{f.name}" for f in shared)
            lines.append(
                f"    out.append(one_asset(({amounts},)))"
                if len(shared) > 1 or field.optional
                else "    out.append(v.asset)"
            )
    lines.append("    return out\n")
    return "\n".join(lines)


def _sharing(spec: EntitySpec) -> list[FieldSpec]:
    """The money fields that are given with a row and say of which asset it is."""
    return [f for f in spec.fields.values() if f.asset_column == "asset" and not f.maintained]


def _encoded(field: FieldSpec, spec: EntitySpec, scope: dict[str, Any]) -> list[str]:
    f, kind = f"F_{field.name}", field.kind
    if kind is Kind.TEXT:
        limit = f" or len(v) > {field.max_length}" if field.max_length is not None else ""
        least = f" or len(v) < {field.min_length}" if field.min_length else ""
        odd = f"v.__class__ is not str{limit}{least} or '\\0' in v or not v.isascii()"
        return [f"if {odd}: v = check.text({f}, v)", "out.append(v)"]
    if kind is Kind.INTEGER:
        return [
            f"if v.__class__ is not int or not {check.INT_MIN} <= v <= {check.INT_MAX}: check.integer({f}, v)",
            "out.append(v)",
        ]
    if kind is Kind.ENUM:
        scope[f"V_{field.name}"] = {m: str(m.value) for m in field.members}
        scope[f"C_{field.name}"] = field.python
        known = f"v.__class__ is C_{field.name} and v in V_{field.name}"
        return [f"out.append(V_{field.name}[v] if {known} else check.member({f}, v))"]
    if kind is Kind.REF:
        return [
            f"out.append(v.id if v.__class__ is Ref and v.loaded is None and isinstance(v.id, UUID) "
            f"else check.reference({f}, v, tenant))"
        ]
    if kind is Kind.TIMESTAMP:
        return [f"out.append(check.timestamp({f}, v))"]
    if kind is Kind.MONEY:
        own = ["out.append(v.asset)"] if field.asset_column != "asset" else []
        low, high = check.INT_MIN, check.INT_MAX
        return [
            f"if v.__class__ is not Money or not {low} <= v.units <= {high}: check.money({f}, v)",
            "out.append(v.units)",
            *own,
        ]
    if field.sealed:
        return _sealing(field, spec, f, scope)
    return [f"out.append(check.plain({f}, v, tenant))"]


def _sealing(field: FieldSpec, spec: EntitySpec, f: str, scope: dict[str, Any]) -> list[str]:
    table = repr(spec.table)
    lines = []
    if field.kind is Kind.SECRET:
        scope["open_fresh"] = _open_fresh
        lines.append(f"v = open_fresh({f}, v)")
    lines.append(f"out.append(sealer.seal({table}, {f}, v, row))")
    if field.search is not None:
        lines.append(f"out.extend(sealer.indexes({table}, {f}, v))")
    if field.mask_last is not None:
        scope["mask_of"] = mask_of
        lines.append(f"out.append(sealer.seal_mask({table}, {f}, mask_of(v, {field.mask_last}), row))")
    return lines


def _open_fresh(field: FieldSpec, value: Any) -> Any:
    if not isinstance(value, Secret):
        raise check.wrong(field, "should be a secret", "Write secret(value).")
    if value.is_sealed:
        raise check.moved(field)
    return plaintext_of(value)


def stamper(spec: EntitySpec, scope: dict[str, Any]) -> str:
    """``made(entity, tenant, stamps, params)``: the entity as it stands once its row was written."""
    scope["resealed"] = _resealed
    scope["one_asset"] = _one_asset(spec)
    amounts = ", ".join(f"e.{f.name}" for f in _sharing(spec))
    inserted = [c.name for c in spec.columns if c.insertable]
    given = []
    for name, field in spec.fields.items():
        if name == "tenant_id":
            given.append("tenant_id=tenant")
        elif field.system and name != "id":
            order = ("version", "created_at", "created_by", "updated_at", "updated_by")
            given.append(f"{name}=stamps[{order.index(name)}]")
        elif field.maintained and field.kind is Kind.MONEY:
            given.append(f"{name}=Money(e.{name}.units, one_asset(({amounts},)))")
        elif field.kind is Kind.SECRET:
            given.append(f"{name}=resealed(e.{name}, params[{inserted.index(field.name)}], {field.mask_last or 0})")
        else:
            given.append(f"{name}=e.{name}")
    return f"def made(e, tenant, stamps, params):\n    return cls({', '.join(given)})\n"


def _resealed(value: Any, envelope: bytes | None, last: int) -> Any:
    if value is None or envelope is None:
        return None
    return sealed(envelope, mask_of(plaintext_of(value), last) if last else MASK)


def _not_ours(field: FieldSpec) -> Invalid:
    return check.wrong(field, "is kept by the database", "Leave it out: it starts at its default.")


def _foreign(spec: EntitySpec) -> Callable[[Any, UUID], None]:
    def foreign(entity: Any, tenant: UUID) -> None:
        if entity.__class__ is not spec.cls:
            raise Invalid(
                f"A {type(entity).__name__} was given where a {spec.name} belongs.",
                entity=spec.name,
                remedy=f"Use db[{type(entity).__name__}].",
            )
        if entity.tenant_id not in (NIL, tenant):
            raise WrongTenant(f"The {spec.name} belongs to another tenant than the session.")

    return foreign


def _one_asset(spec: EntitySpec) -> Callable[[tuple[Any, ...]], str | None]:
    def one_asset(amounts: tuple[Any, ...]) -> str | None:
        # What is no Money is refused by name when its own turn comes.
        assets = {a.asset for a in amounts if a.__class__ is Money}
        if len(assets) > 1:
            raise Invalid(
                f"The money fields of a {spec.name} share one asset.",
                entity=spec.name,
                remedy="Use one asset, or declare Annotated[Money, OwnAsset()].",
            )
        return assets.pop() if assets else None

    return one_asset
