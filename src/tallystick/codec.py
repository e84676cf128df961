"""Entity <-> row: whole rows by generated functions, single fields, and the values of conditions and cursors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import msgspec
from msgspec.structs import replace as changed

from tallystick import values as check
from tallystick.conditions import Condition, Order, Part, Query, Several, shape_of
from tallystick.errors import Invalid
from tallystick.generated import decoder, encoder, generate, stamper
from tallystick.privacy.sealed import Secret, mask_of, plaintext_of, sealed
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
        self.vague = any(b.vague for b in spec.blind)
        self._decode: Decode = generate(decoder, spec)
        self.encode: Encode = generate(encoder, spec)
        self.stamped: Callable[[Any, UUID, Any, list[Any]], Any] = generate(stamper, spec)

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


def _opened_at(spec: EntitySpec) -> tuple[int, ...]:
    """Where in a row the columns stand that every read opens."""
    return tuple(i for i, name in enumerate(spec.read_columns) if name in spec.opened)
