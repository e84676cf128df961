"""The SQL of a table, on one PostgreSQL and on Citus: text, in the order that both accept."""

from __future__ import annotations

import re
from enum import StrEnum

import pytest

from tallystick import Check, Entity, Index, Money, Ref, Rules, Transitions, append_only
from tallystick.entity import spec_of
from tallystick.errors import Unsupported
from tallystick.schema import ddl, safety
from tallystick.schema.model import Column, Grant, Policy, Table, Trigger, model_of
from tallystick.schema.roles import Roles
from tallystick.schema.upgrade import scripts

ROLES = Roles("acme")
WALL = "(tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid]))"


class Light(StrEnum):
    RED = "red"
    GREEN = "green"


class Street(Entity):
    """A street, its name and the people's quotes: 'Broad'."""

    name: str


class Lamp(Entity):
    """A lamp in a street."""

    street: Ref[Street]
    light: Light = Light.RED
    fee: Money

    rules = Rules(
        Index("light", query="lamps that are 'red'"),
        Check("fee", "fee > 0"),
        Transitions("light", {Light.RED: [Light.GREEN], Light.GREEN: []}, initial=[Light.RED]),
    )


class Reading(Entity):
    """A reading, written once."""

    value: int

    rules = Rules(append_only())


def sql(*entities: type[Entity], engine: ddl.Engine = "plain") -> list[str]:
    return ddl.create([model_of(spec_of(e)) for e in entities], ROLES, engine)


def where(statements: list[str], pattern: str) -> list[int]:
    found = [i for i, s in enumerate(statements) if re.search(pattern, s)]
    assert found, pattern
    return found


@pytest.mark.parametrize("engine", ["plain", "citus"])
def test_the_order_suits_both_engines(engine: ddl.Engine) -> None:
    statements = sql(Lamp, Street, engine=engine)
    tables = where(statements, "^CREATE TABLE")
    keys = where(statements, "FOREIGN KEY")
    walls = where(statements, "ENABLE ROW LEVEL SECURITY")
    policies = where(statements, "^CREATE POLICY")
    triggers = where(statements, "^CREATE TRIGGER")
    assert max(tables) < min(keys)
    assert max(keys) < min(walls)
    for table in ("lamp", "street"):
        mine = [i for i, s in enumerate(statements) if f'"tally"."{table}"' in s]
        assert [i for i in mine if i in walls] < [i for i in mine if i in policies] < [i for i in mine if i in triggers]
    if engine == "citus":
        distributed = where(
            statements, r"SELECT create_distributed_table\('\"tally\"\.\"(lamp|street)\"', 'tenant_id'\)"
        )
        assert max(tables) < min(distributed)
        assert max(distributed) < min(keys)
        assert not any("FORCE" in s for s in statements), "a forced table loses rows when its shards move"
    else:
        assert not any("create_distributed_table" in s for s in statements)
        assert sum("ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY" in s for s in statements) == 2
    assert not any("REFERENCES" in statements[i] for i in tables), "never inline: Citus refuses it"


def test_reference_tables_are_copied_to_every_node() -> None:
    shared = Table("holiday", (Column("day", "date"),), primary_key=("day",), schema="tally_ref")
    assert ddl.create([shared], ROLES, "citus")[1] == 'SELECT create_reference_table(\'"tally_ref"."holiday"\')'
    assert ddl.create([shared], ROLES, "plain") == [
        'CREATE TABLE "tally_ref"."holiday" (\n  "day" date NOT NULL,\n  CONSTRAINT "pk_holiday" PRIMARY KEY ("day")\n)'
    ]


def test_the_kit_on_citus() -> None:
    (kit,) = (s for s in scripts().walk_revisions() if s.revision == "kit_0001")
    statements = safety.statements(safety.render(kit, ROLES, "citus"))
    for name in ("tenant", "asset", "schema_entity", "backfill"):
        assert f'SELECT create_reference_table(\'"tally_ref"."{name}"\')' in statements
    assert "SELECT create_distributed_table('\"tally\".\"usage\"', 'tenant_id')" in statements
    assert not any("FORCE ROW" in s for s in statements)
    assert sum("SET LOCAL tally.tenant = %L" in s for s in statements) == 1, "what Citus forwards to its workers"


def test_both_walls_bind_everybody() -> None:
    policies = [s for s in sql(Street) if s.startswith("CREATE POLICY")]
    both = f"FOR ALL TO PUBLIC USING {WALL} WITH CHECK {WALL}"
    assert policies == [
        f'CREATE POLICY "tenant_rw" ON "tally"."street" AS PERMISSIVE {both}',
        f'CREATE POLICY "tenant_wall" ON "tally"."street" AS RESTRICTIVE {both}',
    ]


def test_the_application_is_granted_columns_and_never_more() -> None:
    grants = [s for s in sql(Lamp) if s.startswith("GRANT")]
    assert grants == [
        'GRANT SELECT ON TABLE "tally"."lamp" TO "acme_app"',
        'GRANT INSERT ("tenant_id", "id", "street_id", "light", "fee", "asset") ON TABLE "tally"."lamp" TO "acme_app"',
        'GRANT UPDATE ("street_id", "light", "fee", "asset") ON TABLE "tally"."lamp" TO "acme_app"',
        'GRANT DELETE ON TABLE "tally"."lamp" TO "acme_app"',
    ]
    assert [s.split()[1] for s in sql(Reading) if s.startswith("GRANT")] == ["SELECT", "INSERT"]


def test_guards_fire_always() -> None:
    for entity in (Lamp, Street, Reading):
        statements = sql(entity)
        made = [m[1] for s in statements if (m := re.match(r'CREATE TRIGGER "(\w+)"', s))]
        always = [m[1] for s in statements if (m := re.search(r'ENABLE ALWAYS TRIGGER "(\w+)"', s))]
        assert made == always
        assert "tally_no_truncate" in made
        assert ("tally_append_only" in made) == (entity is Reading)
        assert ("tally_touch" in made) == (entity is not Reading)


def test_a_good_step_calls_no_function() -> None:
    (start,) = [s for s in sql(Lamp) if "tally_start_light" in s and s.startswith("CREATE")]
    (step,) = [s for s in sql(Lamp) if "tally_step_light" in s and s.startswith("CREATE")]
    assert "BEFORE INSERT" in start
    assert "WHEN (NOT (NEW.\"light\" = ANY (ARRAY['red'])))" in start
    assert "BEFORE UPDATE" in step
    assert 'WHEN (OLD."light" IS DISTINCT FROM NEW."light" AND (' in step
    assert "IS NOT TRUE" in step, "a null state must not slip through a NOT"
    assert step.endswith("EXECUTE FUNCTION tally.refuse_transition('lamp', 'light')")


def test_texts_are_quoted() -> None:
    statements = sql(Street, Lamp)
    assert (
        "COMMENT ON TABLE \"tally\".\"street\" IS 'A street, its name and the people''s quotes: ''Broad''.'"
        in statements
    )
    assert any("IS 'lamps that are ''red'''" in s for s in statements)


def test_dropping_takes_keys_first_and_nothing_with_it() -> None:
    statements = ddl.drop([model_of(spec_of(Lamp)), model_of(spec_of(Street))])
    assert statements == [
        'ALTER TABLE "tally"."lamp" DROP CONSTRAINT "fk_lamp_street"',
        'DROP TABLE "tally"."street"',
        'DROP TABLE "tally"."lamp"',
    ]


def test_roles_are_named_by_their_part() -> None:
    table = Table(
        "x",
        (Column("id", "uuid"),),
        primary_key=("id",),
        policies=(Policy("p", "true", roles=("seal",)),),
        grants=(Grant("audit", "SELECT"), Grant("reporting", "SELECT", ("id",))),
        triggers=(Trigger("t", "AFTER INSERT", "f()", each="STATEMENT"),),
    )
    text = ddl.script(ddl.protect(table, ROLES))
    assert 'TO "acme_seal" USING (true)' in text
    assert 'GRANT SELECT ON TABLE "tally"."x" TO "acme_audit"' in text
    assert 'GRANT SELECT ("id") ON TABLE "tally"."x" TO "reporting"' in text


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(Unsupported, match="plain, citus"):
        ddl.checked_engine("oracle")
