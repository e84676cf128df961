"""Migrations that would block, lose or open something are refused before they run, with the corrected migration."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.schema.support import Database
from tests.schema.test_online import Folder

from tallystick import Entity, Rules
from tallystick.errors import MigrationUnsafe, Unavailable
from tallystick.schema import safety, squawk
from tallystick.schema.migrate import migrate, revision
from tallystick.schema.roles import Roles
from tallystick.schema.upgrade import scripts

WALL = "tenant_id = ANY (ARRAY[current_setting('tally.tenant')::uuid])"
TABLE = f"""
CREATE TABLE "tally"."loan" (tenant_id uuid NOT NULL, id uuid, CONSTRAINT pk_loan PRIMARY KEY (tenant_id, id));
ALTER TABLE tally.loan ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_rw ON tally.loan AS PERMISSIVE FOR ALL TO PUBLIC USING ({WALL}) WITH CHECK ({WALL});
CREATE POLICY tenant_wall ON tally.loan AS RESTRICTIVE FOR ALL TO PUBLIC USING ({WALL}) WITH CHECK ({WALL});
CREATE TRIGGER tally_no_truncate BEFORE TRUNCATE ON tally.loan EXECUTE FUNCTION tally.refuse_truncate();
"""
CLEAN = [
    TABLE,
    TABLE + "CREATE INDEX ix ON tally.loan (tenant_id, id); ALTER TABLE tally.loan ADD CONSTRAINT c CHECK (true);",
    "ALTER TABLE tally.loan ADD COLUMN note text",
    "ALTER TABLE tally.loan ADD COLUMN rank bigint DEFAULT 0 NOT NULL",
    "ALTER TABLE tally.loan ADD CONSTRAINT c CHECK (rank > 0) NOT VALID",
    "COMMIT; CREATE INDEX CONCURRENTLY ix ON tally.loan (tenant_id, rank); BEGIN",
    "COMMIT; ALTER TABLE tally.loan VALIDATE CONSTRAINT c; BEGIN",
    "CREATE TABLE tally_ref.calendar (day date PRIMARY KEY)",
    "CREATE VIEW tally.open WITH (security_invoker = true) AS SELECT 1",
    "CREATE FUNCTION tally.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'SELECT 1'",
    "GRANT SELECT, INSERT (id), UPDATE (note), DELETE ON tally.loan TO tally_app",
    "GRANT USAGE ON SCHEMA tally TO tally_app",
    "ALTER TABLE tally.loan ADD CONSTRAINT f FOREIGN KEY (tenant_id, a) REFERENCES tally.a (tenant_id, id) NOT VALID",
    "ALTER TABLE tally.loan ADD CONSTRAINT f FOREIGN KEY (tenant_id) REFERENCES tally_ref.tenant (id) NOT VALID",
    "-- DROP POLICY; DISABLE ROW LEVEL SECURITY\nSELECT 'GRANT ALL ON tally.loan TO PUBLIC; -- quoted'",
    "DO $$ BEGIN RAISE NOTICE 'UPDATE tally.loan; DELETE FROM tally.loan'; END $$",
]
# rule, statement, what the corrected migration must hold
UNSAFE = [
    ("tenant-column", TABLE.replace("tenant_id uuid NOT NULL", "owner uuid NOT NULL"), "LOAN"),
    ("tenant-key", TABLE.replace("PRIMARY KEY (tenant_id, id)", "PRIMARY KEY (id)"), 'Table("loan"'),
    ("row-level-security", TABLE.replace("ENABLE ROW LEVEL SECURITY, ", ""), "ALTER TABLE tally.loan ENABLE"),
    ("row-level-security", TABLE.replace("AS RESTRICTIVE", "AS SOMETHING"), "policies"),
    ("no-truncate-guard", TABLE.replace("BEFORE TRUNCATE", "BEFORE DELETE"), "refuse_truncate"),
    ("disable-row-level-security", "ALTER TABLE tally.loan DISABLE ROW LEVEL SECURITY", 'Backfill("loan"'),
    ("disable-row-level-security", "ALTER TABLE ONLY tally.loan NO FORCE ROW LEVEL SECURITY", "loan"),
    ("disable-trigger", "ALTER TABLE tally.loan DISABLE TRIGGER ALL", "loan"),
    ("disable-trigger", "ALTER TABLE tally.loan ENABLE TRIGGER tally_touch", "ENABLE ALWAYS"),
    ("bypass", "SET session_replication_role = replica", "ForEachTenant"),
    ("bypass", "SET LOCAL row_security = off", "ForEachTenant"),
    ("policy", "CREATE POLICY all_of_it ON tally.loan USING (true)", "loan"),
    ("policy", f"CREATE POLICY mine ON tally.loan FOR ALL TO tally_app USING ({WALL})", "loan"),
    (
        "foreign-key-pair",
        "ALTER TABLE tally.loan ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES tally.account (id) NOT VALID",
        "FOREIGN KEY (tenant_id, a) REFERENCES tally.account (tenant_id, id)",
    ),
    (
        "cascade",
        "ALTER TABLE tally.loan ADD CONSTRAINT f FOREIGN KEY (tenant_id, a) REFERENCES tally.account "
        "(tenant_id, id) ON DELETE CASCADE NOT VALID",
        "delete explicitly",
    ),
    (
        "cascade",
        "ALTER TABLE tally.loan ADD CONSTRAINT f FOREIGN KEY (tenant_id, a) REFERENCES tally.account "
        "(tenant_id, id) ON DELETE SET NULL (a) NOT VALID",
        "tally.account",
    ),
    (
        "require-concurrent-index-creation",
        'CREATE INDEX "ix_loan" ON "tally"."loan" ("tenant_id", "rank")',
        "AddIndex(\"loan\", Index(\"ix_loan\", ('tenant_id', 'rank')))",
    ),
    (
        "tenant-unique",
        "COMMIT; CREATE UNIQUE INDEX CONCURRENTLY u ON tally.loan (email); BEGIN",
        "('tenant_id', 'email')",
    ),
    ("adding-required-field", "ALTER TABLE tally.loan ADD COLUMN rank bigint NOT NULL", 'AddColumn("loan"'),
    (
        "adding-generated-column",
        "ALTER TABLE tally.loan ADD g text GENERATED ALWAYS AS (a ->> 'b') STORED",
        'Backfill("loan"',
    ),
    ("changing-column-type", "ALTER TABLE tally.loan ALTER COLUMN rank TYPE text", "rank_new = rank"),
    ("adding-not-nullable-field", "ALTER TABLE tally.loan ALTER rank SET NOT NULL", 'RequireValue("loan", "rank")'),
    (
        "constraint-missing-not-valid",
        "ALTER TABLE tally.loan ADD CONSTRAINT c CHECK (rank > 0)",
        'Validate("loan", "c")',
    ),
    ("grant", "GRANT TRUNCATE ON tally.loan TO tally_app", "GRANT SELECT"),
    ("grant", "GRANT ALL ON tally.loan TO tally_app", "GRANT SELECT"),
    ("grant", "GRANT ALL PRIVILEGES ON ALL TABLES IN SCHEMA tally TO tally_app", "GRANT SELECT"),
    ("grant-public", "GRANT SELECT ON tally.loan TO PUBLIC", "GRANT SELECT ON tally.loan"),
    ("grant-membership", "GRANT tally_owner TO tally_app", "member of no role"),
    ("grant-sequence", "GRANT USAGE ON SEQUENCE tally.s TO tally_app", "UUIDv7"),
    ("rows-without-tenant", "UPDATE tally.loan SET rank = 0", 'Backfill("loan"'),
    ("rows-without-tenant", "DELETE FROM ONLY tally.loan", 'Backfill("loan"'),
    ("rows-without-tenant", 'INSERT INTO "tally"."loan" SELECT 1', "ForEachTenant"),
    ("rows-without-tenant", "TRUNCATE TABLE tally.loan", "loan"),
    (
        "search-path",
        "CREATE OR REPLACE FUNCTION tally.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "SET search_path",
    ),
    ("security-invoker", "CREATE VIEW tally.open AS SELECT * FROM tally.loan", "security_invoker = true"),
    ("materialized-view", "CREATE MATERIALIZED VIEW tally.open AS SELECT * FROM tally.loan", "tenant_id"),
    (
        "mixed-transaction",
        "ALTER TABLE tally.loan ADD COLUMN a text; COMMIT; "
        "CREATE INDEX CONCURRENTLY ix ON tally.loan (tenant_id, a); BEGIN",
        "CREATE INDEX CONCURRENTLY",
    ),
]


@pytest.mark.parametrize("sql", CLEAN)
def test_what_is_safe_is_let_through(sql: str) -> None:
    assert safety.judge(f"BEGIN;\n{sql};\nCOMMIT;") == []


@pytest.mark.parametrize(("rule", "sql", "instead"), UNSAFE, ids=[f"{r}-{n}" for n, (r, _, _) in enumerate(UNSAFE)])
def test_what_is_unsafe_comes_with_its_correction(rule: str, sql: str, instead: str) -> None:
    found = safety.judge(f"BEGIN;\n{sql};\nCOMMIT;")
    assert [h.rule for h in found] == [rule]
    assert instead in found[0].instead
    said = found[0].problem + found[0].instead
    named = ("loan", "open", "IN SCHEMA tally", "SECURITY DEFINER", "sequences")
    assert "tally." not in sql or any(name in said for name in named), "the names are the caller's own"


def test_statements_are_told_apart() -> None:
    script = """CREATE FUNCTION f() AS $x$ BEGIN a; b; END $x$; -- a comment; with a semicolon
    INSERT INTO t VALUES ('it''s; quoted', E'\\';'); /* c; */ SELECT "odd;name" ;; SELECT $1, a-b, a/b"""
    assert safety.statements(script) == [
        "CREATE FUNCTION f() AS $x$ BEGIN a; b; END $x$",
        "INSERT INTO t VALUES ('it''s; quoted', E'\\';')",
        'SELECT "odd;name"',
        "SELECT $1, a-b, a/b",
    ]


@pytest.mark.skipif(squawk.binary() is None, reason="squawk-cli is not installed")
async def test_squawk_is_asked_too() -> None:
    drop = "ALTER TABLE tally.loan DROP COLUMN rank"
    rewrite = "ALTER TABLE tally.loan ADD COLUMN u uuid DEFAULT gen_random_uuid()"
    sql = f"BEGIN; {drop}; {rewrite}; COMMIT;"
    assert {h.rule for h in await squawk.judge(sql)} == {"ban-drop-column", "adding-field-with-default"}
    assert await squawk.judge("BEGIN; ALTER TABLE tally.loan ADD COLUMN a text; COMMIT;") == []


@pytest.mark.skipif(squawk.binary() is None, reason="squawk-cli is not installed")
async def test_squawk_silent_is_not_a_clean_bill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squawk, "binary", lambda: "/bin/true")
    with pytest.raises(Unavailable, match="no answer"):
        await squawk.judge("SELECT 1")


async def test_without_squawk_the_report_says_so(bare: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squawk, "binary", lambda: None)
    report = await migrate(bare.admin, roles=bare.roles)
    assert any("squawk is not installed" in note for note in report.notes)


class Owner(Entity):
    """Somebody who has things."""

    name: str


class Thing(Entity):
    """A thing."""

    name: str
    rules = Rules(table="thing")


@pytest.fixture
async def folder(kit: Database, tmp_path: Path) -> Folder:
    await revision(
        kit.admin, "things", branch="app", entities=[Owner, Thing], roles=kit.roles, version_locations=[tmp_path]
    )
    made = Folder(tmp_path, kit)
    await made.up()
    return made


async def test_nothing_runs_when_one_revision_is_unsafe(folder: Folder) -> None:
    folder.add('op.invoke(AddColumn("thing", Column("note", "text", nullable=True)))')
    folder.add('op.execute("CREATE INDEX ix_thing_name ON tally.thing (tenant_id, name)")')
    before = await folder.database.snapshot()
    with pytest.raises(MigrationUnsafe) as refused:
        await folder.up()
    text = str(refused.value)
    assert "app_0003: building ix_thing_name blocks every write to thing" in text
    assert "op.invoke(AddIndex(\"thing\", Index(\"ix_thing_name\", ('tenant_id', 'name'))))" in text
    assert 'accepted = {"require-concurrent-index-creation": "the reason"}' in text
    assert await folder.database.snapshot() == before


async def test_a_reviewer_may_accept_a_rule_with_a_reason(folder: Folder) -> None:
    name = folder.add('op.execute("CREATE INDEX ix_thing_name ON tally.thing (tenant_id, name)")')
    path = folder.path / f"{name}.py"
    text = path.read_text()
    for accepted in ('{"require-concurrent-index-creation": " "}', '{"grant": "no"}'):
        path.write_text(f"{text}\n\naccepted = {accepted}\n")
        with pytest.raises(MigrationUnsafe):
            await folder.up()
    path.write_text(f'{text}\n\naccepted = {{"require-concurrent-index-creation": "the table is empty everywhere"}}\n')
    report = await migrate(folder.database.admin, roles=folder.database.roles, version_locations=[folder.path])
    assert f"{name} breaks require-concurrent-index-creation: the table is empty everywhere" in report.notes


async def test_a_revision_that_needs_rows_says_where_they_belong(folder: Folder) -> None:
    folder.add('op.get_bind().exec_driver_sql("SELECT 1").scalar()')
    with pytest.raises(MigrationUnsafe, match="ForEachTenant"):
        await folder.up()


def test_the_librarys_own_revisions_are_clean() -> None:
    for engine in ("plain", "citus"):
        for script in scripts().walk_revisions():
            assert safety.judge(safety.render(script, Roles("x"), engine)) == [], script.revision
