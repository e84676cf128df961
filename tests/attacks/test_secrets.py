"""What must never be seen: stored values and passwords in errors, in what Python logs, in the server's log file."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from tests.attacks.conftest import Ground
from tests.attacks.entities import Holder, Note, Parcel, Stage, holder, parcel

from tallystick import Application, EmploymentStatus, Money, Ref, Session, Tallystick, User, secret, usd
from tallystick.codec import codec_of
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.entity import spec_of
from tallystick.errors import Invalid, TallystickError, Tampered
from tallystick.ids import uuid7
from tallystick.privacy.sealed import MASK
from tallystick.settings import Settings, connect_args
from tallystick.stores.postgres.errors import translate

Pair = tuple[TenantInfo, TenantInfo]
CANARY = "Canary7f3a"
DIGITS = "480917263545"


def everything(error: BaseException) -> str:
    """All that a logger, a crash reporter or a curious developer could print of an error."""
    seen: set[int] = set()
    parts: list[str] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        parts += [str(one), repr(one), repr(one.args), repr(vars(one)), repr(getattr(one, "__notes__", ""))]
        waiting += [one.__cause__, one.__context__]
    return "\n".join([*parts, *traceback.format_exception(error)])


def clean(text: str) -> bool:
    return CANARY not in text and DIGITS not in text


def loud_parcel(home: Any, **given: Any) -> Parcel:
    """A parcel with a canary in every field that can hold one."""
    full: dict[str, Any] = {
        "label": f"{CANARY} label",
        "remark": f"{CANARY} remark",
        "document": {"text": f"{CANARY} document"},
        "note": Note(f"{CANARY} note"),
        "tags": [f"{CANARY} tag"],
        "raw": f"{CANARY} raw".encode(),
        "national_id": secret(DIGITS),
        "score": secret(int(DIGITS)),
        "phone": f"+{DIGITS}",
        "address": {"street": f"{CANARY} street"},
    }
    return parcel(home, **(full | given))


def loud_holder(**given: Any) -> Holder:
    return holder(**({"code": f"{CANARY} code", "email": f"{CANARY}@example.org", "name": f"{CANARY} name"} | given))


def loud_application(**given: Any) -> Application:
    full: dict[str, Any] = {
        "full_legal_name": f"{CANARY} Name",
        "ssn": secret(DIGITS),
        "annual_income": usd("1000"),
        "employment_status": EmploymentStatus.EMPLOYED,
        "credit_score": secret(int(DIGITS)),
        "email": f"{CANARY}@example.org",
        "phone": DIGITS,
        "address": {"street": f"{CANARY} street"},
        "identity_verification": {"result": CANARY},
        "credit_report": {"text": CANARY},
        "kyc_documents": {"passport": CANARY},
        "ip_address": f"{CANARY}",
        "user_agent": f"{CANARY} agent",
        "device_fingerprint": {"hash": CANARY},
        "idempotency_key": "one",
    }
    return Application(**(full | given))


FAILING: dict[str, Callable[[Session, Any], Awaitable[Any]]] = {
    "duplicate": lambda db, s: db[Parcel].add(loud_parcel(s.home)),
    "duplicate in bulk": lambda db, s: db[Parcel].add_many([loud_parcel(s.home), loud_parcel(s.home)]),
    "duplicate of a personal field": lambda db, s: db[Holder].add(loud_holder(code="other")),
    "duplicate id": lambda db, s: db[Parcel].add(loud_parcel(s.home, id=s.row.id, label="x")),
    "duplicate by update": lambda db, s: db[Parcel].update(s.other, label=f"{CANARY} label"),
    "duplicate by bulk update": lambda db, s: db[Parcel].update_where(Parcel.label == "other", label=f"{CANARY} label"),
    "duplicate application": lambda db, s: db.applications.add(loud_application()),
    "check": lambda db, s: db[Parcel].add(loud_parcel(s.home, label="x", fee=usd("-1"))),
    "check by update": lambda db, s: db[Parcel].update(s.row, remark=f"{CANARY} 2", fee=usd("-1")),
    "reference": lambda db, s: db[Parcel].add(loud_parcel(uuid7(), label="x")),
    "still referenced": lambda db, s: db[Holder].purge(s.home, reason="gone"),
    "step": lambda db, s: db[Parcel].update(s.row, stage=Stage.GONE, remark=f"{CANARY} 3"),
    "start": lambda db, s: db[Parcel].add(loud_parcel(s.home, label="x", stage=Stage.GONE)),
    "stale": lambda db, s: db[Parcel].update(s.stale, remark=f"{CANARY} 4"),
    "length": lambda db, s: db[Parcel].update(s.row, label=CANARY * 20),
    "NUL": lambda db, s: db[Parcel].update(s.row, remark=f"{CANARY}\0"),
    "surrogate": lambda db, s: db[Parcel].update(s.row, remark=f"{CANARY}\ud800"),
    "index too large": lambda db, s: db[Parcel].update(s.row, remark=noise() + CANARY),
    "kind": lambda db, s: db[Parcel].update(s.row, count=CANARY),
    "kind of a secret": lambda db, s: db[Parcel].update(s.row, score=secret(CANARY)),
    "secret without seal": lambda db, s: db[Parcel].update(s.row, national_id=DIGITS),
    "nothing to index": lambda db, s: db[Parcel].update(s.row, phone=CANARY.translate({ord(c): None for c in "73"})),
    "not an address": lambda db, s: db[Holder].update(s.home, email=f"{CANARY}@"),
    "personal kind": lambda db, s: db[Parcel].update(s.row, address=[CANARY]),
    "personal NUL": lambda db, s: db[Parcel].update(s.row, address={"a": f"{CANARY}\0"}),
    "personal surrogate": lambda db, s: db[Holder].update(s.home, name=f"{CANARY}\ud800"),
    "document kind": lambda db, s: db[Parcel].update(s.row, tags=[CANARY, 5]),
    "document of another shape": lambda db, s: db[Parcel].update(s.row, note={"text": 5, "score": CANARY}),
    "promoted key": lambda db, s: db[Parcel].update(s.row, document={"score": CANARY}),
    "enum": lambda db, s: db[Parcel].update(s.row, stage=CANARY),
    "money": lambda db, s: db[Parcel].update(s.row, fee=CANARY),
    "asset": lambda db, s: db[Parcel].update(s.row, fee=Money(1, CANARY * 5)),
    "filter": lambda db, s: filtered(db, {"stage": CANARY}),
    "filter number": lambda db, s: filtered(db, {"count": CANARY}),
    "filter money": lambda db, s: filtered(db, {"fee": f"{CANARY} USD"}),
    "filter name": lambda db, s: filtered(db, {"national_id_bidx": DIGITS}),
    "condition": lambda db, s: db[Parcel].find(Parcel.count == CANARY),
    "condition on a secret": lambda db, s: db[Parcel].find(Parcel.national_id == secret(DIGITS)),
    "several matches": lambda db, s: db[Parcel].one(Parcel.count == 0),
    "no match": lambda db, s: db[Holder].one(Holder.name == f"{CANARY}"),
    "reveal without right": lambda db, s: without_rights(db, s),
    "reveal of another field": lambda db, s: db[Parcel].reveal(s.row.id, Parcel.label, reason="x"),
    "quota": lambda db, s: db.consume("users", 10**6),
    "moved ciphertext": lambda db, s: db[Parcel].update(s.other, national_id=s.row.national_id),
}


def noise() -> str:
    return "".join(chr(0x4E00 + (n * 7919) % 20_000) for n in range(5_000))


async def filtered(db: Session, params: dict[str, str]) -> Any:
    return await db[Parcel].find(Parcel.Filter.parse(params))


async def without_rights(db: Session, state: Any) -> Any:
    async with db._app.session(db.tenant, actor="nobody") as other:
        return await other[Parcel].reveal(state.row.id, Parcel.national_id, reason=f"{CANARY} reason")


class State:
    home: Holder
    row: Parcel
    other: Parcel
    stale: Parcel


async def prepare(db: Session) -> State:
    state = State()
    state.home = await db[Holder].add(loud_holder())
    state.row = await db[Parcel].add(loud_parcel(state.home))
    state.other = await db[Parcel].add(parcel(state.home, "other"))
    state.stale = state.other
    state.other = await db[Parcel].update(state.other, seen_at=datetime.now(UTC))
    await db.applications.add(loud_application())
    await db.users.add(User(email=f"{CANARY}@example.org", first_name=CANARY, password_hash=secret(CANARY)))
    return state


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
@pytest.mark.parametrize("how", FAILING)
async def test_no_error_of_any_kind_carries_a_stored_value(
    ground: Ground, pair: Pair, caplog: pytest.LogCaptureFixture, how: str, inside: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    async with ground.tally.session(pair[0], actor="a", permissions=["*"]) as db:
        state = await prepare(db)
        before = [await db[e].count() for e in (Holder, Parcel, Application)]
        with pytest.raises(TallystickError) as caught:
            if inside:
                async with db.transaction():
                    await FAILING[how](db, state)
            else:
                await FAILING[how](db, state)
        assert caught.value.remedy
        # The text of the test's own source lines is in a traceback; the values are not.
        told = everything(caught.value)
        assert clean(told), told
        assert [await db[e].count() for e in (Holder, Parcel, Application)] == before
        assert (await db[Parcel].get(state.row.id)).version == 1
    assert clean(caplog.text)


async def test_what_entities_show_of_themselves_is_masked(ground: Ground, pair: Pair) -> None:
    async with ground.tally.session(pair[0], actor="a", permissions=["*"]) as db:
        state = await prepare(db)
        for made in (
            state.home,
            state.row,
            *await db[Parcel].find(load=[Parcel.holder]),
            *await db.applications.find(),
        ):
            for shown in (repr(made), str(made), f"{made}", repr([made]), repr({"x": made})):
                assert DIGITS not in shown
                assert f"{CANARY} name" not in shown
                assert f"{CANARY}@" not in shown
                assert f"{CANARY} street" not in shown
        row = await db[Parcel].get(state.row.id)
        assert repr(row.national_id) == f"Secret({MASK}{DIGITS[-4:]})"
        assert str(row.score) == MASK
        with pytest.raises(TypeError):
            msgspec.json.encode(row)
        assert await db[Parcel].reveal(row.id, Parcel.national_id, reason="a check") == DIGITS


async def test_a_row_that_this_code_cannot_read_is_told_without_its_content(ground: Ground, pair: Pair) -> None:
    codec = codec_of(spec_of(Parcel))
    async with ground.tally.session(pair[0], actor="a") as db:
        state = await prepare(db)
        row = list(await db.unit.get(codec, state.row.id))
        opener = await db.sealer.opener(codec, (row,))
        for column, stored in (
            ("stage", CANARY),
            ("note", f'{{"text": 5, "score": "{CANARY}"}}'),
            ("tags", f'{{"{CANARY}": 1}}'),
        ):
            changed = list(row)
            changed[codec.spec.read_columns.index(column)] = stored
            for read in (lambda c=changed: codec.decode(c, opener), lambda c=changed: codec.decode_all([c], opener)):
                with pytest.raises(Invalid) as caught:
                    read()
                assert clean(everything(caught.value))


async def test_ciphertext_that_was_moved_or_altered_is_noticed_and_not_shown(ground: Ground, pair: Pair) -> None:
    async with ground.tally.session(pair[0], actor="a", permissions=["*"]) as db:
        one = await db[Holder].add(loud_holder())
        two = await db[Holder].add(holder("two", name=f"{CANARY} two"))
        async with ground.connected("superuser") as root:
            await root.execute(f"SET tally.tenant = '{pair[0].id}'; SET tally.actor = 'thief'")
            await root.execute(
                "UPDATE tally.holder SET name = (SELECT name FROM tally.holder WHERE id = $1) WHERE id = $2",
                one.id,
                two.id,
            )
        for read in (lambda: db[Holder].get(two.id), lambda: db[Holder].find()):
            with pytest.raises(Tampered) as caught:
                await read()
            assert clean(everything(caught.value))
        assert (await db[Holder].get(one.id)).name == f"{CANARY} name"


async def test_the_servers_log_holds_no_personal_value_however_much_it_logs(ground: Ground, pair: Pair) -> None:
    """Statements, parameters, durations, details of errors, all of it switched on by an administrator."""
    if ground.server.embedded is None:
        pytest.skip("the log of a named server is not ours to read")
    log = ground.server.embedded.log_file
    settings = {
        "log_statement": "all",
        "log_min_duration_statement": "0",
        "log_min_messages": "debug1",
        "log_min_error_statement": "debug5",
        "log_error_verbosity": "verbose",
        "log_parameter_max_length": "-1",
        "log_parameter_max_length_on_error": "-1",
    }
    async with ground.connected("superuser") as root:
        for name, value in settings.items():
            await root.execute(f"ALTER DATABASE {ground.database} SET {name} = '{value}'")
    try:
        start = log.stat().st_size
        async with ground.opened() as tally:
            async with tally.session(pair[0], actor="the actor is told", permissions=["*"]) as db:
                state = await prepare(db)
                for how in FAILING.values():
                    with pytest.raises(TallystickError):
                        await how(db, state)
                await db[Parcel].reveal(state.row.id, Parcel.national_id, reason="a check")
                await db[Holder].find(Holder.email == f"{CANARY}@example.org", Holder.name != None)  # noqa: E711
    finally:
        async with ground.connected("superuser") as root:
            for name in settings:
                await root.execute(f"ALTER DATABASE {ground.database} RESET {name}")
    written = log.read_bytes()[start:].decode(errors="replace")
    assert "INSERT INTO tally.parcel" in written
    assert "the actor is told" in written
    # Plain fields are there, for all to see who may read the log; what is personal or secret is not.
    assert f"{CANARY} label" in written
    for personal in (DIGITS, f"{CANARY}@", f"{CANARY} name", f"{CANARY} Name", f"{CANARY} street", f"{CANARY} agent"):
        assert personal not in written
        assert personal.encode().hex() not in written


PASSWORD = "pa55w0rd-Canary7f3a"


@pytest.mark.parametrize(
    "how", ["refused", "no host", "wrong password", "no database", "bad port", "bad option", "tls"]
)
async def test_a_password_is_in_no_error_no_repr_and_no_log(
    ground: Ground, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level(logging.DEBUG)
    target = connect_args(ground.url("app"))
    query = f"?host={target['host']}&port={target['port']}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    url = {
        "refused": f"postgresql://tally_app:{PASSWORD}@127.0.0.1:{closed}/x",
        "no host": f"postgresql://tally_app:{PASSWORD}@nowhere.invalid/x",
        "wrong password": f"postgresql://{target['user']}:{PASSWORD}@/{target['database']}{query}",
        "no database": f"postgresql://{target['user']}:{target['password']}@/{PASSWORD}{query}",
        "bad port": f"postgresql://tally_app:{PASSWORD}@127.0.0.1:99999/x",
        "bad option": f"postgresql://tally_app:{PASSWORD}@127.0.0.1/x?password={PASSWORD}",
        "tls": f"postgresql://tally_app:{PASSWORD}@db.example.org/x?sslmode=prefer",
    }[how]
    shown = ""
    with pytest.raises(TallystickError) as caught:
        settings = Settings.load({}, database_url=url, connect_timeout=5)
        shown = repr(settings)
        async with Tallystick.open(settings=settings, keys=ground.keys):
            pass
    assert caught.value.remedy
    secrets = [PASSWORD] if how == "no database" else [PASSWORD, target["password"]]
    for hidden in secrets:
        assert hidden not in everything(caught.value)
        assert hidden not in caplog.text
    if how != "no database":
        assert PASSWORD not in shown


async def test_no_server_message_is_ever_passed_on(ground: Ground, pair: Pair) -> None:
    """Whatever the SQLSTATE: the message, DETAIL, HINT and CONTEXT of the server stay behind."""
    async with ground.connected("app") as connection:
        async with connection.transaction():
            await connection.execute("SELECT 1")
    for state in (
        "23505",
        "23503",
        "23514",
        "23502",
        "22001",
        "22P02",
        "42501",
        "XX000",
        "P0001",
        "TS300",
        "57014",
        "",
    ):
        problem = asyncpg.PostgresError(f"{CANARY} message")
        for name in ("detail", "hint", "context", "where", "schema_name", "data_type_name"):
            setattr(problem, name, f"{CANARY} {name}")
        problem.sqlstate = state
        if state == "TS300":
            problem.detail = "open -> gone"
        assert clean(everything(translate(problem, spec_of(Parcel), "add"))), state


async def test_an_error_raised_while_another_is_handled_shows_only_the_applications_own(
    ground: Ground, pair: Pair
) -> None:
    """Python links errors to what was being handled; from our side nothing is handled any more."""
    async with ground.tally.session(pair[0], actor="a") as db:
        await db[Holder].add(loud_holder())
        with pytest.raises(TallystickError) as caught:
            await db[Holder].add(loud_holder())
        assert caught.value.__context__ is None
        assert caught.value.__cause__ is None
        task = asyncio.create_task(db[Holder].add(loud_holder()))
        (problem,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(problem, TallystickError)
        assert problem.__context__ is None
        with pytest.raises(TallystickError) as caught:
            await db[Parcel].add(parcel(Ref(uuid4()), CANARY))
        assert caught.value.__context__ is None
