"""The synchronous facade itself: threads, interrupts, forks, the end of the process, and what it refuses."""

from __future__ import annotations

import ast
import asyncio
import contextvars
import functools
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select
from tests.entities import Job

import tallystick
from tallystick import (
    Handling,
    Invalid,
    NotFound,
    Retry,
    Session,
    StaleVersion,
    Unavailable,
    Unsupported,
    User,
    UserStatus,
    uuid7,
)
from tallystick import sync as facade
from tallystick.sync.facade import facade_of
from tallystick.sync.index import WHERE
from tallystick.sync.portal import Portal, current

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def options(tally: Any) -> dict[str, Any]:
    return {"settings": tally.settings, "entities": tally.entities, "keys": tally.keys}


@pytest.fixture(scope="module")
def still(options: dict[str, Any]) -> Iterator[facade.Tallystick]:
    with facade.Tallystick.open(**options) as made:
        yield made


@pytest.fixture
def house(still: facade.Tallystick) -> str:
    slug = f"sync-{uuid4().hex}"
    still.tenants.create(slug, name="A house")
    return slug


@pytest.fixture
def db(still: facade.Tallystick, house: str) -> Iterator[Any]:
    with still.session(house, actor="test", permissions=["*"]) as made:
        yield made


def test_the_verbs(db: facade.Session) -> None:
    ada, kofi = db.users.add_many([User(first_name=n, status=UserStatus.ACTIVE) for n in ("Ada", "Kofi")])
    assert db.users.get(ada.id) == ada
    assert db.users.get_or_none(uuid7()) is None
    changed = db.users.update(ada, first_name="Ada L.")
    with pytest.raises(StaleVersion):
        db.users.update(ada, first_name="late")
    page = db.users.page(limit=1)
    assert (len(page), page.has_next) == (1, True)
    assert {u.id for u in db.users.stream()} == {ada.id, kofi.id}
    assert [type(v).__name__ for v in db.users.history(changed.id)] == ["Version", "Version"]
    assert isinstance(db.users, facade.Repository)
    assert db.ledger.accounts.count() >= 0
    assert db.fetch(select(func.count()).select_from(User.table), into=dict)
    assert db.today() == db.now().date() or db.today()


def test_a_stream_reads_ahead_and_may_be_left(db: facade.Session) -> None:
    db.users.add_many([User() for _ in range(700)])
    assert sum(1 for _ in db.users.stream(batch=300)) == 700
    for number, _ in enumerate(db.users.stream()):
        if number == 3:
            break
    assert db.users.count() == 700


def test_transactions_and_atomic(db: facade.Session) -> None:
    with pytest.raises(ZeroDivisionError), db.transaction():
        db.users.add(User())
        raise ZeroDivisionError
    assert db.users.count() == 0
    seen: list[int] = []

    def work(inner: facade.Session) -> int:
        seen.append(threading.get_ident())
        inner.users.add(User())
        with inner.transaction():
            inner.users.add(User())
        inner.atomic(lambda deeper: deeper.users.add(User()))
        assert sum(1 for _ in inner.users.stream()) == 3
        return inner.users.count()

    assert db.atomic(work) == 3
    assert seen == [threading.get_ident()]
    with pytest.raises(NotFound):
        db.atomic(lambda inner: (inner.users.add(User()), inner.users.get(uuid7())))
    assert db.users.count() == 3


def test_work_items(db: Any) -> None:
    db[Job].add_many([Job(name=f"job {n}") for n in range(3)])
    for number, item in enumerate(db[Job].claim(limit=3)):
        if number == 0:
            with pytest.raises(ZeroDivisionError), item:
                raise ZeroDivisionError
        else:
            with item:
                assert item.attempt == 1
    assert [item.attempt for item in db[Job].claim(limit=3)] == [2]


def test_messages_go_to_plain_functions(still: facade.Tallystick, db: facade.Session) -> None:
    topic, stop, seen = f"t{uuid4().hex}", threading.Event(), set[int]()
    for n in range(4):
        db.outbox.add(topic, n, key="ab"[n % 2])

    def work(message: facade.Message[Any]) -> None:
        seen.add(threading.get_ident())
        with message.transaction() as inside:
            inside.users.add(User(first_name=str(message.payload)))
            if message.payload == 3 and not message.redelivered:
                raise ZeroDivisionError

    how = Handling(handler=work, retry=Retry(base=timedelta(0), cap=timedelta(0)))
    handled = still.outbox.run({topic: how}, concurrency=2, until_empty=True)
    assert (handled.done, handled.failed) == (4, 1)
    assert sorted(u.first_name or "" for u in db.users.find()) == ["0", "1", "2", "3"]
    assert threading.get_ident() not in seen
    stop.set()
    assert still.outbox.run({topic: work}, stop=stop).done == 0

    async def wrong(message: Any) -> None: ...

    class Called:
        async def __call__(self, message: Any) -> None: ...

    db.outbox.add(topic, 5)
    for anything in (wrong, functools.partial(wrong), Called()):
        handler: Any = anything
        for given in (handler, Handling(handler=handler)):
            with pytest.raises(Invalid, match="plain function"):
                still.outbox.run({topic: given}, until_empty=True)
    # Only by its answer is this one seen to be none.
    once = Handling(handler=lambda message: wrong(message), retry=Retry(attempts=1))
    assert still.outbox.run({topic: once}, until_empty=True).failed == 1
    assert [m.error for m in db.outbox.dead(topic)] == ["Invalid"]


def test_every_tenant_in_turn(still: facade.Tallystick, house: str) -> None:
    assert house in {each.tenant.slug for each in still.system()}


def test_threads_share_a_tally_and_not_an_open_transaction(still: facade.Tallystick, house: str, db: Any) -> None:
    def work(number: int) -> int:
        with still.session(house, actor=f"thread {number}", permissions=["*"]) as own, own.transaction():
            own.users.add(User(first_name=str(number)))
            return own.users.count()

    with ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(work, range(40)))) == 40
    assert db.users.count() == 40
    with db.transaction(), ThreadPoolExecutor(1) as threads, pytest.raises(Invalid, match="Another thread"):
        threads.submit(db.users.count).result()


def test_an_interrupt_cancels_the_work(still: facade.Tallystick, db: Any) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt), db.transaction():
            db.users.add(User())
            timer.start()
            db.fetch(select(func.pg_sleep(30)), into=dict)
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 15
    assert db.users.count() == 0
    assert still.metrics().pool.active == 0


@pytest.mark.parametrize("what", ["call", "block", "atomic", "stream"])
def test_an_interrupt_before_anybody_waits_leaves_nothing(
    still: facade.Tallystick, db: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Handing work over gives the loop's thread its turn, so that is when most interrupts are seen."""

    def block() -> None:
        with db.transaction():
            pytest.fail("it has begun")

    works: dict[str, Any] = {
        "call": lambda: db.users.add(User()),
        "block": block,
        "atomic": lambda: db.atomic(lambda inner: inner.users.add(User())),
        "stream": lambda: list(db.users.stream()),
    }
    loop = still._portal.loop
    send = loop.call_soon_threadsafe

    def interrupted(*given: Any) -> None:
        monkeypatch.undo()
        send(*given)
        time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        works[what]()
    assert still.metrics().pool.active == 0
    with db.transaction():
        assert db.users.count() <= (what == "call")


def test_errors_are_the_same_and_short(db: Any) -> None:
    with pytest.raises(NotFound) as caught:
        db.users.get(uuid7())
    files = [Path(f.filename).name for f in traceback.extract_tb(caught.value.__traceback__)]
    assert len(files) <= 6
    assert "events.py" not in files
    assert caught.value.__context__ is None


def test_context_goes_along() -> None:
    number: contextvars.ContextVar[int] = contextvars.ContextVar("number")
    portal = Portal()
    portal.start()

    async def read() -> int:
        return number.get()

    try:
        number.set(7)
        assert portal.run(read()) == 7
    finally:
        portal.stop()


def test_a_portal_that_ends_leaves_nobody_waiting() -> None:
    """Whoever calls at that moment hears that it is closed, in the middle of a callback too."""
    ended: list[Portal] = []

    def visit(portal: Portal) -> None:
        async def nothing() -> None:
            await asyncio.sleep(0)

        async def asking() -> None:
            await current(portal).ask(lambda: portal.run(nothing()))

        with pytest.raises(Unavailable):
            while True:
                portal.run(nothing())
                portal.run(asking())
        ended.append(portal)

    rounds, visitors, before = 20, 5, sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(rounds):
            portal = Portal()
            portal.start()
            threads = [threading.Thread(target=visit, args=[portal], daemon=True) for _ in range(visitors)]
            for thread in threads:
                thread.start()
            time.sleep(0.003)
            portal.stop()
            for thread in threads:
                thread.join(10)
                assert not thread.is_alive()
    finally:
        sys.setswitchinterval(before)
    assert len(ended) == rounds * visitors


async def test_inside_an_event_loop_it_refuses(still: facade.Tallystick, house: str) -> None:
    context = still.session(house, actor="test")
    with pytest.raises(Unsupported, match="running event loop"):
        context.__enter__()


def test_before_and_after_it_says_so(options: dict[str, Any]) -> None:
    made = facade.Tallystick.open(**options)
    with pytest.raises(Unavailable, match="not open"):
        made.session("anybody", actor="test").__enter__()
    made.start()
    made.start()
    made.close()
    made.close()
    with pytest.raises(Unavailable):
        made.tenants.create("late", name="Late")
    with made:
        assert made.metrics().pool.active == 0


def test_a_host_transaction_is_not_joined(still: facade.Tallystick, house: str) -> None:
    anything: Any = still
    with pytest.raises(Unsupported, match="joins no transaction"):
        anything.session(house, actor="test", connection=object())


def test_a_child_process_opens_its_own(still: facade.Tallystick, house: str, db: Any) -> None:
    db.users.add(User())
    read, write = os.pipe()
    child = os.fork()
    if not child:
        said = "nothing"
        try:
            try:
                db.users.count()
            except Unavailable:
                said = "refused"
            with still.session(house, actor="child", permissions=["*"]) as own:
                own.users.add(User())
                said += f" {own.users.count()}"
            still.close()
        except BaseException as problem:
            said = repr(problem)
        finally:
            os.write(write, said.encode())
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "refused 2"
    assert db.users.count() == 2


def test_a_fork_while_a_thread_opens_it(options: dict[str, Any], house: str) -> None:
    """The thread does not come along, and what it holds is nobody's."""
    made = facade.Tallystick.open(**options)
    begun, go_on = threading.Event(), threading.Event()
    start = made._app.start

    async def slow() -> None:
        begun.set()
        await asyncio.to_thread(go_on.wait, 30)
        await start()

    made._app.start = slow  # type: ignore[method-assign]
    opener = threading.Thread(target=made.start)
    opener.start()
    assert begun.wait(10)
    child = os.fork()
    if not child:
        signal.alarm(20)
        code = 1
        try:
            with made.session(house, actor="child", permissions=["*"]) as own:
                code = own.users.count()
            made.close()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    go_on.set()
    opener.join(20)
    assert made.metrics().pool.active == 0
    made.close()


def test_the_end_of_the_process_closes_it(tally: Any, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom tallystick.sync import Tallystick\nfrom tallystick import Settings\n"
        "tally = Tallystick.open(domains=['identity'], settings=Settings.load({}, database_url=sys.argv[1], "
        "role_prefix=sys.argv[2]))\ntally.start()\nprint(tally.metrics().pool.active)\n"
    )
    line = [sys.executable, "-W", "always", "-c", program, tally.settings.database_url, tally.settings.role_prefix]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_the_embedded_server_is_left_quietly_when_the_interpreter_ends() -> None:
    """Where nobody closed it, the facade does so when no thread can be had any more."""
    program = (
        "import asyncio, atexit\nfrom tallystick.stores.embedded.server import _in_thread as aside\n"
        "asyncio.run(aside(list))\natexit.register(lambda: print(asyncio.run(aside(list))))\n"
    )
    line = [sys.executable, "-W", "always", "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_everything_public_is_there() -> None:
    """Every public name of the asynchronous classes is in the types, and works on the facade's class."""
    tree = ast.parse((ROOT / "src/tallystick/sync/__init__.pyi").read_text())
    classes = {
        n.name: {m.name for m in n.body if isinstance(m, ast.FunctionDef)}
        for n in tree.body
        if isinstance(n, ast.ClassDef)
    }
    assert set(classes) == set(WHERE)
    offered = {n for c in Session.__mro__ for n, m in vars(c).items() if isinstance(m, property)}
    assert offered - {"verifier", "_session"} <= classes["Session"] | classes["Repositories"]
    for name in WHERE:
        made = getattr(facade, name)
        missing = {m for m in classes[name] if not hasattr(made, m) and not m.startswith("__")}
        assert not missing - _instance_attributes(name), (name, missing)
    assert issubclass(facade.Tallystick, facade_of(tallystick.Tallystick))


def _instance_attributes(name: str) -> set[str]:
    import importlib
    import inspect

    source = ast.parse(inspect.getsource(getattr(importlib.import_module(WHERE[name]), name)))
    return {n.attr for n in ast.walk(source) if isinstance(n, ast.Attribute)} | {
        n.target.id for n in ast.walk(source) if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
