"""The ledger on Citus, as SQL: what its workers can run, nothing that it refuses or that leaves the tenant."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from tallystick.domains.catalog import entities_of
from tallystick.domains.ledger import export, reports
from tallystick.domains.ledger.posting import insert_sql
from tallystick.entity import spec_of
from tallystick.schema import ddl
from tallystick.schema.model import model_of
from tallystick.schema.roles import Roles

PLACE = "tallystick.schema.migrations.versions.ledger"
FIRST, SECOND = import_module(f"{PLACE}.ledger_0001"), import_module(f"{PLACE}.ledger_0002")
TABLES = [model_of(spec_of(e)) for e in entities_of(["ledger"])]
FUNCTIONS = {"period": FIRST.PERIOD_GUARD, "apply": SECOND.APPLY}
READS = {
    "balances": reports.BALANCES_NOW,
    "balance": reports.BALANCE_NOW,
    "balances then": reports.BALANCES_THEN,
    "balance then": reports.BALANCE_THEN,
    "statement": reports.statement_sql(after=False),
    "statement on": reports.statement_sql(after=True),
    "entries": export._ENTRIES,
}


def test_the_tables_are_distributed_before_their_keys_and_the_owner_is_not_forced():
    statements = ddl.create(TABLES, Roles("acme"), "citus")
    spread = [i for i, s in enumerate(statements) if "create_distributed_table" in s]
    keys = [i for i, s in enumerate(statements) if "FOREIGN KEY" in s]
    triggers = [i for i, s in enumerate(statements) if s.startswith("CREATE TRIGGER")]
    assert len(spread) == len(TABLES)
    assert max(spread) < min(keys) < max(keys) < min(triggers)
    assert not any("FORCE ROW" in s for s in statements)


def test_every_key_leads_with_the_tenant():
    for table in TABLES:
        assert table.primary_key == ("tenant_id", "id")
        assert all(i.columns[0] == "tenant_id" for i in table.indexes)
        for key in table.foreign_keys:
            assert key.columns[0] == "tenant_id"
            assert key.schema == "tally_ref" or key.target_columns[0] == "tenant_id"


def test_triggers_are_told_the_logical_table():
    for table in TABLES:
        for trigger in table.triggers:
            if "ledger_" in trigger.calls or "refuse_change" in trigger.calls:
                assert f"('{table.name}')" in trigger.calls
    assert "TG_TABLE_NAME" not in "".join(FUNCTIONS.values())


@pytest.mark.parametrize("journals", [1, 3])
@pytest.mark.parametrize("transfers", [1, 7])
def test_a_posting_is_one_statement_of_values(journals: int, transfers: int):
    sql = insert_sql(journals, transfers)
    assert not re.search(r"unnest|\bselect\b|uuid\(\)|random|;", sql, re.IGNORECASE)
    assert sql.count("INSERT INTO") == 2
    places = [int(n) for n in re.findall(r"\$(\d+)", sql)]
    assert places == list(range(1, len(places) + 1))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_trigger_names_the_rows_own_tenant_in_every_statement(name: str):
    body = re.sub(r"--.*", "", FUNCTIONS[name])
    assert "SECURITY DEFINER SET search_path = pg_catalog, pg_temp" in body
    statements = [s for s in body.split(";") if re.search(r"(FROM|UPDATE|JOIN|INTO)\s+tally\.\w+ ", s)]
    assert statements
    for statement in statements:
        tables = re.findall(r"(?:FROM|UPDATE|JOIN)\s+tally\.\w+ (\w+)", statement)
        for alias in tables:
            assert re.search(rf"\b{alias}\.tenant_id = me\b", statement), statement
        # A transition table lives in the executor of one node: no distributed statement can read it.
        outer = re.split(r"FOR (?:one|held) IN", statement)[-1]
        assert not (re.search(r"FROM tally\.", outer) and "fresh" in outer.partition("LOOP")[0]), statement


@pytest.mark.parametrize("name", READS)
def test_a_read_is_routed_by_its_tenant(name: str):
    sql = READS[name]
    aliases = re.findall(r"(?:FROM|JOIN) tally\.\w+ (\w+)", sql)
    assert aliases
    for alias in set(aliases) - {"WHERE"}:
        assert re.search(rf"\b{alias}\.tenant_id = (\$1|\w\.tenant_id)", sql), alias
    assert "tally.account_stripe" not in sql or "account_stripe WHERE tenant_id = $1" in sql


def test_the_trigger_locks_in_the_order_of_ids():
    assert "GROUP BY x.account ORDER BY x.account" in SECOND.APPLY
    assert "touched <> 1" in SECOND.APPLY
