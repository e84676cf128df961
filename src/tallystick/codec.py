"""Entity <-> row. The decoder and encoder of each entity are generated as straight positional code.

The way dataclasses generate ``__init__``: one function per entity, no loop over fields at run time. A decoder
takes a row in the order of ``spec.read_columns``; an encoder gives values in the order of ``insert_columns``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import msgspec
from msgspec.structs import replace as changed

from tallystick import values as check
from tallystick.conditions import Condition, Order, Part, Query, Several, shape_of
from tallystick.entity import default_of
from tallystick.errors import Invalid, WrongTenant
from tallystick.fields import Ref
from tallystick.ids import NIL
from tallystick.money import Money
from tallystick.privacy.sealed import MASK, Secret, mask_of, plaintext_of, sealed
from tallystick.privacy.sealer import Sealer
from tallystick.spec import EntitySpec, FieldSpec, Kind

if TYPE_CHECKING:
    from tallystick.privacy.cells import Opener, Writer

Decode = Callable[[Any, Any], Any]
Encode = Callable[[Any, UUID, Any], list[Any]]
_CODECS: dict[type, Codec] = {}


class Codec:
    """The generated functions of one entity, and the slower ones for single fields."""

    __slots__ = (
        "_decode",
        "asset_fields",
        "encode",
        "insert_columns",
        "opened_at",
        "spec",
        "stamped",
        "vague",
        "width",
    )

    def __init__(self, spec: EntitySpec) -> None:
        self.spec = spec
        self.asset_fields = tuple(f for f in spec.fields.values() if f.asset_column == "asset")
        self.insert_columns = tuple(c.name for c in spec.columns if c.insertable)
        self.width = len(spec.read_columns)
        self.opened_at = _opened_at(spec)
        # Whether an index may say that values are equal which are not.
        self.vague = any(b.search_bits is not None for b in spec.blind)
        self._decode: Decode = _generate(_decoder, spec)
        self.encode: Encode = _generate(_encoder, spec)
        self.stamped: Callable[[Any, UUID, Any, list[Any]], Any] = _generate(_stamper, spec)

    def decode(self, row: Any, sealer: Opener | None) -> Any:
        """The entity of a row. Raises ``Invalid`` for a state or document this code does not know."""
        try:
            return self._decode(row, sealer)
        except (KeyError, msgspec.ValidationError):
            pass
        raise self._unknown()

    def decode_all(self, rows: Sequence[Any], sealer: Opener | None) -> list[Any]:
        """The entities of many rows."""
        decode = self._decode
        try:
            return [decode(row, sealer) for row in rows]
        except (KeyError, msgspec.ValidationError):
            pass
        raise self._unknown()

    def param(self, field: FieldSpec, value: Any, sealer: Sealer) -> tuple[Any, ...]:
        """The driver's values of one condition's operand."""
        if value.__class__ is Several:
            found = [self.param(field, v, sealer) for v in value]
            return tuple(list(column) for column in zip(*found, strict=True))
        if value.__class__ is Part:
            given = value.value
            return (check.part(field, given) if field.kind is Kind.JSON else check.text(field, given),)
        if field.kind is Kind.MONEY:
            amount = check.money(field, value)
            return (amount.asset, amount.units)
        if field.sealed:
            return sealer.operand(self.spec.table, field, value)
        return (check.plain(field, value, sealer.tenant),)

    def bind(self, where: Iterable[Condition], sealer: Sealer) -> tuple[Any, ...]:
        """The values of a query's conditions, as the store takes them."""
        bound: list[tuple[FieldSpec, Any]] = []
        for condition in where:
            condition.bind(bound)
        return tuple([v for field, value in bound for v in self.param(field, value, sealer)])

    def marked(self, query: Query, sealer: Sealer) -> Query:
        """The query as cursors know it: by values that stay what they are when index keys are rotated."""
        bound: list[tuple[FieldSpec, Any]] = []
        for condition in query.where if self.spec.blind else ():
            condition.bind(bound)
        if not any(field.sealed for field, _ in bound):
            return query
        values: list[Any] = []
        for field, value in bound:
            if not field.sealed:
                values += self.param(field, value, sealer)
            else:
                several = value if value.__class__ is Several else (value,)
                values += [sealer.fingerprint(self.spec.table, field, v) for v in several]
        return changed(query, values=tuple(values))

    def query(
        self, where: Sequence[Condition], order: tuple[Order, ...], sealer: Sealer, limit: int | None = None
    ) -> Query:
        """The query of conditions and order, with its values and shape."""
        return Query(
            where=tuple(where),
            values=self.bind(where, sealer),
            order=order,
            limit=limit,
            shape=shape_of(where, order),
        )

    def position(self, entity: Any, order: Iterable[Order], sealer: Sealer) -> tuple[Any, ...]:
        """The store's values by which an entity is placed in an order."""
        found = []
        for one in order:
            field = one.field.spec
            value = getattr(entity, field.name)
            if value is not None:
                value = value.units if field.kind is Kind.MONEY else check.plain(field, value, sealer.tenant)
            found.append(value)
        return tuple(found)

    def columns_of(
        self, field: FieldSpec, value: Any, row: UUID | None, sealer: Sealer | Writer
    ) -> list[tuple[str, Any]]:
        """A field's columns and values for an UPDATE; ``row`` is None where many rows are changed at once."""
        if value is None:
            if not field.optional:
                raise check.wrong(field, "has no value and needs one", "Give it a value or declare it optional.")
            return [(c.name, None) for c in field.columns if c.updatable]
        if field.kind is Kind.MONEY:
            amount = check.money(field, value)
            return [(field.name, amount.units), (field.asset_column or "asset", amount.asset)]
        if field.kind is Kind.ENUM:
            return [(field.column, check.member(field, value))]
        if not field.sealed:
            return [(field.column, check.plain(field, value, sealer.tenant))]
        if row is None:
            raise check.wrong(
                field, "is sealed for one row and cannot be set on many", "Update the entities one by one."
            )
        return self._sealed_columns(field, value, row, cast("Writer", sealer))

    def _sealed_columns(self, field: FieldSpec, value: Any, row: UUID, sealer: Writer) -> list[tuple[str, Any]]:
        table = self.spec.table
        if field.kind is Kind.SECRET:
            if not isinstance(value, Secret):
                raise check.wrong(field, "should be a secret", "Write secret(value).")
            if value.is_sealed:
                return []
            value = plaintext_of(value)
        found: list[tuple[str, Any]] = [(field.name, sealer.seal(table, field, value, row))]
        if field.search is not None:
            columns = [name for b in field.blind for name in (b.index_column, b.next_column)]
            found += zip(columns, sealer.indexes(table, field, value), strict=True)
        if field.mask_last is not None:
            found.append((field.mask_column, sealer.seal_mask(table, field, mask_of(value, field.mask_last), row)))
        return found

    def changes(
        self, entity: Any, wanted: Mapping[str, Any], sealer: Sealer | Writer
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What an update writes: columns with values, and the fields of the entity that results."""
        columns: dict[str, Any] = {}
        fields: dict[str, Any] = {}
        for name, value in wanted.items():
            field, before = self.settable(name), getattr(entity, name)
            if value is before:
                continue
            # Checked before it is compared: True equals 1 and 5.0 equals 5.
            found = self.columns_of(field, value, entity.id, sealer)
            if value == before:
                continue
            if not found:
                raise check.moved(field)
            columns.update(found)
            fields[name] = value
            if field.kind is Kind.SECRET and value is not None and not value.is_sealed:
                fields[name] = sealed(dict(found)[field.name], mask_of(plaintext_of(value), field.mask_last or 0))
        if "asset" in columns and self.asset_fields:
            self._one_asset(entity, fields, columns)
        return columns, fields

    def _one_asset(self, entity: Any, fields: Mapping[str, Any], columns: dict[str, Any]) -> None:
        after = [fields.get(f.name, getattr(entity, f.name)) for f in self.asset_fields]
        assets = {m.asset for m in after if m is not None}
        if len(assets) > 1:
            raise Invalid(
                f"The money fields of a {self.spec.name} share one asset.",
                entity=self.spec.name,
                remedy="Change all of them together, or declare Annotated[Money, OwnAsset()].",
            )
        if assets:
            columns["asset"] = assets.pop()

    def settable(self, name: str) -> FieldSpec:
        """The field of that name, when an application may change it."""
        field = self.spec.fields.get(name)
        fixed = field is not None and (field.maintained or field.once)
        if field is None or field.system or self.spec.append_only or fixed:
            raise Invalid(
                f"{self.spec.name}.{name[:40]} cannot be set.",
                entity=self.spec.name,
                field=name[:40],
                remedy="Append-only rows never change."
                if self.spec.append_only
                else "It is given once, when the entity is added, or kept by the database."
                if fixed
                else f"Fields are: {', '.join(n for n, f in self.spec.fields.items() if not f.system)}.",
            )
        return field

    def _unknown(self) -> Invalid:
        return Invalid(
            f"A stored {self.spec.name} holds a state or document that this version does not know.",
            entity=self.spec.name,
            remedy="Upgrade the application before using states of a newer schema.",
        )


def codec_of(spec: EntitySpec) -> Codec:
    """The codec of an entity, generated on first use."""
    found = _CODECS.get(spec.cls)
    if found is None:
        found = _CODECS[spec.cls] = Codec(spec)
    return found


# -- generation -------------------------------------------------------------------------------------------------


def _generate(make: Callable[[EntitySpec, dict[str, Any]], str], spec: EntitySpec) -> Any:
    scope: dict[str, Any] = {
        "cls": spec.cls,
        "Ref": Ref,
        "Money": Money,
        "sealed": sealed,
        "check": check,
        "UUID": UUID,
        "NIL": NIL,
    }
    exec(compile(make(spec, scope), f"<tallystick {make.__name__[1:]} of {spec.name}>", "exec"), scope)  # noqa: S102
    return scope["made"]


def _decoder(spec: EntitySpec, scope: dict[str, Any]) -> str:
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


def _opened_at(spec: EntitySpec) -> tuple[int, ...]:
    """Where in a row the columns stand that every read opens."""
    return tuple(i for i, name in enumerate(spec.read_columns) if name in spec.opened)


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


def _encoder(spec: EntitySpec, scope: dict[str, Any]) -> str:
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


def _stamper(spec: EntitySpec, scope: dict[str, Any]) -> str:
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
