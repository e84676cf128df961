"""The outbox by itself: what is delivered, when, to whom, and what is refused."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from tests.entities import Job

from tallystick import (
    Conflict,
    Handling,
    Invalid,
    KeyReused,
    LeaseLost,
    NotFound,
    OutboxMessage,
    OutboxState,
    Retry,
    RoleMissing,
    Tallystick,
    Unavailable,
    User,
)
from tallystick.domains.outbox import outbox
from tallystick.domains.outbox.outbox import Outbox
from tallystick.session import Session

AT_ONCE = Retry(base=timedelta(0), cap=timedelta(0))
ONCE = Retry(attempts=1, base=timedelta(0), cap=timedelta(0))
BRIEF = timedelta(milliseconds=30)


class Settled(msgspec.Struct, frozen=True):
    loan: UUID
    on: datetime
    amount: Any = None


@pytest.fixture
async def db(tally: Tallystick, tenant: str):
    """A session that commits: a claim is a transaction of its own."""
    async with tally.session(tenant, actor="clerk", permissions=("*",), reason="a test", request_id="r-1") as session:
        yield session


async def read(db: Session, topic: str = "loan", **options: Any) -> list[Any]:
    return [m.payload async for m in db.outbox.claim(topic, **options)]


async def handle(db: Session, topic: str = "loan", **options: Any) -> list[Any]:
    found = []
    async for message in db.outbox.claim(topic, **options):
        async with message:
            found.append(message.payload)
    return found


async def state(db: Session, id: UUID) -> OutboxState:
    return (await db[OutboxMessage].get(id)).state


async def test_a_message_leaves_with_its_transaction(db: Session):
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            await db.outbox.add("loan", 1)
            raise ZeroDivisionError
    async with db.transaction():
        await db.outbox.add("loan", 2)
        with pytest.raises(ZeroDivisionError):
            async with db.transaction():
                await db.outbox.add("loan", 3, key="k")
                raise ZeroDivisionError
        await db.outbox.add("loan", 4, key="k")
    assert sorted(await handle(db)) == [2, 4]
    assert await handle(db) == []


async def test_a_payload_comes_back_as_its_type_and_says_where_it_is_from(db: Session):
    said = Settled(uuid4(), datetime(2026, 1, 2, tzinfo=UTC), 7)
    added = await db.outbox.add("loan.settled", said, key="L1")
    async for message in db.outbox.claim("loan.settled", into=Settled):
        assert message.payload == said
        assert (message.id, message.topic, message.key) == (added.id, "loan.settled", "L1")
        assert (message.actor, message.reason, message.request_id) == ("clerk", "a test", "r-1")
        assert (message.attempt, message.redelivered) == (1, False)
        with pytest.raises(ZeroDivisionError):
            async with message:
                raise ZeroDivisionError
    (again,) = await db[OutboxMessage].find()
    assert (again.state, again.error, again.tries) == (OutboxState.PENDING, "ZeroDivisionError", 1)


async def test_any_json_is_a_payload(db: Session):
    said: list[Any] = [None, True, 0, "x", [1, {"a": None}], {"b": 2**63}, 1.5]
    async with db.transaction():
        for one in said:
            await db.outbox.add("any", one, key="k")
    assert await handle(db, "any") == said


async def test_a_payload_of_another_type_is_a_failure_and_no_loss(db: Session):
    added = await db.outbox.add("loan", {"loan": "nonsense of somebody"})
    async for message in db.outbox.claim("loan", into=Settled, retry=ONCE):
        with pytest.raises(Invalid) as refused:
            async with message:
                assert message.payload
        assert "nonsense" not in str(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__context__ is None
    assert (await db.outbox.dead())[0].id == added.id


async def test_messages_of_a_key_come_in_order_and_others_beside_them(db: Session):
    async with db.transaction():
        for n in range(12):
            await db.outbox.add("loan", n, key="ab"[n % 2])
    claimed = [m async for m in db.outbox.claim("loan", limit=6)]
    assert [(m.key, m.payload) for m in claimed] == [("a", 0), ("a", 2), ("a", 4), ("b", 1), ("b", 3), ("b", 5)]
    assert await read(db) == [], "the rest waits for what is held"
    for message in claimed:
        if message.payload != 4:
            await message.done()
    assert await read(db) == [7, 9, 11]
    await claimed[2].done()
    assert await read(db) == [6, 8, 10]


async def test_keys_take_turns(db: Session):
    async with db.transaction():
        for n in range(30):
            await db.outbox.add("loan", n, key=f"k{n % 10}")
    seen = [(await handle(db, limit=2)) for _ in range(5)]
    assert sorted(n for pair in seen for n in pair) == list(range(10))


async def test_messages_with_a_key_and_without_one_do_not_starve_each_other(db: Session):
    async with db.transaction():
        for n in range(40):
            await db.outbox.add("loan", n, key=f"k{n:02}")
            await db.outbox.add("loan", 100 + n)
    first = [await handle(db, limit=4) for _ in range(4)]
    assert any(n < 100 for part in first for n in part)
    assert any(n >= 100 for part in first for n in part)


async def test_a_message_may_wait_for_its_time_and_holds_its_key(db: Session):
    # The wait grows until the machine is quick enough to look before it is over.
    for seconds in (0.15, 1, 10):
        topic, later = f"loan{int(seconds)}", datetime.now(UTC) + timedelta(seconds=seconds)
        async with db.transaction():
            await db.outbox.add(topic, 1, key="a", not_before=later)
            await db.outbox.add(topic, 2, key="a")
            await db.outbox.add(topic, 3, not_before=later)
        early = await handle(db, topic)
        (status,) = [s for s in await db.outbox.status() if s.topic == topic] or [None]
        if datetime.now(UTC) < later:
            break
        await handle(db, topic)
    assert early == []
    assert status is not None
    assert (status.waiting, status.later) == (1, 2)
    await asyncio.sleep((later - datetime.now(UTC)).total_seconds() + 0.02)
    found = await handle(db, topic)
    assert sorted(found) == [1, 2, 3]
    assert found.index(1) < found.index(2)


async def test_a_failed_message_holds_up_its_key_only_and_what_follows_does_not_count_as_delivered(db: Session):
    async with db.transaction():
        for n in range(4):
            await db.outbox.add("loan", n, key="a")
        await db.outbox.add("loan", 9, key="b")
    seen = []
    async for message in db.outbox.claim("loan", retry=AT_ONCE):
        seen.append(message.payload)
        await (message.fail(OSError("Anna")) if message.payload == 1 else message.done())
    assert seen == [0, 1, 9]
    claimed = [m async for m in db.outbox.claim("loan")]
    assert [(m.payload, m.attempt, m.redelivered) for m in claimed] == [(1, 2, True)], "alone, it may be poison"
    await claimed[0].done()
    assert [(m.payload, m.attempt) async for m in db.outbox.claim("loan")] == [(2, 1), (3, 1)]


def test_waits_double_up_to_a_cap_and_differ():
    retry = Retry(base=timedelta(seconds=1), cap=timedelta(seconds=60))
    for tries, most in ((1, 1), (2, 2), (5, 16), (7, 60), (1_000, 60)):
        waits = {retry.wait(tries) for _ in range(50)}
        assert len(waits) > 1
        assert all(timedelta(seconds=most) / 2 <= w <= timedelta(seconds=most) for w in waits)


async def test_a_dead_letter_is_stuck_until_somebody_decides(db: Session):
    async with db.transaction():
        first = await db.outbox.add("loan", 1, key="a")
        await db.outbox.add("loan", 2, key="a")
    for _ in range(2):
        async for message in db.outbox.claim("loan", retry=Retry(attempts=2, base=timedelta(0), cap=timedelta(0))):
            await message.fail(ValueError("somebody's name"))
    assert await read(db) == []
    (dead,) = await db.outbox.dead()
    assert (dead.id, dead.state, dead.error, dead.tries) == (first.id, OutboxState.STUCK, "ValueError", 2)
    assert [(s.stuck, s.waiting) for s in await db.outbox.status()] == [(1, 1)]
    await db.outbox.retry(first.id)
    assert await handle(db, retry=ONCE) == [1, 2], "all in order"
    with pytest.raises(Conflict):
        await db.outbox.retry(first.id)


async def test_a_discarded_message_lets_its_key_go_on(db: Session):
    async with db.transaction():
        first = await db.outbox.add("loan", 1, key="a")
        await db.outbox.add("loan", 2, key="a")
    async for message in db.outbox.claim("loan", retry=ONCE):
        await message.fail()
    await db.outbox.discard(first.id, "sent by hand")
    assert await handle(db) == [2]
    with pytest.raises(Conflict):
        await db.outbox.discard(first.id, "again")
    with pytest.raises(NotFound):
        await db.outbox.discard(uuid4(), "who?")


async def test_a_policy_may_let_the_key_go_on(db: Session):
    async with db.transaction():
        for n in range(3):
            await db.outbox.add("loan", n, key="a")
    seen = []
    async for message in db.outbox.claim("loan", retry=Retry(attempts=1, block=False)):
        seen.append(message.payload)
        await (message.fail() if message.payload == 0 else message.done())
    assert seen == [0, 1, 2]
    assert [m.state for m in await db.outbox.dead("loan")] == [OutboxState.DEAD]


async def test_a_lease_that_ran_out_is_anothers(db: Session):
    await db.outbox.add("loan", 1, key="a")
    (mine,) = [m async for m in db.outbox.claim("loan", lease=BRIEF)]
    await asyncio.sleep(0.05)
    (other,) = [m async for m in db.outbox.claim("loan")]
    assert (other.attempt, other.redelivered) == (2, True)
    with pytest.raises(LeaseLost):
        await mine.done()
    with pytest.raises(LeaseLost):
        await mine.extend()
    await mine.fail(OSError)
    with pytest.raises(LeaseLost):
        async with mine.transaction() as inside:
            await inside[Job].add(Job(name="ghost"))
    assert await db[Job].find(Job.name == "ghost") == []
    await other.extend(timedelta(minutes=2))
    await other.done()
    assert await state(db, mine.id) is OutboxState.DONE


@pytest.mark.parametrize("lost", [0, 1])
async def test_what_follows_a_lost_message_is_not_handled_before_it(db: Session, lost: int):
    """Whoever stood still for longer than the lease goes on with nothing of a key that is in somebody else's hands."""
    async with db.transaction():
        for n in range(3):
            await db.outbox.add("loan", n, key="a")
    seen: list[int] = []
    others: list[Any] = []
    async for message in db.outbox.claim("loan", lease=BRIEF):
        seen.append(message.payload)
        if lost > message.payload:
            await message.done()
        await asyncio.sleep(0.05)
        others += [m async for m in db.outbox.claim("loan")]
        if lost == message.payload:
            with pytest.raises(LeaseLost):
                async with message.transaction():
                    pass
    assert [m.payload for m in others] == [lost]
    assert seen == [0]
    await others[0].done()
    rest = [(m.payload, m.attempt) async for m in db.outbox.claim("loan")]
    assert rest == [(n, 1) for n in range(lost + 1, 3)], "given back at once, and never delivered"


async def test_a_lease_that_nobody_took_is_still_good(db: Session):
    await db.outbox.add("loan", 1)
    (mine,) = [m async for m in db.outbox.claim("loan", lease=BRIEF)]
    await asyncio.sleep(0.05)
    await mine.done()


async def test_what_dies_with_its_worker_each_time_becomes_a_dead_letter_alone(db: Session):
    async with db.transaction():
        for n in range(2):
            await db.outbox.add("loan", n, key="a")
    retry = Retry(attempts=2)
    for expected in ([0, 1], [0], [1]):
        claimed = [m.payload async for m in db.outbox.claim("loan", lease=BRIEF, retry=retry)]
        assert claimed == expected
        if claimed == [0]:
            await asyncio.sleep(0.05)
            assert await read(db, retry=retry) == []
            (dead,) = await db.outbox.dead()
            assert (dead.payload, dead.error) == (0, "LeaseLost")
            await db.outbox.discard(dead.id, "poison")
        await asyncio.sleep(0.05)


async def test_what_is_written_with_a_message_is_written_once(db: Session):
    await db.outbox.add("loan", "one")
    async for message in db.outbox.claim("loan", retry=AT_ONCE):
        with pytest.raises(ZeroDivisionError):
            async with message, message.transaction() as inside:
                await inside[Job].add(Job(name="once"))
                raise ZeroDivisionError
    async for message in db.outbox.claim("loan"):
        async with message, message.transaction() as inside:
            await inside[Job].add(Job(name="once"))
            await inside.outbox.add("next", "two")
    assert await db[Job].count(Job.name == "once") == 1
    assert await handle(db) == []
    assert await handle(db, "next") == ["two"]


async def test_leaving_the_loop_gives_the_rest_back(db: Session):
    from contextlib import aclosing

    for n in range(5):
        await db.outbox.add("loan", n)
    async with aclosing(db.outbox.claim("loan")) as claimed:
        async for message in claimed:
            await message.done()
            break
    assert [(m.payload, m.attempt) async for m in db.outbox.claim("loan")] == [(n, 1) for n in range(1, 5)]


async def test_a_slow_loop_keeps_what_it_holds(db: Session, monkeypatch: pytest.MonkeyPatch):
    """The consumer's clock goes quickly here, so that no machine is too slow: what it renews is the server's to say."""
    now, lease, ends = [0.0], timedelta(seconds=30), list[datetime | None]()
    monkeypatch.setattr(outbox, "monotonic", lambda: now[0])
    added = [(await db.outbox.add("loan", n)).id for n in range(4)]
    async for message in db.outbox.claim("loan", lease=lease):
        ends.append((await db[OutboxMessage].get(added[-1])).due_at)
        assert await read(db) == []
        await message.done()
        now[0] += 11
    assert ends == sorted(set(ends))
    assert len(ends) == 4
    assert (await db[OutboxMessage].find(OutboxMessage.state == OutboxState.PENDING)) == []


async def test_a_message_may_be_added_once(db: Session):
    first = await db.outbox.add("loan", {"a": 1}, key="k", dedupe="x")
    async with db.transaction():
        assert (await db.outbox.add("loan", {"a": 1}, key="k", dedupe="x")).id == first.id
    assert (await db.outbox.add("other", {"a": 1}, key="k", dedupe="x")).id != first.id
    for other in ({"payload": {"a": 2}, "key": "k"}, {"payload": {"a": 1}, "key": "l"}):
        with pytest.raises(KeyReused):
            await db.outbox.add("loan", dedupe="x", **other)
    assert await handle(db) == [{"a": 1}]


async def test_the_same_words_about_another_person_are_another_message(db: Session):
    ada, bob = await db.users.add_many([User(first_name="Ada"), User(first_name="Bob")])
    said: dict[str, Any] = {"payload": {"letter": "A1"}, "dedupe": "x"}
    first = await db.outbox.add("letters", **said, subject=ada, personal={"name": "Ada"})
    assert (await db.outbox.add("letters", **said, subject=ada, personal={"name": "Ada"})).id == first.id
    for other in ({"subject": bob, "personal": {"name": "Ada"}}, {"subject": ada, "personal": {"name": "A."}}, {}):
        with pytest.raises(KeyReused):
            await db.outbox.add("letters", **said, **other)


async def test_what_is_personal_is_erased_with_its_person(tally: Tallystick, db: Session):
    user = await db.users.add(User(email="anna@example.com"))
    added = await db.outbox.add("welcome", {"kind": "letter"}, subject=user, personal={"name": "Anna Eriksson"})
    raw = await db.unit.call("SELECT t.*::text FROM tally.outbox_message t WHERE t.tenant_id = $1", (db.tenant_id,))
    assert "Eriksson" not in str(raw[0][0])
    (message,) = [m async for m in db.outbox.claim("welcome")]
    assert (message.personal, message.subject) == ({"name": "Anna Eriksson"}, user.id)
    assert "Eriksson" not in repr(await db[OutboxMessage].get(added.id))
    from tallystick.domains.rights.erasure import destroy

    async with db.transaction():
        await destroy(db, user.id, ["operations"])
    db.sealer.keyring().forget(db.tenant_id)
    await message.release()
    (message,) = [m async for m in db.outbox.claim("welcome")]
    assert (message.personal, message.payload) == (None, {"kind": "letter"})


@pytest.mark.parametrize("topic", ["", "Loan", "1loan", "lo an", "loan\n", "l" * 101, "lån", None, 7, "a'b"])
async def test_a_bad_topic_is_refused(db: Session, topic: Any):
    with pytest.raises(Invalid):
        await db.outbox.add(topic, 1)
    with pytest.raises(Invalid):
        await read(db, topic)


class _Strange:
    pass


@pytest.mark.parametrize(
    "given",
    [
        {"payload": _Strange()},
        {"payload": {"a": "x" * 70_000}},
        {"payload": float("nan")},
        {"payload": {"a": "\0"}},
        {"payload": 2**70},
        {"personal": {"name": "x"}},
        {"personal": "text", "subject": uuid4()},
        {"payload": 1, "key": ""},
        {"payload": 1, "key": "k" * 201},
        {"payload": 1, "key": "a\0b"},
        {"payload": 1, "dedupe": 3},
        {"payload": 1, "subject": "anna"},
        {"payload": 1, "subject": uuid4()},
        {"payload": 1, "not_before": "tomorrow"},
        {"payload": 1, "not_before": datetime(2026, 1, 1)},
    ],
)
async def test_a_bad_message_is_refused(db: Session, given: dict[str, Any]):
    with pytest.raises(Invalid):
        await db.outbox.add("loan", **given)
    assert await db[OutboxMessage].count() == 0


async def test_a_bad_claim_is_refused(db: Session):
    for options in (
        {"limit": 0},
        {"limit": 1_001},
        {"limit": True},
        {"lease": timedelta(0)},
        {"lease": 5},
        {"retry": Retry(attempts=0)},
        {"retry": Retry(base=timedelta(seconds=2), cap=timedelta(seconds=1))},
    ):
        with pytest.raises(Invalid):
            await read(db, **options)
    async with db.transaction():
        with pytest.raises(Invalid):
            await read(db)


async def test_deciding_takes_a_permission(tally: Tallystick, tenant: str, db: Session):
    added = await db.outbox.add("loan", 1)
    async with tally.session(tenant, actor="somebody", permissions=()) as other:
        for act in (
            lambda: other.outbox.retry(added.id),
            lambda: other.outbox.discard(added.id, "why not"),
            lambda: other.outbox.purge(),
            lambda: other[OutboxMessage].add(OutboxMessage(topic="loan")),
        ):
            with pytest.raises(RoleMissing):
                await act()


async def test_what_is_over_is_purged_and_nothing_else(db: Session):
    for n in range(7):
        await db.outbox.add("loan", n)
    assert len(await handle(db, limit=5)) == 5
    assert await db.outbox.purge() == 0
    assert await db.outbox.purge(older_than=timedelta(0), batch=2) == 5
    assert await db[OutboxMessage].count() == 2
    for option in ({"older_than": 3}, {"batch": 0}):
        with pytest.raises(Invalid):
            await db.outbox.purge(**option)


async def test_workers_serve_all_tenants_and_stop(tally: Tallystick):
    tenants = [f"w-{uuid4().hex}" for _ in range(3)]
    topic = f"t{uuid4().hex}"
    for slug in tenants:
        await tally.tenants.create(slug, name=slug)
        async with tally.session(slug, actor="clerk") as db, db.transaction():
            for n in range(40 if slug == tenants[0] else 3):
                await db.outbox.add(topic, n, key=f"{n % 4}")
    order: list[str] = []
    failing = {1}

    async def work(message: Any) -> None:
        async with message.transaction() as db:
            await db[Job].add(Job(name=topic))
            order.append(db.tenant.slug)
            if message.payload in failing and not message.redelivered:
                raise ZeroDivisionError

    how = Handling(handler=work, limit=5, retry=AT_ONCE)
    handled = await asyncio.wait_for(tally.outbox.run({topic: how}, concurrency=2, until_empty=True), 120)
    assert (handled.done, handled.failed) == (46, 3)
    assert max(order.index(slug) for slug in tenants) < 20, "a backlog of one tenant does not hold up the others"
    for slug in tenants:
        async with tally.session(slug, actor="clerk") as db:
            assert await db[Job].count(Job.name == topic) == (40 if slug == tenants[0] else 3)
            assert await db.outbox.status() == []


async def test_workers_finish_what_they_hold_and_give_back_the_rest(tally: Tallystick, db: Session):
    topic, stop, seen = f"t{uuid4().hex}", asyncio.Event(), []
    for n in range(5):
        await db.outbox.add(topic, n)

    async def work(message: Any) -> None:
        stop.set()
        await asyncio.sleep(0.02)
        seen.append(message.payload)

    handled = await asyncio.wait_for(tally.outbox.run({topic: work}, concurrency=1, stop=stop), 120)
    assert (handled.done, seen) == (1, [0])
    assert sorted(await read(db, topic)) == [1, 2, 3, 4]


async def test_a_handler_that_ends_cancelled_has_failed_and_takes_no_worker_along(tally: Tallystick, db: Session):
    topic, seen = f"t{uuid4().hex}", []
    for n in range(3):
        await db.outbox.add(topic, n)

    async def work(message: Any) -> None:
        if message.payload == 0:
            raise asyncio.CancelledError
        seen.append(message.payload)

    how = Handling(handler=work, retry=ONCE)
    handled = await asyncio.wait_for(tally.outbox.run({topic: how}, concurrency=1, until_empty=True), 120)
    assert (handled.done, handled.failed, sorted(seen)) == (2, 1, [1, 2])
    assert [m.error for m in await db.outbox.dead(topic)] == ["CancelledError"]


async def test_workers_renew_what_takes_long_and_give_up_what_takes_longer(tally: Tallystick, db: Session):
    long, longer = f"t{uuid4().hex}", f"t{uuid4().hex}"
    await db.outbox.add(long, 0.9)
    await db.outbox.add(longer, 60)
    tries: list[int] = []

    async def work(message: Any) -> None:
        tries.append(message.attempt)
        await asyncio.sleep(message.payload)

    hows = {
        long: Handling(handler=work, lease=timedelta(seconds=0.6), retry=ONCE),
        longer: Handling(handler=work, timeout=timedelta(milliseconds=200), retry=ONCE),
    }
    handled = await asyncio.wait_for(tally.outbox.run(hows, concurrency=2, until_empty=True), 120)
    assert (handled.done, handled.failed, tries) == (1, 1, [1, 1])
    assert [m.error for m in await db.outbox.dead(longer)] == ["TimeoutError"]


async def test_an_outbox_that_cannot_be_read_is_not_an_empty_one(
    tally: Tallystick, db: Session, monkeypatch: pytest.MonkeyPatch
):
    """A scheduled job would report that nothing was due."""

    async def work(message: Any) -> None:
        del message

    def refused(*_: Any, **__: Any) -> Any:
        raise Unavailable("The server is down.")

    for place, name in ((type(tally.tenants), "all"), (Outbox, "claim")):
        with monkeypatch.context() as broken, pytest.raises(Unavailable):
            broken.setattr(place, name, refused)
            await tally.outbox.run({"loan": work}, until_empty=True, poll=BRIEF)


async def test_workers_refuse_what_they_could_not_do(tally: Tallystick):
    async def work(message: Any) -> None:
        del message

    for handlers, options in (
        ({}, {}),
        ({"loan": 3}, {}),
        ({"Loan": work}, {}),
        ({"loan": work}, {"actor": ""}),
        ({"loan": Handling(handler=work, timeout=timedelta(0))}, {}),
        ({"loan": Handling(handler=work, lease=timedelta(0))}, {}),
        ({"loan": work}, {"concurrency": 0}),
        ({"loan": work}, {"concurrency": 1_000}),
        ({"loan": work}, {"poll": timedelta(0)}),
    ):
        with pytest.raises(Invalid):
            await tally.outbox.run(handlers, **options)
