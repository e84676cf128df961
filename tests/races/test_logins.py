"""Sixteen callers at one account: guesses are all counted, and what holds once holds once."""

from __future__ import annotations

import asyncio
import base64
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tallystick import (
    Authenticator,
    Delay,
    LoginPolicy,
    LoginRefused,
    LoginThrottle,
    RecoveryCode,
    ThrottleScope,
    Unavailable,
    User,
    UserStatus,
    present,
)
from tallystick.domains.identity import totp
from tallystick.domains.identity.logins import Logins
from tallystick.domains.identity.passwords import hasher_of
from tallystick.session import Session
from tallystick.testing import Race

N = 16
REPEATS = range(5)
PASSWORD = "correct horse battery"
HERE = "203.0.113.7"
WIDE = Delay(free=1_000, first=1, most=1, window=timedelta(days=1))
#: Nobody waits: what is shown is not the throttle's doing.
OPEN = LoginPolicy(
    memory_kib=64, passes=1, hashes_at_once=2, waiting=60, answer_after=0, pair=WIDE, account=WIDE, source=WIDE
)
STRICT = replace(OPEN, pair=Delay(free=3, first=600, most=600, window=timedelta(days=1)))


async def person(db: Session) -> User:
    made = await db.users.add(User(email="ann@example.org", status=UserStatus.ACTIVE))
    await Logins(db, OPEN).passwords.set(made, PASSWORD)
    return made


async def enrolled(db: Session, user: User) -> tuple[str, list[str]]:
    """A second factor in force, put on by the present code."""
    mfa = Logins(db, OPEN).mfa
    begun = await mfa.enrol(user, PASSWORD, source=HERE)
    return begun.secret, await mfa.confirm(user, code(begun.secret, 0), source=HERE)


def code(shared: str, ahead: int) -> str:
    return totp.code_at(base64.b32decode(shared), totp.step_at(datetime.now(UTC)) + ahead)


async def challenges(db: Session) -> list[str]:
    made = [await Logins(db, OPEN).password("ann@example.org", PASSWORD, source=HERE) for _ in range(N)]
    return [m.challenge or "" for m in made]


@pytest.mark.parametrize("_", REPEATS)
async def test_sixteen_guesses_at_once_count_sixteen(race: Race, db: Session, _: int):
    await person(db)

    async def guess(s: Session, i: int) -> None:
        await Logins(s, STRICT).password("ann@example.org", f"wrong horse {i}", source=HERE)

    result = await race(N, guess)
    assert (result.winners, result.kinds) == (0, {LoginRefused})
    (pair,) = await db[LoginThrottle].find(LoginThrottle.scope == ThrottleScope.PAIR)
    assert pair.tries == N
    entries = (await db.audit.entries("user_account", ops=("E",))).items
    because = [(e.event or {}).get("data", {}).get("because") for e in entries]
    # Three are free, the fourth brings the wait, and none of the others was compared with the password.
    assert (because.count("wrong password"), because.count("too early")) == (4, N - 4)
    with pytest.raises(LoginRefused):
        await Logins(db, STRICT).password("ann@example.org", PASSWORD, source=HERE)


@pytest.mark.parametrize("_", REPEATS)
async def test_sixteen_right_ones_all_get_in(race: Race, db: Session, _: int):
    await person(db)
    result = await race(N, lambda s: Logins(s, OPEN).password("ann@example.org", PASSWORD, source=HERE))
    assert result.winners == N
    assert {t.tries for t in await db[LoginThrottle].find()} == {0}


async def test_sixteen_right_ones_get_in_when_the_cost_has_changed(race: Race, db: Session):
    await person(db)
    dearer = replace(OPEN, passes=2)
    result = await race(N, lambda s: Logins(s, dearer).password("ann@example.org", PASSWORD, source=HERE))
    assert result.errors == []
    assert {t.tries for t in await db[LoginThrottle].find()} == {0}


@pytest.mark.parametrize("_", REPEATS)
async def test_one_code_lets_one_in(race: Race, db: Session, _: int):
    ann = await person(db)
    shared, _codes = await enrolled(db, ann)
    keys, typed = await challenges(db), code(shared, 1)
    result = await race(N, lambda s, i: Logins(s, OPEN).second_factor(keys[i], typed, source=HERE))
    assert (result.winners, result.kinds) == (1, {LoginRefused})
    assert await db[Authenticator].count(Authenticator.user == ann.ref) == 1


@pytest.mark.parametrize("_", REPEATS)
async def test_one_challenge_and_one_recovery_code_let_one_in(race: Race, db: Session, _: int):
    ann = await person(db)
    _shared, codes = await enrolled(db, ann)
    keys = await challenges(db)
    # The same challenge with ten different codes, then the same code at different challenges.
    result = await race(10, lambda s, i: Logins(s, OPEN).second_factor(keys[0], codes[i], source=HERE))
    assert (result.winners, result.kinds) == (1, {LoginRefused})
    # A code is not used up by a login that did not happen.
    used = present(RecoveryCode.used_at)
    assert await db[RecoveryCode].count(RecoveryCode.user == ann.ref, used) == 1
    won = next(i for i, o in enumerate(result.outcomes) if not isinstance(o, LoginRefused))
    fresh = codes[(won + 1) % len(codes)]
    result = await race(N - 1, lambda s, i: Logins(s, OPEN).second_factor(keys[i + 1], fresh, source=HERE))
    assert (result.winners, result.kinds) == (1, {LoginRefused})
    assert await db[RecoveryCode].count(RecoveryCode.user == ann.ref, used) == 2


@pytest.mark.parametrize("_", REPEATS)
async def test_one_reset_is_done_once(race: Race, db: Session, _: int):
    await person(db)
    token = await Logins(db, OPEN).passwords.request_reset("ann@example.org", source=HERE)
    assert token is not None
    result = await race(N, lambda s, i: Logins(s, OPEN).passwords.reset(token, f"another one {i:02}"))
    assert (result.winners, result.kinds) == (1, {LoginRefused})
    won = next(i for i, o in enumerate(result.outcomes) if o is None)
    await Logins(db, OPEN).password("ann@example.org", f"another one {won:02}", source=HERE)


@pytest.mark.parametrize("_", REPEATS)
async def test_nobody_gets_in_after_a_suspension(race: Race, db: Session, _: int):
    ann = await person(db)
    late: list[datetime] = []

    async def work(s: Session, i: int) -> bool:
        if i == 0:
            await s.users.update_where(User.id == ann.id, status=UserStatus.SUSPENDED)
            late.append(s.now())
            return False
        login = await Logins(s, OPEN).password("ann@example.org", PASSWORD, source=HERE)
        assert login.user.status is UserStatus.ACTIVE
        return True

    result = await race(N, work)
    assert result.kinds <= {LoginRefused}
    assert len(late) == 1
    found = await db.users.get(ann.id)
    assert found.status is UserStatus.SUSPENDED
    with pytest.raises(LoginRefused):
        await Logins(db, OPEN).password("ann@example.org", PASSWORD, source=HERE)


async def test_who_is_turned_away_for_the_crowd_has_not_tried(race: Race, db: Session):
    await person(db)
    narrow = replace(OPEN, hashes_at_once=1, waiting=1, memory_kib=8_192, passes=8)
    crowded = threading.Event()
    hasher = hasher_of(narrow)
    # The only thread is busy until somebody was turned away, however slowly they come.
    busy = asyncio.ensure_future(hasher._run(lambda: crowded.wait(60)))

    async def guess(s: Session) -> None:
        try:
            await Logins(s, narrow).password("ann@example.org", "wrong horse", source=HERE)
        except Unavailable:
            crowded.set()
            raise

    result = await race(N, guess)
    assert await busy
    turned = sum(isinstance(e, Unavailable) for e in result.errors)
    assert result.kinds == {LoginRefused, Unavailable}
    (pair,) = await db[LoginThrottle].find(LoginThrottle.scope == ThrottleScope.PAIR)
    assert pair.tries == N - turned
