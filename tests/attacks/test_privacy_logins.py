"""Attacks on logins: the rows "login" and "TOTP" of the threat model (security.md, section 2.4)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.attacks.conftest import Ground
from tests.attacks.test_secrets import everything

from tallystick import (
    Delay,
    ExternalSubject,
    FixedClock,
    Invalid,
    LoginPolicy,
    LoginRefused,
    LoginThrottle,
    ThrottleScope,
    User,
    UserStatus,
)
from tallystick.domains.identity import totp
from tallystick.domains.identity.logins import Logins
from tallystick.domains.identity.passwords import hasher_of
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.session import Session
from tallystick.testing import Race, Sandbox

Pair = tuple[TenantInfo, TenantInfo]
PASSWORD, CANARY = "correct horse battery", "Canary7f3a"
ANN, HERE = f"{CANARY}@example.org", "203.0.113.7"
WIDE = Delay(free=1_000, first=1, most=1, window=timedelta(days=1))
QUICK = LoginPolicy(
    memory_kib=64, passes=1, hashes_at_once=2, answer_after=0, pair=WIDE, account=WIDE, source=WIDE, pepper=1
)


async def person(db: Session, policy: LoginPolicy = QUICK, email: str = ANN) -> User:
    made = await db.users.add(User(email=email, status=UserStatus.ACTIVE))
    await Logins(db, policy).passwords.set(made, PASSWORD)
    return await db.users.get(made.id)


def code(shared: str, ahead: int = 0, moment: datetime | None = None) -> str:
    return totp.code_at(base64.b32decode(shared), totp.step_at(moment or datetime.now(UTC)) + ahead)


def wrong_code(shared: str, moment: datetime | None = None) -> str:
    """Six digits that no step near this moment has."""
    near = {code(shared, ahead, moment) for ahead in range(-10, 11)}
    return next(one for one in map("{:06}".format, range(100)) if one not in near)


# -- login -----------------------------------------------------------------------------------------------------------


async def test_login_an_unknown_account_costs_what_a_wrong_password_does(db: Session):
    dear = replace(QUICK, memory_kib=16_384, passes=3)
    await person(db, dear)
    logins = Logins(db, dear)
    for email, status in (("sue@example.org", UserStatus.SUSPENDED), ("pat@example.org", None)):
        made = await person(db, dear, email)
        if status is not None:
            await db.users.update(made, status=status)
    # One without a password, as after a login by an identity provider.
    await db.users.add(User(email="eve@example.org", status=UserStatus.ACTIVE))
    throttled = Logins(db, replace(dear, pair=Delay(free=1, first=9_000, most=9_000, window=timedelta(days=1))))
    for _ in range(2):
        with pytest.raises(LoginRefused):
            await throttled.password("pat@example.org", "wrong", source=HERE)

    async def once(email: str, password: str) -> float:
        # The processor's time and not the clock's: what else runs on the machine is no part of it.
        started = time.process_time()
        with pytest.raises(LoginRefused):
            await logins.password(email, password, source=HERE)
        return time.process_time() - started

    kinds = {
        "wrong": (ANN, "wrong horse"),
        "unknown": ("nobody@example.org", PASSWORD),
        "suspended": ("sue@example.org", PASSWORD),
        "delayed": ("pat@example.org", PASSWORD),
        "none": ("eve@example.org", PASSWORD),
        "long": (ANN, "x" * 5_000),
    }
    took: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(5):
        for name, given in kinds.items():
            took[name].append(await once(*given))
    best = {name: min(times) for name, times in took.items()}
    assert max(best.values()) < 1.6 * min(best.values()), best


async def test_login_every_failure_is_the_same_error_without_a_trace_of_the_other(db: Session):
    ann = await person(db)
    logins = Logins(db, QUICK)
    begun = await logins.mfa.enrol(ann, PASSWORD, source=HERE)
    await logins.mfa.confirm(ann, code(begun.secret), source=HERE)
    challenge = (await logins.password(ANN, PASSWORD, source=HERE)).challenge
    assert challenge is not None
    seen = set()
    for attempt in (
        logins.password(ANN, "wrong", source=HERE),
        logins.password("nobody@example.org", PASSWORD, source=HERE),
        logins.second_factor(challenge, wrong_code(begun.secret), source=HERE),
        logins.second_factor("no such challenge", wrong_code(begun.secret), source=HERE),
        logins.external(ExternalSubject("https://id.example.org", CANARY), source=HERE),
        logins.passwords.reset("no such token", "another long one"),
        logins.passwords.change(ann, "wrong", "another long one", source=HERE),
        logins.mfa.remove(ann, "wrong", wrong_code(begun.secret), source=HERE),
    ):
        with pytest.raises(LoginRefused) as caught:
            await attempt
        error = caught.value
        assert error.__cause__ is None
        assert error.__context__ is None
        assert CANARY not in everything(error)
        seen.add((type(error), error.args, error.problem, error.remedy))
    assert len(seen) == 1


async def test_login_a_failure_that_is_rolled_back_or_given_up_is_not_forgotten(
    race: Race, db: Session, monkeypatch: pytest.MonkeyPatch
):
    await person(db)
    logins = Logins(db, QUICK)
    # Inside a transaction that the caller would roll back, nothing is even judged.
    with contextlib.suppress(RuntimeError):
        async with db.transaction():
            with pytest.raises(Invalid):
                await logins.password(ANN, PASSWORD, source=HERE)
            raise RuntimeError
    assert not await db[LoginThrottle].exists()
    # A caller that hangs up while its password is compared was counted before.
    comparing = asyncio.Event()

    async def compares(*_: object) -> bool:
        comparing.set()
        return await asyncio.Event().wait()

    monkeypatch.setattr(hasher_of(QUICK), "fits", compares)
    for _ in range(3):
        comparing.clear()
        attempt = asyncio.create_task(logins.password(ANN, "wrong", source=HERE))
        async with asyncio.timeout(30):
            await comparing.wait()
        attempt.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await attempt
    (pair,) = await db[LoginThrottle].find(LoginThrottle.scope == ThrottleScope.PAIR)
    assert pair.tries == 3


async def test_login_a_flood_makes_no_victim_of_the_account(sandbox: Sandbox, db: Session):
    clock = sandbox.tally.clock = FixedClock(datetime.now(UTC))
    policy = replace(
        QUICK,
        pair=Delay(free=3, first=1, most=900, window=timedelta(days=1)),
        account=Delay(free=10, first=1, most=60, window=timedelta(days=1)),
        tenant=Delay(free=30, first=60, most=60, window=timedelta(minutes=1)),
    )
    await person(db)
    logins = Logins(db, policy)
    await logins.password(ANN, PASSWORD, source=HERE)
    for n in range(60):
        with pytest.raises(LoginRefused):
            await logins.password(ANN, "wrong", source=f"198.51.100.{n}")
        clock.advance(timedelta(milliseconds=10))
    # Who has been here before comes in under fire, and from anywhere else after at most the longest wait.
    assert (await logins.password(ANN, PASSWORD, source=HERE)).actor
    for n in range(60):
        with pytest.raises(LoginRefused):
            await logins.password(ANN, "wrong", source=f"192.0.2.{n}")
    clock.advance(timedelta(seconds=60))
    assert (await logins.password(ANN, PASSWORD, source="2001:db8::1")).actor


async def test_login_a_source_cannot_come_from_another_address_of_its_own(db: Session):
    await person(db)
    logins = Logins(db, replace(QUICK, pair=Delay(free=3, first=600, most=600, window=timedelta(days=1))))
    for n in range(4):
        with pytest.raises(LoginRefused):
            await logins.password(ANN, "wrong", source=f"2001:db8:7:7::{n + 1:x}")
    with pytest.raises(LoginRefused):
        await logins.password(ANN, PASSWORD, source="2001:db8:7:7:aaaa:bbbb:cccc:dddd")
    assert (await logins.password(ANN, PASSWORD, source="2001:db8:7:8::1")).actor


async def test_login_hashing_keeps_within_its_threads_and_leaves_the_loop_alone():
    policy = replace(QUICK, memory_kib=16_384, passes=4, hashes_at_once=2, waiting=30)
    hasher, hashes, ticks, most = hasher_of(policy), 8, 0, 0
    others = set(threading.enumerate())  # other policies of this run have threads of their own
    done = asyncio.gather(*(hasher.hash(b"pw", lambda _: b"k" * 32) for _ in range(hashes)))
    while not done.done():
        await asyncio.sleep(0.001)
        ticks += 1
        new = set(threading.enumerate()) - others
        most = max(most, sum(t.name.startswith("tallystick-password") for t in new))
    await done
    assert most <= 2
    assert hasher._threads._max_workers == 2
    # A hash that held the loop up would leave it one turn when it ends.
    assert ticks > 3 * hashes


async def test_login_a_stolen_hash_needs_the_key_of_the_pepper(db: Session):
    ann = await person(db)
    desk = Logins(db, QUICK)._desk
    stored = await desk.stored(ann)
    assert stored is not None
    given = PASSWORD.encode()
    assert await desk.hasher.fits(given, stored, desk.pepper)
    assert not await desk.hasher.fits(given, stored, lambda _: b"\1" * 32)
    assert not await desk.hasher.fits(given, stored.removeprefix("1"), desk.pepper)
    assert not await desk.hasher.fits(given, f"2{stored[1:]}", desk.pepper)


async def test_login_of_an_erased_person(office: Session):
    ann = await person(office)
    logins = Logins(office, QUICK)
    token = await logins.passwords.request_reset(ANN, source=HERE)
    await office.privacy.erase(await office.privacy.request_erasure(ann))
    with pytest.raises(LoginRefused):
        await logins.password(ANN, PASSWORD, source=HERE)
    assert token is not None
    with pytest.raises(LoginRefused):
        await logins.passwords.reset(token, "another long one")
    with pytest.raises(LoginRefused):
        await logins.passwords.change(ann, PASSWORD, "another long one", source=HERE)


async def test_login_leaves_nothing_personal_in_tables_logs_or_the_trail(
    ground: Ground, pair: Pair, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    typed = {"password": "Canary9be1 horse", "source": "203.0.113.99", "subject": "Canary55d0", "email": ANN}
    async with ground.tally.session(pair[0].id, actor="web", permissions=("*",)) as db:
        ann = await person(db)
        logins = Logins(db, QUICK)
        await logins.passwords.change(ann, PASSWORD, typed["password"], source=typed["source"])
        begun = await logins.mfa.enrol(ann, typed["password"], source=typed["source"])
        codes = await logins.mfa.confirm(ann, code(begun.secret), source=typed["source"])
        first = await logins.password(ANN, typed["password"], source=typed["source"])
        assert first.challenge is not None
        await logins.second_factor(first.challenge, codes[0], source=typed["source"])
        token = await logins.passwords.request_reset(ANN, source=typed["source"])
        assert token is not None
        for attempt in (
            logins.password(ANN, typed["password"] + "x", source=typed["source"]),
            logins.password("Canary1122@example.org", typed["password"], source=typed["source"]),
            logins.second_factor(first.challenge, codes[1], source=typed["source"]),
        ):
            with pytest.raises(LoginRefused) as caught:
                await attempt
            assert "Canary" not in everything(caught.value)
        await logins.identities.link(ann, ExternalSubject("https://id.example.org", typed["subject"]))
        typed |= {"totp": begun.secret, "token": token, "challenge": first.challenge, "code": codes[0]}
        typed |= {"bare": codes[0].replace("-", ""), "other": "Canary1122"}
        assert "Canary" not in repr(first) + repr(begun) + repr(ann)
    needles = [n.encode() for n in typed.values()]
    async with ground.connected("superuser") as raw:
        tables = await raw.fetch(
            "SELECT table_schema || '.' || table_name FROM information_schema.columns "
            "WHERE table_schema IN ('tally', 'tally_audit') AND column_name = 'tenant_id'"
        )
        assert len(tables) > 40
        for (table,) in tables:
            for (row,) in await raw.fetch(f"SELECT to_jsonb(t)::text FROM {table} t WHERE tenant_id = $1", pair[0].id):
                held = row.encode()
                found = [n for n in needles if n in held or n.hex().encode() in held]
                assert not found, f"{table} holds {found}"
    assert not [n for n in typed.values() if n in caplog.text]


# -- TOTP ------------------------------------------------------------------------------------------------------------


async def test_totp_the_same_code_twice_at_once_lets_one_in(race: Race, db: Session):
    ann = await person(db)
    logins = Logins(db, QUICK)
    begun = await logins.mfa.enrol(ann, PASSWORD, source=HERE)
    await logins.mfa.confirm(ann, code(begun.secret), source=HERE)
    keys = [(await logins.password(ANN, PASSWORD, source=HERE)).challenge or "" for _ in range(2)]
    typed = code(begun.secret, 1)
    result = await race(2, lambda s, i: Logins(s, QUICK).second_factor(keys[i], typed, source=HERE))
    assert (result.winners, result.kinds) == (1, {LoginRefused})


async def test_totp_a_code_seen_over_a_shoulder_is_of_no_use(sandbox: Sandbox, db: Session):
    clock = sandbox.tally.clock = FixedClock(datetime.now(UTC))
    ann = await person(db)
    logins = Logins(db, QUICK)
    begun = await logins.mfa.enrol(ann, PASSWORD, source=HERE)
    seen = code(begun.secret, moment=clock.now())
    await logins.mfa.confirm(ann, seen, source=HERE)
    # The one that enrolled, an earlier one, and, after a later one was used, all before it.
    early = code(begun.secret, -1, clock.now())
    later = code(begun.secret, 1, clock.now())
    challenge = (await logins.password(ANN, PASSWORD, source=HERE)).challenge or ""
    for stale in (seen, early):
        with pytest.raises(LoginRefused):
            await logins.second_factor(challenge, stale, source=HERE)
    await logins.second_factor(challenge, later, source=HERE)
    again = (await logins.password(ANN, PASSWORD, source=HERE)).challenge or ""
    for stale in (later, seen, early):
        with pytest.raises(LoginRefused):
            await logins.second_factor(again, stale, source=HERE)
    # Taking the factor off needs an unused code too.
    with pytest.raises(LoginRefused):
        await logins.mfa.remove(ann, PASSWORD, later, source=HERE)


async def test_totp_a_right_password_does_not_buy_more_guesses_of_codes(sandbox: Sandbox, db: Session):
    clock = sandbox.tally.clock = FixedClock(datetime.now(UTC))
    ann = await person(db)
    begun = await Logins(db, QUICK).mfa.enrol(ann, PASSWORD, source=HERE)
    await Logins(db, QUICK).mfa.confirm(ann, code(begun.secret, moment=clock.now()), source=HERE)
    strict = Logins(db, replace(QUICK, pair=Delay(free=3, first=60, most=900, window=timedelta(days=1))))
    judged = 0
    for _ in range(200):
        try:
            first = await strict.password(ANN, PASSWORD, source=HERE)
        except LoginRefused:
            clock.advance(timedelta(seconds=30))
            continue
        with pytest.raises(LoginRefused):
            await strict.second_factor(first.challenge or "", wrong_code(begun.secret, clock.now()), source=HERE)
        judged += 1
    # In the hour and a half that this took; without the wait it would have been all 200.
    assert judged < 16


async def test_totp_the_secret_is_sealed_with_the_persons_key(db: Session):
    ann = await person(db)
    begun = await Logins(db, QUICK).mfa.enrol(ann, PASSWORD, source=HERE)
    rows = await db.unit.call("SELECT mfa_secret FROM tally.user_account WHERE tenant_id = $1", (db.tenant_id,))
    raw = bytes(rows[0][0])
    assert begun.secret.encode() not in raw
    assert base64.b32decode(begun.secret) not in raw
    found = await db.users.get(ann.id)
    assert begun.secret not in repr(found.mfa_secret)
    assert begun.secret not in repr(found)
