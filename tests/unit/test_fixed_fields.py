"""Fields that are given once, fields that only the database writes, amounts of the ledger."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

import pytest

from tallystick import (
    Entity,
    Foreign,
    Guard,
    Invalid,
    LedgerAmount,
    Maintained,
    Money,
    Once,
    OwnAsset,
    Ref,
    Rules,
    Unique,
    kept,
)
from tallystick.codec import codec_of
from tallystick.entity import spec_of
from tallystick.errors import Declaration
from tallystick.money import LEDGER_MAX, NOTHING
from tallystick.schema import ddl
from tallystick.schema.model import model_of
from tallystick.schema.roles import Roles


class Till(Entity):
    """A till."""

    asset: Annotated[str, Once()]
    note: str = ""
    amount: LedgerAmount = 0
    total: Annotated[LedgerAmount, Maintained()] = 0
    state: Annotated[str, Maintained()] = "it's new"
    open: Annotated[bool, Maintained()] = False
    seen: Annotated[int | None, Maintained()] = None
    fee: Annotated[Money, OwnAsset(), Once()]

    rules = Rules(Unique("id", "asset"), kept(), fillfactor=70)


class Visit(Entity):
    """A visit to a till."""

    till: Ref[Till]
    asset: str

    rules = Rules(
        Foreign("till", "asset", to=Till, of=("id", "asset")),
        Guard("tally_seen", "AFTER INSERT", "tally.seen('visit')", each="STATEMENT", referencing="NEW TABLE AS fresh"),
    )


def till(**given: object) -> Till:
    return Till(**({"asset": "USD", "fee": Money(1, "USD")} | given))  # type: ignore[arg-type]


def test_the_columns_of_a_maintained_field_have_their_default_and_no_grant():
    spec, model = spec_of(Till), model_of(spec_of(Till))
    defaults = {c.name: c.default for c in spec.columns}
    assert [defaults[n] for n in ("total", "state", "open", "seen")] == ["0", "'it''s new'", "false", None]
    assert spec.column("total").sql == "numeric(38,0)"
    granted = {g.privilege: g.columns for g in model.grants}
    assert granted["INSERT"] == ("tenant_id", "id", "asset", "note", "amount", "fee", "fee_asset")
    assert granted["UPDATE"] == ("note", "amount")
    assert "DELETE" not in granted


def test_triggers_hold_what_no_grant_can():
    triggers = {t.name: t for t in model_of(spec_of(Till)).triggers}
    assert triggers["tally_kept"].fires == "BEFORE DELETE"
    assert triggers["tally_maintained"].when is not None
    assert 'OLD."total" IS DISTINCT FROM NEW."total"' in triggers["tally_maintained"].when
    assert 'NEW."seen" IS DISTINCT FROM NULL' in (triggers["tally_maintained_start"].when or "")
    assert triggers["tally_touch"].when == "pg_trigger_depth() = 0"
    assert {t.name: t for t in model_of(spec_of(Visit)).triggers}["tally_touch"].when is None


def test_a_wider_key_replaces_the_plain_one():
    keys = {f.name: f for f in spec_of(Visit).foreign_keys}
    assert set(keys) == {"fk_visit_tenant", "fk_visit_till_asset"}
    assert keys["fk_visit_till_asset"].columns == ("tenant_id", "till_id", "asset")
    assert keys["fk_visit_till_asset"].target_columns == ("tenant_id", "id", "asset")


def test_storage_and_transition_tables_are_written():
    sql = ddl.create([model_of(spec_of(Till)), model_of(spec_of(Visit))], Roles())
    assert any(s.endswith("WITH (fillfactor = 70)") for s in sql)
    assert any(
        'AFTER INSERT ON "tally"."visit" REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE' in s for s in sql
    )
    table = model_of(spec_of(Till))
    assert ddl.set_fillfactor(table, 80).endswith("SET (fillfactor = 80)")
    assert ddl.set_fillfactor(table, None).endswith("RESET (fillfactor)")


@pytest.mark.parametrize("amount", [0, 1, LEDGER_MAX, -LEDGER_MAX])
def test_amounts_of_the_ledger_are_exact(amount: int):
    values = codec_of(spec_of(Till)).encode(till(amount=amount), uuid4(), None)
    assert int(values[4]) == amount


@pytest.mark.parametrize("amount", [LEDGER_MAX + 1, -LEDGER_MAX - 1, True, 1.0, "1", None])
def test_other_amounts_are_refused(amount: object):
    with pytest.raises(Invalid):
        codec_of(spec_of(Till)).encode(till(amount=amount), uuid4(), None)


@pytest.mark.parametrize("given", [{"total": 1}, {"state": "old"}, {"open": True}, {"seen": 0}])
def test_a_maintained_field_is_not_given(given: dict[str, object]):
    with pytest.raises(Invalid, match="kept by the database"):
        codec_of(spec_of(Till)).encode(till(**given), uuid4(), None)


@pytest.mark.parametrize("name", ["total", "asset", "fee", "seen"])
def test_a_fixed_field_is_not_set(name: str):
    with pytest.raises(Invalid, match="cannot be set"):
        codec_of(spec_of(Till)).settable(name)
    assert codec_of(spec_of(Till)).settable("note").name == "note"


def test_what_cannot_be_fixed_is_refused_where_it_is_declared():
    class NoDefault(Entity):
        total: Annotated[int, Maintained()]

    class NobodySaysWhich(Entity):
        fee: Annotated[Money, Maintained()] = NOTHING

    class SomeOtherDefault(Entity):
        price: Money
        fee: Annotated[Money, Maintained()] = Money(0, "USD")

    class Reference(Entity):
        till: Annotated[Ref[Till] | None, Maintained()] = None

    for entity in (NoDefault, NobodySaysWhich, SomeOtherDefault, Reference):
        with pytest.raises(Declaration):
            spec_of(entity)


class Tab(Entity):
    """A tab."""

    limit_to: Annotated[Money, Once()]
    spent: Annotated[Money, Maintained()] = NOTHING


def test_maintained_money_takes_the_asset_of_what_is_given():
    spec = spec_of(Tab)
    assert (spec.column("asset").insertable, spec.column("asset").updatable) == (True, False)
    assert (spec.column("spent").insertable, spec.column("spent").default) == (False, "0")
    codec, tenant = codec_of(spec), uuid4()
    tab = Tab(limit_to=Money(500, "KES"))
    params = codec.encode(tab, tenant, None)
    assert params[2:] == [500, "KES"]
    assert codec.stamped(tab, tenant, (1, None, None, None, None), params).spent == Money(0, "KES")
    with pytest.raises(Invalid, match="kept by the database"):
        codec.encode(Tab(limit_to=Money(500, "KES"), spent=Money(0, "KES")), tenant, None)
