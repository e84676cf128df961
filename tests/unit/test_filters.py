"""``X.Filter``: what it offers for each kind of field, and how a query string becomes conditions."""

from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

import msgspec
import pytest
from tests.entities import Colour, Sink, Visit

from tallystick import Application, Invalid, User, UserRole, usd
from tallystick.filters import Filter

OFFERED = set(Sink.Filter._tally_plan)


def shapes(filter: Filter) -> list:
    return [c.shape() for c in filter.conditions()]


def test_what_each_kind_offers():
    assert {n for n in OFFERED if n.startswith("label")} == {"label", "label_in", "label_prefix"}
    assert {n for n in OFFERED if n.startswith("note")} == {"note", "note_in", "note_prefix", "note_missing"}
    assert {n for n in OFFERED if n.startswith("number")} == {"number", "number_from", "number_to"}
    assert {n for n in OFFERED if n.startswith("colour")} == {"colour", "colour_in"}
    assert {n for n in OFFERED if n.startswith("fee")} == {"fee", "fee_from", "fee_to", "fee_missing"}
    assert {n for n in OFFERED if n.startswith("owner")} == {"owner", "owner_in", "owner_missing"}
    assert {n for n in OFFERED if n.startswith("flag")} == {"flag"}
    assert {"id", "id_in", "created_at_from", "updated_at_to", "created_by"} <= OFFERED


def test_what_nobody_may_filter_by():
    assert not {n for n in OFFERED if n.startswith(("tenant_id", "version", "payload", "raw", "score", "name"))}
    assert {n for n in OFFERED if n.startswith("tags")} == {"tags_missing"}
    # Searched fields answer to equality, and that they are missing is no secret-bearing fact to offer.
    assert {n for n in OFFERED if n.startswith(("pin", "email", "phone"))} == {"pin", "email", "phone"}
    assert {n for n in set(Application.Filter._tally_plan) if n.startswith(("ssn", "credit_score"))} == {
        "ssn",
        "ssn_last4",
    }


def test_a_field_is_not_shadowed_by_an_operation():
    class Clash(Visit):
        """An entity whose field has the name of an operation on another."""

        fee_from: int = 0

    assert Clash.Filter._tally_plan["fee_from"] == ("fee_from", "=")


def test_values_are_decoded():
    parsed = Sink.Filter.parse(
        {
            "colour": "red",
            "colour_in": "red,blue",
            "number_from": "-5",
            "flag": "true",
            "at_to": "2026-01-01T00:00:00Z",
            "day": "2026-02-03",
            "token": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "fee": "12.50 USD",
            "note_missing": "0",
        }
    )
    assert parsed.colour is Colour.RED  # type: ignore[attr-defined]
    assert parsed.colour_in == [Colour.RED, Colour.BLUE]  # type: ignore[attr-defined]
    assert parsed.at_to == datetime(2026, 1, 1, tzinfo=UTC)  # type: ignore[attr-defined]
    assert parsed.day == date(2026, 2, 3)  # type: ignore[attr-defined]
    assert parsed.token == UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")  # type: ignore[attr-defined]
    found = dict.fromkeys(map(str, shapes(parsed)))
    assert {"('=', 'colour')", "('>=', 'number')", "('<=', 'at')", "('notnull', 'note')"} <= set(found)


def test_lists_come_repeated_or_with_commas():
    wanted = [Colour.RED, Colour.BLUE]
    for pairs in (
        [("colour_in", "red"), ("colour_in", "blue")],
        [("colour_in", "red,blue")],
        {"colour_in": ["red", "blue"]},
    ):
        assert Sink.Filter.parse(pairs).colour_in == wanted  # type: ignore[attr-defined]


def test_an_empty_filter_is_every_row():
    assert Sink.Filter.parse({}).conditions() == ()
    assert Sink.Filter().conditions() == ()


def test_a_filter_is_a_struct_for_web_frameworks():
    decoded = msgspec.json.decode(b'{"role": "admin", "created_at_from": "2026-01-01T00:00:00Z"}', type=User.Filter)
    assert decoded.role is UserRole.ADMIN  # type: ignore[attr-defined]
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"rolle": "admin"}', type=User.Filter)
    assert msgspec.json.schema(User.Filter)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"kolour": "red"}, "kolour"),
        ({"colour": "mauve"}, "colour"),
        ({"number": "1.5"}, "number"),
        ({"number": ""}, "number"),
        ({"at_from": "soon"}, "at_from"),
        ([("flag", "true"), ("flag", "true")], "flag"),
        ({"x" * 500: "1"}, "x" * 40),
    ],
)
def test_refusals_name_the_parameter_and_not_the_value(params, field):
    with pytest.raises(Invalid) as caught:
        Sink.Filter.parse(params)
    assert caught.value.field == field
    assert caught.value.remedy
    assert "mauve" not in str(caught.value)
    assert len(str(caught.value)) < 3_000


def test_money_is_written_with_its_asset():
    (condition,) = Sink.Filter.parse({"fee_to": "5 USD"}).conditions()
    out: list = []
    condition.bind(out)
    assert out[0][1] == usd(5)
    for wrong in ("5", "USD", "5USD", "five USD", "1e3 USD", "5 USD ; --", "NaN USD"):
        with pytest.raises(Invalid):
            Sink.Filter.parse({"fee": wrong}).conditions()
