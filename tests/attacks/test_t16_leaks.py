"""T16: leaky functions, planner statistics, and the index conditions that only leakproof operators may become."""

from __future__ import annotations

import json
import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.attacks.conftest import Ground
from tests.attacks.entities import Holder, Parcel, Stage, holder, parcel
from tests.cells import sealer

from tallystick import asc, at_least, between, desc, key, missing, one_of, prefix, usd
from tallystick.codec import codec_of
from tallystick.conditions import Condition, Query
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.entity import spec_of
from tallystick.query import orders
from tallystick.schema.guard import _check_version
from tallystick.stores.postgres.compile import Compiler

Pair = tuple[TenantInfo, TenantInfo]
ROWS = 3_000
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
async def crowded(ground: Ground) -> TenantInfo:
    """A tenant with enough rows that an index is worth the planner's while, beside another with as many."""
    tenants = await ground.tenants(2)
    for tenant in tenants:
        async with ground.tally.session(tenant, actor="a") as db:
            homes = await db[Holder].add_many([holder(f"{n:04}") for n in range(300)])
            rows = [
                parcel(
                    homes[n % 300],
                    f"label {n:05}",
                    remark=f"remark {n:05}",
                    count=n,
                    is_open=n % 500 == 0,
                    token=UUID(int=n),
                    seen_at=NOON + timedelta(minutes=n),
                    due_on=date(2026, 1, 1) + timedelta(days=n),
                    stage=Stage.HELD if n % 300 == 0 else Stage.OPEN,
                    fee=usd(n),
                    document={"score": n},
                )
                for n in range(ROWS)
            ]
            await db[Parcel].add_many(rows)
            await db[Parcel].update_where(Parcel.count == 7, phone=None)
    async with ground.connected("superuser") as connection:
        await connection.execute("VACUUM ANALYZE tally.parcel, tally.holder")
    return tenants[0]


def find(*where: Condition, order: Any = None, limit: int | None = 20, after: tuple[Any, ...] | None = None) -> Query:
    """A query as a repository makes it."""
    spec = spec_of(Parcel)
    return Query(where=where, order=() if order == () else orders(spec, order), limit=limit, after=after)


# By the kind of the field: equality, a range, and the place of a keyset cursor.
KINDS: dict[str, tuple[Query, str]] = {
    "reference": (find(Parcel.holder == UUID(int=1)), "holder_id ="),
    "text": (find(Parcel.remark == "remark 00007"), "remark ="),
    "text, prefix": (find(prefix(Parcel.remark, "remark 0001"), order=asc(Parcel.remark)), "remark >="),
    "text, unique": (find(Parcel.label == "label 00007"), "label ="),
    "integer": (find(Parcel.count == 7), "count ="),
    "integer, range": (find(between(Parcel.count, 10, 20)), "count >="),
    "boolean": (find(Parcel.is_open == True), "is_open"),  # noqa: E712
    "uuid": (find(Parcel.token == UUID(int=7)), "token ="),
    "moment, range": (find(at_least(Parcel.seen_at, NOON + timedelta(minutes=2_990))), "seen_at >="),
    "date": (find(Parcel.due_on == date(2026, 2, 1)), "due_on ="),
    "date, missing": (find(missing(Parcel.due_on), order=asc(Parcel.due_on)), "due_on IS NULL"),
    "status": (find(Parcel.stage == Stage.HELD, order=desc(Parcel.created_at)), "stage ="),
    "status, several": (
        find(one_of(Parcel.stage, [Stage.HELD, Stage.GONE]), order=desc(Parcel.created_at)),
        "stage =",
    ),
    "money": (find(Parcel.fee == usd(7)), "fee ="),
    "money, range": (find(between(Parcel.fee, usd(7), usd(8))), "fee >="),
    "promoted key": (find(key(Parcel.document, "score") == 7), "document_score ="),
    "blind index": (find(Parcel.national_id == "123-45-6789"), "national_id_bidx ="),
    "id": (find(Parcel.id == UUID(int=7)), "id ="),
    "keyset, one way": (find(order=asc(Parcel.count), after=(2_900, UUID(int=0))), "ROW(count, id) >"),
    "keyset, descending": (find(order=desc(Parcel.count), after=(100, UUID(int=0))), "ROW(count, id) <"),
    "keyset within a status": (
        find(Parcel.stage == Stage.OPEN, order=desc(Parcel.created_at), after=(NOON, UUID(int=0))),
        "ROW(created_at, id) <",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_t16_as_the_application_each_kind_of_condition_is_an_index_condition(
    ground: Ground, crowded: TenantInfo, kind: str
) -> None:
    """Under row-level security a condition reaches an index only when its operator is leakproof."""
    query, wanted = KINDS[kind]
    codec = codec_of(spec_of(Parcel))
    values = codec.bind(query.where, sealer(crowded.id, ground.keys))
    query = Query(where=query.where, values=values, order=query.order, limit=query.limit, after=query.after)
    sql, args = Compiler(codec).select(query, crowded.id)
    async with ground.connected("app") as connection:
        await connection.execute(f"SET tally.tenant = '{crowded.id}'")
        plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON, COSTS OFF) {sql}", *args))[0]["Plan"]
    conditions = list(index_conditions(plan))
    assert conditions, plan
    assert all("tenant_id" in condition for condition in conditions), conditions
    assert any(wanted in condition for condition in conditions), (conditions, plan)


def index_conditions(node: dict[str, Any]) -> list[str]:
    found = [node["Index Cond"]] if "Index Cond" in node else []
    return found + [c for child in node.get("Plans", ()) for c in index_conditions(child)]


async def test_t16_a_function_that_tells_is_not_run_on_rows_behind_the_wall(ground: Ground, pair: Pair) -> None:
    """However cheap it claims to be: the wall's condition comes first for whatever is not leakproof."""
    mine, _ = pair
    for tenant in pair:
        async with ground.tally.session(tenant, actor="a") as db:
            await db[Holder].add(holder("told", name=tenant.slug))
    async with ground.connected("superuser") as root:
        await root.execute("CREATE SCHEMA attic; GRANT USAGE ON SCHEMA attic TO tally_app")
        await root.execute(
            "CREATE FUNCTION attic.tell(tenant uuid) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS "
            "$$ BEGIN RAISE NOTICE 'seen %', tenant; RETURN true; END $$"
        )
        try:
            async with ground.connected("app") as app:
                heard: list[str] = []
                app.add_log_listener(lambda _, message: heard.append(str(message)))
                await app.execute(f"SET tally.tenant = '{mine.id}'")
                await app.fetch("SELECT * FROM tally.holder WHERE attic.tell(tenant_id)")
                await app.fetch("SELECT * FROM tally.holder WHERE attic.tell(tenant_id) AND code = 'told'")
                assert heard
                assert all(str(mine.id) in line for line in heard), heard
        finally:
            await root.execute("DROP SCHEMA attic CASCADE")


async def test_t16_the_application_can_create_nothing_anywhere(ground: Ground) -> None:
    function = "FUNCTION {}x(uuid) RETURNS boolean LANGUAGE sql LEAKPROOF AS 'SELECT true'"
    async with ground.connected("app") as connection:
        schemas = await connection.fetch("SELECT nspname::text AS name FROM pg_namespace")
        able = "SELECT has_schema_privilege($1, 'CREATE')"
        assert not [row["name"] for row in schemas if await connection.fetchval(able, row["name"])]
        assert not await connection.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')")
        assert not await connection.fetchval("SELECT has_database_privilege(current_database(), 'TEMP')")
        extension = await connection.fetchval(
            "SELECT name::text FROM pg_available_extensions WHERE installed_version IS NULL ORDER BY name LIMIT 1"
        )
        for statement in (
            "CREATE TEMP TABLE x (a int)",
            "CREATE TABLE public.x (a int)",
            "CREATE TABLE tally.x (a int)",
            "CREATE SCHEMA x",
            f"CREATE {function.format('public.')}",
            f"CREATE {function.format('tally.')}",
            f"CREATE {function.format('pg_temp.')}",
            "CREATE VIEW tally.x AS SELECT 1",
            "CREATE OPERATOR public.=== (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = uuid_eq)",
            "CREATE POLICY x ON tally.holder USING (true)",
            "ALTER TABLE tally.holder DISABLE ROW LEVEL SECURITY",
            "DROP POLICY tenant_wall ON tally.holder",
            "DO LANGUAGE plpgsql $$ BEGIN EXECUTE 'SET ROLE tally_owner'; END $$",
            "SET ROLE tally_owner",
            "SET SESSION AUTHORIZATION tally_owner",
            "ALTER ROLE tally_app BYPASSRLS",
            "SELECT lo_import('/etc/passwd')",
            "COPY tally.holder TO PROGRAM 'cat'",
            "COPY tally.holder TO '/tmp/x'",
            "SELECT pg_read_file('postgresql.conf')",
            "ALTER SYSTEM SET row_security = off",
            f'CREATE EXTENSION "{extension}"',
        ):
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError)):
                await connection.execute(statement)


async def test_t16_row_security_off_is_an_error_and_no_way_out(ground: Ground, pair: Pair) -> None:
    async with ground.connected("app") as connection:
        await connection.execute(f"SET tally.tenant = '{pair[0].id}'; SET row_security = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM tally.holder")


async def test_t16_statistics_show_no_values(ground: Ground, crowded: TenantInfo) -> None:
    async with ground.connected("app") as connection:
        await connection.execute(f"SET tally.tenant = '{crowded.id}'")
        assert await connection.fetchval("SELECT count(*) FROM pg_stats WHERE schemaname = 'tally'") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT starelid FROM pg_statistic")
        # The estimated number of rows of all tenants together can be seen; that is accepted.
        assert await connection.fetchval("SELECT reltuples FROM pg_class WHERE oid = 'tally.parcel'::regclass") > 0


async def test_t16_the_operators_that_the_wall_stands_on_are_leakproof(ground: Ground) -> None:
    """Should a release of PostgreSQL change its mind, this says so before a query crawls."""
    async with ground.connected("app") as connection:
        rows = await connection.fetch(
            "SELECT o.oprleft::regtype::text AS kind, o.oprname::text AS name, p.proleakproof AS safe "
            "FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode "
            "WHERE o.oprleft = o.oprright AND o.oprname IN ('=', '<', '>', '>=', '<=') "
            "AND o.oprleft::regtype::text IN ('uuid', 'bigint', 'text', 'timestamp with time zone', 'date', "
            "'boolean', 'bytea', 'numeric', 'jsonb')"
        )
    safe = {(row["kind"], row["name"]): row["safe"] for row in rows}
    for kind in ("uuid", "bigint", "text", "timestamp with time zone", "date", "boolean", "bytea"):
        assert safe[kind, "="]
        assert safe[kind, "<"]
        assert safe[kind, ">="]
    assert not safe["jsonb", "="]


@pytest.mark.parametrize(
    ("version", "warned"),
    [(150017, True), (150018, False), (160013, True), (170009, True), (180003, True), (180004, False), (190000, False)],
)
def test_t16_a_minor_release_with_known_holes_is_warned_of(
    caplog: pytest.LogCaptureFixture, version: int, warned: bool
) -> None:
    with caplog.at_level(logging.WARNING, logger="tallystick.schema"):
        _check_version(version)
    assert bool(caplog.records) is warned


async def test_t17_no_sequence_tells_how_much_others_do(ground: Ground, pair: Pair) -> None:
    """Ids are made by the client; a counter of all tenants would show each how busy the others are."""
    async with ground.connected("app") as connection:
        rows = await connection.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class c WHERE "
            "CASE WHEN relkind = 'S' THEN has_sequence_privilege(c.oid, 'USAGE, SELECT, UPDATE') END"
        )
    assert rows == []
    async with ground.tally.session(pair[0], actor="a") as db:
        one, two = await db[Holder].add(holder("1")), await db[Holder].add(holder("2"))
    assert one.id.version == two.id.version == 7
    # What a version 7 id does tell is when it was made, to the millisecond; this is written in the documentation.
    assert one.id.int >> 80 <= two.id.int >> 80


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan", "auto"])
async def test_t18_a_cached_plan_asks_for_the_tenant_again(ground: Ground, pair: Pair, mode: str) -> None:
    for tenant in pair:
        async with ground.tally.session(tenant, actor="a") as db:
            await db[Holder].add(holder("mine", name=tenant.slug))
    async with ground.connected("app") as connection:
        await connection.execute(f"SET plan_cache_mode = {mode}")
        statement = await connection.prepare("SELECT tenant_id FROM tally.holder")
        for turn in range(12):
            tenant = pair[turn % 2]
            await connection.execute(f"SET tally.tenant = '{tenant.id}'")
            assert [row["tenant_id"] for row in await statement.fetch()] == [tenant.id]
            async with connection.transaction():
                await connection.execute(f"SET LOCAL tally.tenant = '{pair[1 - turn % 2].id}'")
                assert [row["tenant_id"] for row in await statement.fetch()] == [pair[1 - turn % 2].id]
        await connection.execute("RESET ALL")
        with pytest.raises((asyncpg.UndefinedObjectError, asyncpg.InvalidTextRepresentationError)):
            await statement.fetch()


async def test_t18_the_librarys_own_prepared_statements_alternate_between_tenants(ground: Ground, pair: Pair) -> None:
    async with ground.opened(pool_max=1, verify=True) as tally:
        ids = {}
        for tenant in pair:
            async with tally.session(tenant, actor="a") as db:
                ids[tenant.id] = (await db[Holder].add(holder("mine"))).id
        for turn in range(20):
            tenant = pair[turn % 2]
            async with tally.session(tenant, actor="a") as db:
                assert [h.id for h in await db[Holder].find()] == [ids[tenant.id]]
                assert await db[Holder].get_or_none(ids[pair[1 - turn % 2].id]) is None
                assert await db[Holder].get_or_none(uuid4()) is None
