"""The statement log, the hook and the comments: what runs, how long, for which request, and never a value."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import func, select
from tests.entities import Shelf

from tallystick import Duplicate, Invalid, NotFound, StatementRun, Tallystick
from tallystick.settings import Settings, connect_args
from tallystick.stores.postgres.seeing import label_of, word_of

CANARY = "canary-8812"
ATTACK = "*/ DROP TABLE tally.kit_shelf; --'; SET ROLE x; $$\n\r\x1b"


@asynccontextmanager
async def opened(tally: Tallystick, on_statement: Any = None, **settings: Any) -> AsyncIterator[Tallystick]:
    """Another application on the run's database."""
    given = {name: getattr(tally.settings, name) for name in ("database_url", "admin_url", "role_prefix")}
    found = Settings.load({}, **given, **settings)
    made = Tallystick.open(settings=found, entities=tally.entities, keys=tally.keys, on_statement=on_statement)
    async with made:
        yield made


async def test_off_it_is_nothing(tally: Tallystick) -> None:
    assert tally.store.seeing is None


async def test_every_statement_is_told_and_no_value(tally: Tallystick, tenant: str) -> None:
    runs: list[StatementRun] = []
    async with (
        opened(tally, runs.append) as app,
        app.session(tenant, actor="a", request_id="req-1", permissions=("*",)) as db,
    ):
        shelf = await db[Shelf].add(Shelf(name=CANARY))
        runs.clear()
        await db[Shelf].get(shelf.id)
        await db[Shelf].find(Shelf.name == CANARY)
        await db[Shelf].page(limit=3)
        with pytest.raises(Duplicate):
            await db[Shelf].add(Shelf(name=CANARY))
        await db.fetch(select(func.count()).select_from(Shelf.table), into=dict)
    told = [(r.table, r.verb, r.rows, r.outcome) for r in runs]
    assert told == [
        ("tally.kit_shelf", "get", 1, "ok"),
        ("tally.kit_shelf", "find", 1, "ok"),
        ("tally.kit_shelf", "page", 1, "ok"),
        ("tally.kit_shelf", "add", 0, Duplicate.code),
        ("", "fetch", 1, "ok"),
    ]
    assert all(r.milliseconds > 0 and r.request_id == "req-1" and r.started_at.tzinfo for r in runs)
    assert "$1" in runs[0].sql
    assert CANARY not in repr(runs)
    assert str(shelf.id) not in repr(runs)


async def test_slow_statements_are_logged_with_fields(
    tally: Tallystick, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="tallystick.statements"):
        async with opened(tally, slow_statement=0) as app, app.session(tenant, actor="a", request_id=ATTACK) as db:
            await db[Shelf].find(Shelf.name == CANARY)
        (record,) = [r for r in caplog.records if r.name == "tallystick.statements" and "key_" not in r.getMessage()][
            -1:
        ]
        fields = vars(record)
        assert (fields["entity"], fields["verb"], fields["outcome"], fields["rows"]) == ("Shelf", "find", "ok", 0)
        assert record.levelno == logging.INFO
        assert "\n" not in record.getMessage()
        assert "\x1b" not in record.getMessage()
        assert CANARY not in record.getMessage() + repr(fields)
        caplog.clear()
        async with opened(tally, slow_statement=0.05) as app, app.session(tenant, actor="a") as db:
            await db[Shelf].find()
            await db.fetch(select(func.pg_sleep(0.06)), into=dict)
        (slow,) = [r for r in caplog.records if r.name == "tallystick.statements" and r.__dict__["verb"] == "fetch"]
        assert slow.levelno == logging.WARNING
        assert slow.__dict__["milliseconds"] >= 50


async def test_a_hook_that_fails_fails_nothing(
    tally: Tallystick, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(_: StatementRun) -> None:
        raise RuntimeError(CANARY)

    async with opened(tally, hook) as app, app.session(tenant, actor="a") as db:
        assert await db[Shelf].find() == []
        assert await db[Shelf].find() == []
        with pytest.raises(NotFound):
            await db[Shelf].get(db.tenant_id)
    said = [r for r in caplog.records if "on_statement" in r.getMessage()]
    assert len(said) == 1
    assert CANARY not in said[0].getMessage()


async def seen(tally: Tallystick, app: Tallystick, tenant: str, *, together: bool, request: str) -> tuple[str, str]:
    """What another login sees of a statement that runs: its text and the connection's name."""
    watcher = await asyncpg.connect(**connect_args(str(tally.settings.database_url)))
    try:
        async with app.session(tenant, actor="a", request_id=request) as db:
            slow = select(func.pg_sleep(0.6))

            async def work() -> None:
                if together:
                    async with db.transaction():
                        await db.fetch(slow, into=dict)
                else:
                    await db.fetch(slow, into=dict)

            task = asyncio.create_task(work())
            try:
                for _ in range(1_000):
                    row = await watcher.fetchrow(
                        "SELECT query, application_name FROM pg_stat_activity WHERE datname = current_database() "
                        "AND state = 'active' AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"
                    )
                    if row is not None:
                        return row["query"], row["application_name"]
                    await asyncio.sleep(0.01)
                raise AssertionError("the statement was not seen")
            finally:
                await task
    finally:
        await watcher.close()


@pytest.mark.own_connection
@pytest.mark.parametrize(
    ("mode", "together", "label"),
    [("off", True, "tallystick"), ("verb", True, "tallystick req-7"), ("request", False, "tallystick req-7")],
)
async def test_the_server_shows_what_runs(
    tally: Tallystick, tenant: str, mode: str, together: bool, label: str
) -> None:
    async with opened(tally, sql_comments=mode) as app:
        query, name = await seen(tally, app, tenant, together=together, request="req-7")
        assert name == label
        assert query.startswith("/*verb='fetch'*/ ") == (mode != "off")
        # The name is the transaction's, and goes with it.
        assert (await app.store.system_row("SELECT current_setting('application_name') AS n"))["n"] == "tallystick"


async def test_statements_stay_prepared_whatever_the_request(tally: Tallystick, tenant: str) -> None:
    sent: set[str] = set()
    async with opened(tally, lambda run: sent.add(run.sql), sql_comments="verb") as app:
        for number in range(3):
            async with app.session(tenant, actor="a", request_id=f"req-{number}") as db:
                await db[Shelf].find()
    finds = {sql for sql in sent if "tally.kit_shelf" in sql}
    assert len(finds) == 1
    assert finds.pop().startswith("/*verb='kit_shelf.find'*/ SELECT")


@pytest.mark.parametrize("mode", ["verb", "request"])
async def test_a_request_that_attacks_is_only_a_name(tally: Tallystick, tenant: str, mode: str) -> None:
    async with opened(tally, sql_comments=mode) as app:
        for request in (ATTACK, "'", "\\", "%", "é" * 200, "a" * 200, "/* /* ", "';ROLLBACK;--"):
            async with app.session(tenant, actor="a", request_id=request, permissions=("*",)) as db:
                async with db.transaction():
                    await db[Shelf].add(Shelf(name="x"))
                    row = await db.unit.call(
                        "SELECT current_setting('application_name'), current_setting('tally.request')", ()
                    )
                    assert row[0][0] == label_of(request)
                    assert row[0][1] == request
                    assert len(row[0][0]) <= 63
                await db[Shelf].purge_where(Shelf.name == "x", reason="test")


def test_words_hold_nothing_that_ends_anything() -> None:
    for request in (ATTACK, "日本", "a b", "*/", "--", "$1"):
        assert not set(word_of(request)) & set("*/'\"\\;$ \n\r\x1b-"[:-1])
    assert label_of("a" * 51 + "é").endswith("a")


def test_settings() -> None:
    found = Settings.load({"TALLYSTICK_SLOW_MS": "250", "TALLYSTICK_SQL_COMMENTS": "verb"})
    assert (found.slow_statement, found.sql_comments) == (0.25, "verb")
    assert (Settings().slow_statement, Settings().sql_comments) == (None, "off")
    for bad in ({"TALLYSTICK_SLOW_MS": "-1"}, {"TALLYSTICK_SQL_COMMENTS": "all"}, {"TALLYSTICK_SLOW_MS": "fast"}):
        with pytest.raises(Invalid):
            Settings.load(bad)
