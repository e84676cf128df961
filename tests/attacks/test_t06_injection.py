"""T6: injection, and a module that calls set_config for another tenant."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from tests.attacks.conftest import Ground
from tests.attacks.entities import Holder, holder

import tallystick
from tallystick import Repository, Session, uuid7
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.errors import Invalid, NotFound, Unsupported

Pair = tuple[TenantInfo, TenantInfo]
HOSTILE = [
    "x', true), set_config('tally.tenant','{other}', true), set_config('tally.actor','y",
    "x'::text, true); SELECT set_config('tally.tenant','{other}', false); --",
    "\\'; SET tally.tenant = '{other}'; --",
    "'; COMMIT; SET tally.tenant = '{other}'; BEGIN; --",
    "$1",
    "${{n}}",
    "{{0}}",
    "%s %(tenant)s",
    "E'\\x27",
    "\\x27; select 1",
    "'''''''",
    '"; DROP TABLE tally.holder; --',
    "/* */ -- \n; ROLLBACK; SELECT 1",
    "\u02bc\uff07\u2019",
    "e\u0301 \u200b\u202e \U0001f4a5",
    "\r\n\t\x01\x1b[31m\x7f",
    "a" * 200,
    "\U0001f4a5" * 200,
]
REFUSED = ["", "   ", "\t\n", "a" * 201, "nul\0byte", "\ud800", "ok\udfff", None, 5, b"bytes", ["x"], object()]


@pytest.mark.parametrize("pooler", ["session", "transaction"])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_t06_an_actor_string_cannot_change_the_tenant(ground: Ground, pair: Pair, text: str, pooler: str) -> None:
    mine, other = pair
    actor = text.replace("{other}", str(other.id)).replace("{{", "{").replace("}}", "}")[:200]
    async with ground.opened(pool_max=1, pooler=pooler) as tally:
        async with tally.session(other, actor="other") as db:
            await db[Holder].add(holder("theirs"))
        async with tally.session(mine, actor=actor) as db:
            # Alone, in bulk, and in a transaction: the three ways in which an actor travels.
            assert (await db[Holder].add(holder("one"))).created_by == actor
            assert (await db[Holder].add_many([holder("two")]))[0].created_by == actor
            async with db.transaction():
                three = await db[Holder].add(holder("three"))
                assert (three.created_by, three.tenant_id) == (actor, mine.id)
            assert await db[Holder].count() == 3
        async with tally.session(other, actor="other") as db:
            assert [h.code for h in await db[Holder].find()] == ["theirs"]


@pytest.mark.parametrize("actor", REFUSED, ids=range(len(REFUSED)))
async def test_t06_an_actor_that_is_no_text_is_refused_before_any_io(ground: Ground, pair: Pair, actor: object) -> None:
    with pytest.raises(Invalid) as caught:
        ground.tally.session(pair[0], actor=actor)  # type: ignore[arg-type]
    assert caught.value.remedy


@settings(max_examples=60)
@given(actor=st.text(min_size=1, max_size=200))
async def test_t06_any_actor_is_recorded_as_it_is_or_refused(ground: Ground, pair: Pair, actor: str) -> None:
    try:
        context = ground.tally.session(pair[0], actor=actor)
    except Invalid:
        assert not actor.strip() or "\0" in actor or any("\ud800" <= c <= "\udfff" for c in actor)
        return
    async with context as db, db.transaction():
        row = await db[Holder].upsert(holder("actor"), on=Holder.code)
        assert (row.updated_by, row.tenant_id) == (actor, pair[0].id)


@pytest.mark.parametrize(
    "slug", ["'; DROP SCHEMA tally CASCADE; --", "a' OR '1'='1", "%", "_", "nul\0", "\ud800", "A" * 5000]
)
async def test_t06_a_slug_is_only_ever_compared(ground: Ground, slug: str) -> None:
    with pytest.raises(NotFound):
        async with ground.tally.session(slug, actor="a"):
            pass


def test_t06_there_is_no_way_to_hand_over_sql_as_text() -> None:
    """No public method of a session or repository takes a statement as a string."""
    for cls in (Session, Repository, tallystick.Tallystick):
        for name, member in inspect.getmembers(cls, inspect.isfunction):
            parameters = set(inspect.signature(member).parameters)
            if not name.startswith("_"):
                assert not parameters & {"sql", "query", "text", "raw"}, f"{cls.__name__}.{name}"


async def test_t06_a_lock_is_a_word_and_no_piece_of_a_statement(ground: Ground, pair: Pair) -> None:
    async with ground.tally.session(pair[0], actor="a") as db, db.transaction():
        with pytest.raises(Invalid, match="lock"):
            await db.communities.locked(uuid7(), " FOR SHARE")  # type: ignore[arg-type]


@pytest.mark.parametrize("statement", ["SELECT 1", b"SELECT 1", None, 5])
async def test_t06_fetch_takes_no_text(ground: Ground, pair: Pair, statement: object) -> None:
    async with ground.tally.session(pair[0], actor="a") as db:
        with pytest.raises(Unsupported):
            await db.fetch(statement, into=dict)


async def test_t06_a_statement_of_ones_own_cannot_set_the_tenant(ground: Ground, pair: Pair) -> None:
    """Through fetch it would poison the pooled connection: the tag would say one tenant and the server another."""
    mine, other = pair
    async with ground.opened(pool_max=1) as tally, tally.session(mine, actor="a") as db:
        for call in (
            func.set_config("tally.tenant", str(other.id), False),
            func.pg_catalog.set_config("tally.tenant", str(other.id), True),
            func.tally.set_tenant(other.id, "a"),
            func.set_tenant(other.id, "a"),
            func.query_to_xml("SELECT 1", True, True, ""),
        ):
            for statement in (select(call), select(Holder.table.c.id).where(call.is_not(None))):
                with pytest.raises(Unsupported):
                    await db.fetch(statement, into=dict)
        async with ground.connected("app"):
            assert await db[Holder].count() == 0


async def test_t06_the_honest_limit_whoever_types_sql_chooses_the_tenant(ground: Ground, pair: Pair) -> None:
    """Row-level security stops an application's bugs, not somebody who runs SQL as the application role."""
    mine, other = pair
    async with ground.tally.session(other, actor="other") as db:
        await db[Holder].add(holder("theirs"))
    async with ground.connected("app") as connection:
        await connection.execute(f"SET tally.tenant = '{mine.id}'")
        assert await connection.fetchval("SELECT count(*) FROM tally.holder") == 0
        await connection.execute(f"SET tally.tenant = '{other.id}'")
        assert await connection.fetchval("SELECT code FROM tally.holder") == "theirs"
