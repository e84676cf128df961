"""The outbox against another tenant, and against SQL of the application's own."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tallystick import (
    Conflict,
    Denied,
    LeaseLost,
    NotFound,
    OutboxMessage,
    OutboxState,
    Retry,
    Tallystick,
    TallystickError,
    User,
)
from tallystick.domains.outbox.messages import OutboxLane
from tallystick.session import Session


@pytest.fixture
async def pair(tally: Tallystick, tenant: str):
    """A tenant with messages, and another one that wants them."""
    other = f"mallory-{uuid4().hex}"
    await tally.tenants.create(other, name="Mallory")
    async with (
        tally.session(tenant, actor="clerk", permissions=("*",)) as mine,
        tally.session(other, actor="mallory", permissions=("*",)) as theirs,
    ):
        yield mine, theirs


async def test_another_tenant_sees_and_decides_nothing(pair: tuple[Session, Session]):
    mine, theirs = pair
    added = await mine.outbox.add("loan", "secret", key="k", dedupe="d")
    assert [m async for m in theirs.outbox.claim("loan")] == []
    assert await theirs.outbox.status() == []
    assert await theirs[OutboxMessage].find() == []
    assert await theirs[OutboxLane].find() == []
    for act in (theirs.outbox.retry(added.id), theirs.outbox.discard(added.id, "mine")):
        with pytest.raises(NotFound):
            await act
    assert await theirs.outbox.purge(older_than=timedelta(0)) == 0
    assert (await theirs.outbox.add("loan", "else", key="k", dedupe="d")).id != added.id
    assert [m.payload async for m in mine.outbox.claim("loan")] == ["secret"]


async def test_a_lease_is_no_use_in_another_tenant(pair: tuple[Session, Session]):
    mine, theirs = pair
    await mine.outbox.add("loan", "secret")
    (held,) = [m async for m in mine.outbox.claim("loan")]
    held._lease.db = theirs
    with pytest.raises(LeaseLost):
        await held.done()
    with pytest.raises(LeaseLost):
        await held.extend()
    await held.fail(OSError)
    assert (await mine[OutboxMessage].get(held.id)).token == held._lease.token


async def _raw(db: Session, sql: str, *args: object) -> int:
    async with db.transaction():
        return len(await db.unit.call(sql, args))


async def test_sql_of_another_tenant_marks_nothing(pair: tuple[Session, Session]):
    mine, theirs = pair
    added = await mine.outbox.add("loan", "secret")
    for sql in (
        "UPDATE tally.outbox_message SET state = 'done', finished_at = now() WHERE id = $1 RETURNING id",
        "DELETE FROM tally.outbox_message WHERE id = $1 RETURNING id",
        "SELECT id FROM tally.outbox_message WHERE id = $1",
    ):
        assert await _raw(theirs, sql, added.id) == 0
    forged = (
        "INSERT INTO tally.outbox_message (tenant_id, id, topic, key, payload, state, tries) "
        "VALUES ($1, gen_random_uuid(), 'loan', 'k', '1', 'pending', 0) RETURNING id"
    )
    with pytest.raises(Denied):
        await _raw(theirs, forged, mine.tenant_id)
    assert await _raw(theirs, forged, theirs.tenant_id) == 1
    assert (await mine[OutboxMessage].get(added.id)).state is OutboxState.PENDING


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE tally.outbox_message SET position = 1 WHERE tenant_id = $1 RETURNING id",
        "UPDATE tally.outbox_message SET payload = '2' WHERE tenant_id = $1 RETURNING id",
        "UPDATE tally.outbox_message SET key = 'other' WHERE tenant_id = $1 RETURNING id",
        "UPDATE tally.outbox_message SET created_by = 'other' WHERE tenant_id = $1 RETURNING id",
        "DELETE FROM tally.outbox_message WHERE tenant_id = $1 RETURNING id",
        "TRUNCATE tally.outbox_message",
        "UPDATE tally.outbox_lane SET last = 0 WHERE tenant_id = $1 RETURNING id",
        "DELETE FROM tally.outbox_lane WHERE tenant_id = $1 RETURNING id",
        "INSERT INTO tally.outbox_message (tenant_id, id, topic, payload, state, tries, finished_at) "
        "VALUES ($1, gen_random_uuid(), 'loan', '1', 'done', 0, now()) RETURNING id",
        "INSERT INTO tally.outbox_message (tenant_id, id, topic, key, payload, state, tries, position) "
        "VALUES ($1, gen_random_uuid(), 'loan', 'k', '1', 'pending', 0, 99) RETURNING id",
        "INSERT INTO tally.outbox_message (tenant_id, id, topic, payload, state, tries) "
        "VALUES ($1, gen_random_uuid(), 'loan', to_jsonb(repeat('x', 200000)), 'pending', 0) RETURNING id",
        "SELECT tally.outbox_order()",
    ],
)
async def test_sql_of_ones_own_cannot_bend_the_order(pair: tuple[Session, Session], sql: str):
    mine, _ = pair
    first = await mine.outbox.add("loan", 1, key="k")
    second = await mine.outbox.add("loan", 2, key="k")
    with pytest.raises(TallystickError):
        await _raw(mine, sql, *([mine.tenant_id] if "$1" in sql else []))
    assert [m.id async for m in mine.outbox.claim("loan")] == [first.id, second.id]


async def test_a_message_that_is_over_stays_over(pair: tuple[Session, Session]):
    mine, _ = pair
    added = await mine.outbox.add("loan", 1)
    async for message in mine.outbox.claim("loan", retry=Retry(attempts=1)):
        await message.done()
    with pytest.raises(TallystickError):
        await _raw(
            mine,
            "UPDATE tally.outbox_message SET state = 'pending', finished_at = NULL WHERE tenant_id = $1 RETURNING id",
            mine.tenant_id,
        )
    with pytest.raises(Conflict):
        await mine.outbox.retry(added.id)


async def test_an_errors_text_is_nowhere(pair: tuple[Session, Session], caplog: pytest.LogCaptureFixture):
    mine, _ = pair
    added = await mine.outbox.add("loan", 1)

    async def work(message: object) -> None:
        raise ValueError("Anna Eriksson")

    from tallystick import Handling

    await mine._app.outbox.run({"loan": Handling(handler=work, retry=Retry(attempts=1))}, until_empty=True)
    rows = await mine.unit.call("SELECT m::text FROM tally.outbox_message m WHERE m.tenant_id = $1", (mine.tenant_id,))
    assert "Eriksson" not in str(rows)
    assert "Eriksson" not in caplog.text
    assert (await mine[OutboxMessage].get(added.id)).error == "ValueError"
    assert isinstance(added.id, UUID)


async def test_an_altered_message_holds_up_no_other(pair: tuple[Session, Session], tally: Tallystick):
    db, _ = pair
    ada = await db.users.add(User(first_name="Ada"))
    await db.outbox.add("post", 1, subject=ada, personal={"name": "Ada"})
    sql = (
        "INSERT INTO tally.outbox_message (tenant_id, id, topic, payload, personal, subject_id, state, tries) "
        "SELECT tenant_id, gen_random_uuid(), topic, '2', personal, subject_id, state, 0 FROM tally.outbox_message "
        "WHERE tenant_id = $1 RETURNING id"
    )
    ((moved,),) = await db.unit.change(sql, (db.tenant_id,))
    await db.outbox.add("post", 3)
    seen = []
    async for message in db.outbox.claim("post", retry=Retry(attempts=1)):
        async with message:
            seen.append(message.payload)
    assert sorted(seen) == [1, 3]
    (dead,) = await db.outbox.dead("post")
    assert (dead.id, dead.error, dead.personal) == (moved, "Tampered", None)
    assert (await db.outbox.discard(moved, "it was altered")).state is OutboxState.DISCARDED
