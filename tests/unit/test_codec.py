"""Entity to row and back without a database: stamps, changes, sealed fields, rows of a newer schema."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from tests.cells import Cells, sealer
from tests.entities import Colour, Entry, Member, Shelf, Sink

from tallystick import (
    Invalid,
    LocalKeys,
    Money,
    NotFound,
    Tampered,
    Unavailable,
    User,
    WrongTenant,
    asc,
    desc,
    eur,
    secret,
    usd,
    uuid7,
)
from tallystick.codec import codec_of
from tallystick.entity import spec_of, with_fields
from tallystick.privacy.sealed import MASK, Secret
from tallystick.spec import EntitySpec, FieldSpec, Kind

TENANT, NEIGHBOUR = uuid7(), uuid7()
KEYS = LocalKeys(bytes(range(32)))
SEALER = Cells(TENANT, KEYS)
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
STAMPS = (1, MOMENT, "me", MOMENT, "me")


def row(spec: EntitySpec, params: list, **other) -> tuple:
    codec = codec_of(spec.cls) if isinstance(spec, type) else codec_of(spec)
    held = dict(zip(codec.insert_columns, params, strict=True))
    held |= dict(zip(("version", "created_at", "created_by", "updated_at", "updated_by"), STAMPS, strict=True)) | other
    return (*(held[c] for c in spec.read_columns), *((0,) if spec.sealed else ()))


def stored(entity):
    spec = spec_of(type(entity))
    params = codec_of(spec).encode(entity, TENANT, SEALER)
    return codec_of(spec).decode(row(spec, params), SEALER)


def test_a_codec_is_made_once():
    assert codec_of(spec_of(Sink)) is codec_of(spec_of(Sink))


def test_tenant_and_id_come_first():
    sink = Sink(number=5)
    params = codec_of(spec_of(Sink)).encode(sink, TENANT, SEALER)
    assert params[:2] == [TENANT, sink.id]
    assert len(params) == len(codec_of(spec_of(Sink)).insert_columns)


def test_another_tenants_entity_is_not_encoded():
    codec = codec_of(spec_of(Sink))
    with pytest.raises(WrongTenant):
        codec.encode(Sink(tenant_id=NEIGHBOUR), TENANT, SEALER)
    assert codec.encode(Sink(tenant_id=TENANT), TENANT, SEALER)
    with pytest.raises(Invalid):
        codec.encode(Shelf(name="x"), TENANT, SEALER)
    with pytest.raises(Invalid):
        codec.encode(Sink(id="x"), TENANT, SEALER)  # type: ignore[arg-type]


def test_rows_of_a_newer_schema_are_invalid_not_wrong():
    spec = spec_of(Sink)
    params = codec_of(spec).encode(Sink(), TENANT, SEALER)
    for column, value in (("colour", "ultraviolet"), ("detail", '{"other": 1}'), ("payload", "[]")):
        with pytest.raises(Invalid, match="does not know"):
            codec_of(spec).decode(row(spec, params, **{column: value}), SEALER)
        with pytest.raises(Invalid, match="does not know"):
            codec_of(spec).decode_all([row(spec, params), row(spec, params, **{column: value})], SEALER)


def test_changes_are_the_fields_that_differ():
    codec = codec_of(spec_of(Sink))
    sink = stored(Sink(number=1, note="x", fee=usd(5), colour=Colour.RED))
    assert codec.changes(sink, {"number": 1, "note": "x", "fee": usd(5)}, SEALER) == ({}, {})
    columns, fields = codec.changes(sink, {"number": 2, "note": None, "colour": Colour.BLUE}, SEALER)
    assert columns == {"number": 2, "note": None, "colour": "blue"}
    assert fields == {"number": 2, "note": None, "colour": Colour.BLUE}
    assert codec.changes(sink, {"fee": usd(6)}, SEALER)[0] == {"fee": 600, "asset": "USD"}
    assert codec.changes(sink, {"deposit": eur(6)}, SEALER)[0] == {"deposit": 600, "deposit_asset": "EUR"}
    assert codec.changes(sink, {"deposit": None}, SEALER) == ({}, {})
    for wrong in (
        {"number": True},
        {"number": None},
        {"number": 1.0},
        {"id": uuid7()},
        {"nope": 1},
        {"ceiling": eur(1)},
    ):
        with pytest.raises(Invalid):
            codec.changes(sink, wrong, SEALER)


def test_a_changed_secret_is_sealed_for_its_row():
    codec = codec_of(spec_of(Member))
    member = stored(Member(number=secret("123-456"), name="Ada"))
    assert str(member.number) == f"{MASK}456"
    assert codec.changes(member, {"number": member.number}, SEALER) == ({}, {})
    columns, fields = codec.changes(member, {"number": secret("987-654")}, SEALER)
    assert set(columns) == {"number", "number_bidx", "number_bidx_next", "number_mask"}
    assert str(fields["number"]) == f"{MASK}654"
    assert fields["number"].is_sealed
    assert "987-654" not in repr(columns)
    with pytest.raises(Invalid):
        codec.changes(member, {"number": stored(Member(number=secret("1-2-3-4"), name="B")).number}, SEALER)


def test_ciphertext_is_bound_to_tenant_row_and_column():
    spec = spec_of(Member)
    codec = codec_of(spec)
    one, two = Member(number=secret("1234"), name="A"), Member(number=secret("1234"), name="A")
    params, others = codec.encode(one, TENANT, SEALER), codec.encode(two, TENANT, SEALER)
    at = codec.insert_columns.index
    assert params[at("number_bidx")] == others[at("number_bidx")]
    assert params[at("number")] != others[at("number")]
    moved = list(params)
    moved[at("name")] = others[at("name")]
    with pytest.raises(Tampered):
        codec.decode(row(spec, moved), SEALER)
    neighbours = codec.encode(one, NEIGHBOUR, Cells(NEIGHBOUR, KEYS))
    assert neighbours[at("number_bidx")] != params[at("number_bidx")]
    with pytest.raises(Tampered):
        codec.decode(row(spec, neighbours), SEALER)


async def test_nothing_is_written_or_read_without_keys():
    bare, member = sealer(TENANT, None), Member(number=secret("1"), name="A")
    with pytest.raises(Unavailable, match="TALLYSTICK_KEY_FILE"):
        await bare.writer(spec_of(Member), [member])
    codec = codec_of(spec_of(Member))
    with pytest.raises(Unavailable, match="TALLYSTICK_KEY_FILE"):
        await bare.opener(codec, [row(spec_of(Member), codec.encode(member, TENANT, SEALER))])
    assert await bare.writer(spec_of(Shelf), [Shelf(name="x")]) is bare
    assert codec_of(spec_of(Shelf)).encode(Shelf(name="x"), TENANT, bare)


def test_positions_are_what_the_store_sorts_by():
    codec, sink = codec_of(spec_of(Sink)), Sink(fee=Money(7, "JPY"), colour=Colour.BLUE)
    order = [asc(Sink.fee), asc(Sink.colour), desc(Sink.note), asc(Sink.id)]
    assert codec.position(sink, order, SEALER) == (7, "blue", None, sink.id)


def test_many_rows_cannot_share_a_sealed_value():
    codec = codec_of(spec_of(User))
    with pytest.raises(Invalid, match="sealed for one row"):
        codec.columns_of(spec_of(User).fields["email"], "a@example.org", None, SEALER)
    assert codec.columns_of(spec_of(User).fields["email"], None, None, SEALER) == [
        ("email", None),
        ("email_bidx", None),
        ("email_bidx_next", None),
    ]


def test_append_only_entities_have_nothing_to_set():
    with pytest.raises(Invalid):
        codec_of(spec_of(Entry)).settable("text")


def test_stamping_replaces_what_the_caller_said():
    codec = codec_of(spec_of(Member))
    given = Member(number=secret("123456"), name="A", version=7, created_by="forged")
    params = codec.encode(given, TENANT, SEALER)
    stamped = codec.stamped(given, TENANT, STAMPS, params)
    assert (stamped.version, stamped.created_by, stamped.tenant_id) == (1, "me", TENANT)
    assert stamped.number.is_sealed
    assert str(stamped.number) == f"{MASK}456"
    assert msgspec.structs.asdict(stamped)["id"] == given.id


def test_fields_are_replaced_without_touching_the_rest():
    sink = Sink(number=1, note="x")
    changed = with_fields(sink, number=2)
    assert (changed.number, changed.note, changed.id, sink.number) == (2, "x", sink.id, 1)
    assert NotFound.code == "TS-1100"


def test_a_sealed_value_of_another_type_than_declared_is_told_without_it() -> None:
    id, cells = uuid7(), Cells(TENANT, KEYS)
    for kind in (Kind.PERSONAL, Kind.SECRET):
        written = FieldSpec("x", kind, str, False, (), inner=str, purpose="p")
        envelope = cells.seal("t", written, "123-45-6789", id)
        for inner in (int, dict[str, int], UUID):
            for read in (cells.open, cells.reveal):
                with pytest.raises(Invalid, match="another type") as caught:
                    read("t", replace(written, inner=inner), envelope, id)
                assert caught.value.__context__ is None


def test_a_sealed_decimal_is_a_number():
    # One that equals nothing, itself included, could neither be found nor compared with what it replaces.
    for text in ("NaN", "sNaN", "-Infinity"):
        with pytest.raises(Invalid, match="NaN"):
            Cells(TENANT, KEYS).seal(
                "t", FieldSpec("x", Kind.PERSONAL, Decimal, False, (), inner=Decimal), Decimal(text), uuid7()
            )


def test_equal_values_have_one_index_and_no_others():
    cells = Cells(TENANT, KEYS)
    zone = timezone(timedelta(hours=5))
    for inner, same, other in (
        (Decimal, (Decimal("1.0"), Decimal("1.00"), Decimal(1)), Decimal("1.01")),
        (Decimal, (Decimal(0), Decimal("-0.0"), Decimal("0E+3")), Decimal(10)),
        (Decimal, (Decimal("1" * 40),), Decimal("1" * 39 + "2")),
        (datetime, (MOMENT, MOMENT.astimezone(zone)), MOMENT + timedelta(seconds=1)),
        (dict[str, Any], ({"a": 1, "b": [2]}, {"b": [2], "a": 1}), {"a": 1, "b": [3]}),
        (int, (7,), 8),
        (date, (MOMENT.date(), type("Frozen", (date,), {})(2026, 1, 1)), date(2026, 1, 2)),
    ):
        field = FieldSpec("x", Kind.SECRET, Secret, False, (), inner=inner, purpose="p", search="exact")
        (one,) = {tuple(cells.indexes("t", field, value)) for value in same}
        assert tuple(cells.indexes("t", field, other)) != one
        assert cells._sealer.operand("t", field, same[-1]) == one
    early = datetime(1, 1, 1, tzinfo=zone)
    for value in (Decimal("1E+999999999"), Decimal("-1E-999999999"), early, 10**5000):
        field = replace(field, inner=type(value))
        with pytest.raises(Invalid, match="cannot be indexed"):
            cells.indexes("t", field, value)
