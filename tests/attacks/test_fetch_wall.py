"""T6 again: ``db.fetch`` puts the tenant's predicate on every tenant table of a statement, or refuses it.

Row-level security would hold them all as well. Here it is looked past, so that the second wall is tested by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy import column, exists, func, literal_column, select, table, text, true
from sqlalchemy.sql.elements import quoted_name
from tests.attacks.conftest import Ground
from tests.attacks.entities import Holder, Parcel, Trail, holder, parcel

from tallystick.domains.identity.tenants import TenantInfo
from tallystick.errors import Invalid, Unsupported
from tallystick.settings import connect_args
from tallystick.stores.postgres.statements import compile_statement

Pair = tuple[TenantInfo, TenantInfo]
H, P, T = Holder.table, Parcel.table, Trail.table
A = P.alias("a")
BY_HOLDER = select(P.c.holder_id, func.count().label("n")).group_by(P.c.holder_id)
SAME = P.c.holder_id == H.c.id

# Each names rows by the tenant they belong to, in a column "who".
WALLED: dict[str, Any] = {
    "plain": select(H.c.tenant_id.label("who")),
    "alias": select(A.c.tenant_id.label("who")),
    "alias of an alias": select(A.alias("b").c.tenant_id.label("who")),
    "join": select(P.c.tenant_id.label("who")).join(H, SAME),
    "cross join": select(P.c.tenant_id.label("who"), H.c.id),
    "self join": select(A.c.tenant_id.label("who")).select_from(P.join(A, P.c.label == A.c.label)),
    "join on nothing": select(A.c.tenant_id.label("who")).select_from(P.join(A, true())),
    "left join": select(func.coalesce(P.c.tenant_id, H.c.tenant_id).label("who")).select_from(H.outerjoin(P, true())),
    "left join of a join": select(func.coalesce(T.c.tenant_id, H.c.tenant_id).label("who")).select_from(
        H.outerjoin(P.join(T, true()), true())
    ),
    "left join of a left join": select(func.coalesce(T.c.tenant_id, H.c.tenant_id).label("who")).select_from(
        H.outerjoin(P.outerjoin(T, true()), true())
    ),
    "join of a join": select(T.c.tenant_id.label("who")).select_from(H.join(P.join(T, true()), true())),
    "subquery": select(select(P.c.tenant_id.label("who")).subquery().c.who),
    "subquery of the whole table": select(P.select().subquery().c.tenant_id.label("who")),
    "cte": select(select(P.c.tenant_id.label("who")).cte("x").c.who),
    "cte added": select(H.c.tenant_id.label("who")).add_cte(select(P.c.id).cte("y")),
    "union": sa.union_all(select(P.c.tenant_id.label("who")), select(H.c.tenant_id)),
    "union of unions": sa.union_all(
        sa.union_all(select(P.c.tenant_id.label("who")), select(H.c.tenant_id)), select(T.c.tenant_id)
    ),
    "except": sa.except_all(select(P.c.tenant_id.label("who")), select(T.c.tenant_id).where(T.c.text == "no")),
    "union in from": select(sa.union_all(select(P.c.tenant_id.label("who")), select(H.c.tenant_id)).subquery().c.who),
    "scalar subquery": select(select(P.c.tenant_id).order_by(P.c.tenant_id).limit(1).scalar_subquery().label("who")),
    "correlated": select(H.c.tenant_id.label("who")).where(
        select(func.count()).select_from(P).where(SAME).scalar_subquery() == 1
    ),
    "exists": select(H.c.tenant_id.label("who")).where(exists().where(SAME)),
    "lateral": select(select(P.c.tenant_id.label("who")).where(SAME).lateral("l").c.who)
    .select_from(H)
    .join(select(P.c.tenant_id.label("who")).where(SAME).lateral("m"), true()),
    "table sample": select(sa.tablesample(P, func.bernoulli(100)).c.tenant_id.label("who")),
    "window": select(P.c.tenant_id.label("who"), func.rank().over(order_by=P.c.fee)),
    "aggregate": select(func.array_agg(P.c.tenant_id)[1].label("who")),
    "distinct": select(P.c.tenant_id.label("who")).distinct(),
    "for update": select(H.c.tenant_id.label("who")).with_for_update(),
    "or": select(P.c.tenant_id.label("who")).where(sa.or_(P.c.label == "x", true())),
    "bound operator": select(P.c.tenant_id.label("who")).where(P.c.label.op("^@")("")),
    "table of another's making": select(
        sa.Table("parcel", sa.MetaData(), sa.Column("tenant_id", sa.Uuid), schema="tally").c.tenant_id.label("who")
    ),
    "light table": select(table("parcel", column("tenant_id", sa.Uuid), schema="tally").c.tenant_id.label("who")),
    "two predicates of one's own": select(P.c.tenant_id.label("who")).where(P.c.tenant_id != UUID(int=0)),
}
RECURSIVE = select(P.c.tenant_id.label("who"), P.c.id).cte("r", recursive=True)
WALLED["recursive"] = select(
    RECURSIVE.union_all(select(P.c.tenant_id, P.c.id).where(P.c.previous_id == RECURSIVE.c.id)).c.who
)


@pytest.fixture
async def filled(ground: Ground, pair: Pair) -> Pair:
    for tenant in pair:
        async with ground.tally.session(tenant, actor="a") as db:
            row = await db[Parcel].add(parcel(await db[Holder].add(holder("one")), "one"))
            await db[Trail].add(Trail(parcel=row.ref, text="one"))
    return pair


@pytest.mark.parametrize("how", WALLED)
async def test_the_predicate_alone_keeps_a_statement_inside(ground: Ground, filled: Pair, how: str) -> None:
    """Run past every policy, as the superuser: each statement still sees its tenant and nothing else."""
    sql, values = compile_statement(WALLED[how], filled[0].id)
    connection = await asyncpg.connect(**connect_args(ground.superuser_url()))
    try:
        rows = await connection.fetch(sql, *values)
    finally:
        await connection.close()
    assert {row["who"] for row in rows} == {filled[0].id}


@pytest.mark.parametrize("how", WALLED)
async def test_the_same_statement_through_a_session_answers_the_same(ground: Ground, filled: Pair, how: str) -> None:
    for tenant in filled:
        async with ground.tally.session(tenant, actor="a") as db:
            rows = await db.fetch(WALLED[how], into=dict)
            assert {row["who"] for row in rows} == {tenant.id}


async def test_an_outer_join_keeps_its_rows(ground: Ground, filled: Pair) -> None:
    """The predicate must not turn it into an inner one."""
    async with ground.tally.session(filled[0], actor="a") as db:
        await db[Holder].add(holder("without"))
        statement = select(H.c.code, P.c.label).select_from(H.outerjoin(P.outerjoin(T, T.c.text == "no"), SAME))
        rows = await db.fetch(statement, into=dict)
        assert sorted((row["code"], row["label"]) for row in rows) == [("one", "one"), ("without", None)]


REFUSED: dict[str, Callable[[], Any]] = {
    "text": lambda: text("SELECT * FROM tally.holder"),
    "text as columns": lambda: text("SELECT 1 AS x").columns(column("x")),
    "text in where": lambda: select(P.c.id).where(text("true OR true")),
    "text as a table": lambda: select(text("*")).select_from(text("tally.holder")),
    "text in order": lambda: select(P.c.id).order_by(text("1")),
    "literal column": lambda: select(literal_column("(SELECT code FROM tally.holder)")),
    "literal name": lambda: select(column("(SELECT 1)", is_literal=True)),
    "prefix": lambda: select(P.c.id).prefix_with("(SELECT 1),"),
    "suffix": lambda: select(P.c.id).suffix_with("UNION SELECT id FROM tally.holder"),
    "hint": lambda: select(P.c.id).with_statement_hint("UNION SELECT id FROM tally.holder"),
    "table hint": lambda: select(P.c.id).with_hint(P, "x"),
    "cte prefix": lambda: select(select(P.c.id).cte("x").prefix_with("y").c.id),
    "operator": lambda: select(P.c.id).where(P.c.label.op("= '' OR true) OR (''=")("x")),
    "comment as an operator": lambda: select(P.c.id).where(P.c.label.op("--")("x")),
    "bool operator": lambda: select(P.c.id).where(P.c.label.bool_op("/*")("x")),
    "extract": lambda: select(sa.extract("year FROM now()), (1", P.c.created_at)),
    "unquoted name": lambda: select(P.c.id.label(quoted_name('x", (SELECT 1) AS "y', False))),
    "unquoted column": lambda: select(column(quoted_name("(SELECT 1)", False))),
    "unquoted table": lambda: select(table(quoted_name("tally.parcel", False), column("id"))),
    "table without a schema": lambda: select(table("parcel", column("id"))),
    "Table without a schema": lambda: select(sa.Table("parcel", sa.MetaData(), sa.Column("id", sa.Uuid))),
    "table without its tenant": lambda: select(table("parcel", column("id"), schema="tally")),
    "full join": lambda: select(P.c.id).select_from(P.join(H, SAME, full=True)),
    "insert": lambda: sa.insert(H).values(code="x"),
    "update": lambda: sa.update(H).values(code="x"),
    "delete": lambda: sa.delete(H),
    "delete in a cte": lambda: select(sa.delete(H).returning(H.c.id).cte("d").c.id),
    "insert in a cte": lambda: select(sa.insert(H).values(code="x").returning(H.c.id).cte("i").c.id),
    "update in an added cte": lambda: select(H.c.id).add_cte(sa.update(H).values(code="x").cte("u")),
    "set_config": lambda: select(func.set_config("tally.tenant", "x", False)),
    "set_config in capitals": lambda: select(func.SET_CONFIG("tally.tenant", "x", False)),
    "set_config by schema": lambda: select(func.pg_catalog.set_config("tally.tenant", "x", True)),
    "set_config as a table": lambda: select(func.set_config("tally.tenant", "x", True).table_valued("v").c.v),
    "text run by a function": lambda: select(func.query_to_xml("SELECT 1", True, True, "")),
    "a table by a function": lambda: select(func.table_to_xml("tally.holder", True, True, "")),
    "our own function": lambda: select(func.tally_ref.tenant_list()),
    "our own function by path": lambda: select(func.consume("users", "2026-01-01", 1, 1)),
    "the reserved bind": lambda: select(P.c.id).where(P.c.tenant_id == sa.bindparam("tally_tenant", UUID(int=1))),
    "string": lambda: "SELECT 1",
    "nothing": lambda: None,
}


@pytest.mark.parametrize("how", REFUSED)
async def test_what_cannot_be_walled_for_certain_is_refused(ground: Ground, filled: Pair, how: str) -> None:
    async with ground.tally.session(filled[0], actor="a") as db:
        with pytest.raises(Unsupported) as caught:
            await db.fetch(REFUSED[how](), into=dict)
        assert caught.value.remedy
        assert await db[Holder].count() == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: select(P.c.id).order_by("id; DROP TABLE x"),
        lambda: select(P.c.id).group_by("(SELECT 1)"),
        lambda: select(sa.cast(P.c.label, sa.types.UserDefinedType())),
        lambda: select(P.c.id).where(P.c.label == sa.bindparam("not given")),
    ],
    ids=range(4),
)
async def test_what_cannot_be_compiled_is_a_typed_error(ground: Ground, filled: Pair, make: Callable[[], Any]) -> None:
    async with ground.tally.session(filled[0], actor="a") as db:
        with pytest.raises(Invalid) as caught:
            await db.fetch(make(), into=dict)
        assert caught.value.remedy
        assert caught.value.__context__ is None


async def test_names_that_need_quotes_get_them(ground: Ground, filled: Pair) -> None:
    async with ground.tally.session(filled[0], actor="a") as db:
        name = 'x", (SELECT code FROM tally.holder) AS "y'
        assert await db.fetch(select(P.c.label.label(name)), into=dict) == [{name: "one"}]


@pytest.mark.parametrize("into", [5, None, "dict", int, list])
async def test_rows_into_what_cannot_hold_them(ground: Ground, filled: Pair, into: Any) -> None:
    async with ground.tally.session(filled[0], actor="a") as db:
        with pytest.raises(Invalid):
            await db.fetch(select(P.c.label), into=into)
