"""``explain()``: what the database would do, and nothing of what it holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, select
from tests.entities import Shelf, Visit, VisitStatus

from tallystick import Invalid, Session, Tallystick, Unsupported, User, asc, desc, secret, usd
from tallystick.actors import checked_who
from tallystick.audit.reads import ReadingUnit
from tallystick.plan import advice, read, without_literals
from tallystick.testing.factories import Make

CANARY = "Ngozi-7731"


@pytest_asyncio.fixture(loop_scope="session")
async def db(tally_scope: Any, tenant: str) -> AsyncIterator[Session]:
    """The kit's own session: no lender with branches is needed here."""
    async with tally_scope.session(tenant, actor="test", permissions=("*",)) as session:
        yield session


async def test_a_query_by_the_key_reads_the_key(db: Session) -> None:
    # The planner reads a small table whole once it has looked at it, and when it does is autovacuum's to say.
    await db.unit.call("SELECT set_config('enable_seqscan', 'off', true) WHERE $1::uuid IS NOT NULL", (db.tenant_id,))
    plan = await db.users.explain(User.id == db.tenant_id)
    assert plan.indexes
    assert plan.hint == ""
    assert not plan.large_tables
    assert plan.milliseconds is None
    assert " using " in plan.text


async def test_no_value_is_in_a_plan(db: Session, make: Make) -> None:
    """The server quotes operands in its plans, blind indexes and the tenant's id included."""
    visit = await make(Visit)
    visit = await db[Visit].update(visit, national_id=secret("123456789012"), fee=usd("918273.64"))
    for analyze in (False, True):
        plan = await db[Visit].explain(
            Visit.national_id == "123456789012",
            Visit.status == VisitStatus.PLANNED,
            Visit.fee == visit.fee,
            Visit.borrower == visit.borrower,
            order=desc(Visit.seen_at),
            limit=7,
            analyze=analyze,
        )
        text = f"{plan.text}\n{plan!r}"
        for hidden in ("123456789012", "planned", "91827364", str(visit.borrower.id), str(db.tenant_id)):
            assert hidden not in text, text
        assert "\\x" not in text
        assert "'" not in plan.text
        assert "status" in plan.text or "borrower" in plan.text


async def test_run_it_says_what_came_and_writes_nothing(db: Session, make: Make) -> None:
    await make(Shelf)
    before = await db[Shelf].count()
    plan = await db[Shelf].explain(analyze=True)
    assert plan.actual_rows == before
    assert plan.milliseconds is not None
    assert plan.pages_hit is not None
    async with db.transaction():
        assert (await db[Shelf].explain(analyze=True)).actual_rows == before
        await make(Shelf)  # the transaction can write again
    assert await db[Shelf].count() == before + 1


async def test_statements_of_ones_own(db: Session) -> None:
    statement = select(func.count()).select_from(User.table).where(User.table.c.status == CANARY)
    plan = await db.explain(statement, analyze=True)
    assert plan.nodes[0].kind == "Aggregate"
    assert CANARY not in f"{plan.text}{plan!r}"
    with pytest.raises(Unsupported):
        await db.explain("SELECT 1")


async def test_bad_arguments_are_refused_like_those_of_find(db: Session) -> None:
    with pytest.raises(Invalid):
        await db.users.explain(True)
    with pytest.raises(Invalid):
        await db.users.explain(order=asc(Visit.seen_at))


async def test_the_hint_names_the_index_or_says_that_there_is_none(db: Session) -> None:
    served = await db[Visit].explain(Visit.status == VisitStatus.DONE, order=asc(Visit.seen_at))
    assert "No declared index" not in served.hint
    lacking = await db[Visit].explain(Visit.fee == usd("1.00"), order=asc(Visit.seen_at))
    assert lacking.hint.startswith("No declared index serves this.")
    assert 'Index("fee", "seen_at"' in lacking.hint


def test_large_tables_that_are_read_whole_get_another_hint(db: Session) -> None:
    document = {
        "Plan": {
            "Node Type": "Seq Scan",
            "Relation Name": "visit",
            "Schema": "tally",
            "Plan Rows": 5,
            "Total Cost": 9.0,
            "Filter": "(status = 'done'::text)",
        }
    }
    plan = read(document, {"tally.visit": 50_000})
    assert plan.large_tables == plan.whole_tables == ("tally.visit",)
    repository = db[Visit]
    query = repository._query((Visit.status == VisitStatus.DONE,), None)
    assert "ANALYZE tally.visit" in advice(repository.spec, query, plan)
    small = read(document, {"tally.visit": 10})
    assert "for when it grows" in advice(repository.spec, query, small)


@pytest.mark.parametrize(
    ("condition", "clean"),
    [
        ("((status = 'a''b'::text) AND (n > 12.5))", "((status = ?::text) AND (n > ?))"),
        ("(\"a b1\" = 'x'::text)", '("a b1" = ?::text)'),
        ("(\"a'b\" = 'x'::text)", "?"),
        ("(x = $1)", "(x = $1)"),
        ("(b = '\\xdeadbeef'::bytea)", "(b = ?::bytea)"),
        ("(x = ANY ('{a,b}'::text[]))", "(x = ANY (?::text[]))"),
        ("(x = E'\\\\q')", "(x = ?)"),
        ("(loan2.v1 = 4e10)", "(loan2.v1 = ?)"),
        ("(x = 'open", "?"),
    ],
)
def test_literals_are_taken_out(condition: str, clean: str) -> None:
    assert without_literals(condition) == clean


async def test_where_reads_are_written_down_nothing_is_run_for_a_plan(tally: Tallystick, tenant: str) -> None:
    """What came of a run would be a read that the log does not have: whether anybody matches, and how many."""
    who = checked_who("a")
    async with tally.session(tenant, actor="a", permissions=("*",)) as session:
        repository = session[Shelf]
        query = repository._query((), None)
        plain = session.unit
        unit: Any = ReadingUnit(plain, lambda: tally.unit(session.tenant_id, who), frozenset({"kit_shelf"}))
        document, _ = await unit.explain(repository._codec, query, analyze=False)
        assert "Actual Rows" not in document["Plan"]
        with pytest.raises(Unsupported, match="written down"):
            await unit.explain(repository._codec, query, analyze=True)
        with pytest.raises(Unsupported, match="written down"):
            await unit.explain(None, select(Shelf.table), analyze=True)
