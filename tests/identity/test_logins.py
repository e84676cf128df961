"""Logins: passwords, second factors, recovery codes, identity providers, delays."""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from tallystick import (
    Conflict,
    Delay,
    Duplicate,
    ExternalIdentity,
    ExternalSubject,
    FixedClock,
    Invalid,
    LoginPolicy,
    LoginRefused,
    LoginThrottle,
    LoginToken,
    RecoveryCode,
    RoleMissing,
    Tallystick,
    ThrottleScope,
    Unavailable,
    User,
    UserStatus,
    secret,
    uuid7,
)
from tallystick.domains.identity import totp
from tallystick.domains.identity.login_throttle import network
from tallystick.domains.identity.logins import Login
from tallystick.domains.identity.passwords import Hasher, hasher_of, prepared
from tallystick.session import Session
from tallystick.testing import Make, Sandbox

PASSWORD = "correct horse battery"
HERE, THERE = "203.0.113.7", "2001:db8:5::1"
QUICK = LoginPolicy(
    memory_kib=64,
    passes=1,
    hashes_at_once=2,
    answer_after=0,
    pair=Delay(free=3, first=1, most=900, window=timedelta(days=1)),
)
ANN = "ann@example.org"


@pytest.fixture
def clock(sandbox: Sandbox) -> FixedClock:
    """A clock to move; the sandbox's logins are cheap."""
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    sandbox.tally.clock = clock
    sandbox.tally.login_policy = QUICK
    return clock


@pytest.fixture
async def ann(db: Session, clock: FixedClock) -> User:
    """A person with a password."""
    made = await db.users.add(User(email=ANN, status=UserStatus.ACTIVE))
    await db.logins.passwords.set(made, PASSWORD)
    return await db.users.get(made.id)


async def enrolled(db: Session, user: User, clock: FixedClock) -> tuple[str, list[str]]:
    """A second factor in force: its secret and the recovery codes. The clock has moved on to an unused code."""
    begun = await db.logins.mfa.enrol(user, PASSWORD, source=HERE)
    codes = await db.logins.mfa.confirm(user, code(begun.secret, clock), source=HERE)
    clock.advance(timedelta(seconds=totp.PERIOD))
    return begun.secret, codes


def code(shared: str, clock: FixedClock, ahead: int = 0) -> str:
    return totp.code_at(base64.b32decode(shared), totp.step_at(clock.now()) + ahead)


async def refused(db: Session, *, email: str = ANN, password: str = "wrong horse", source: str = HERE) -> None:
    with pytest.raises(LoginRefused) as caught:
        await db.logins.password(email, password, source=source)
    assert str(caught.value) == (
        "[TS-1405] The login was refused. Check the credentials or wait before the next attempt."
    )


async def events(db: Session, user: User | None = None) -> list[tuple[str, str]]:
    key = None if user is None else user.id
    page = await db.audit.entries("user_account", key=key, ops=("E",), limit=200)
    found = [e.event or {} for e in page.items]
    return [(e["type"], e.get("data", {}).get("because", "")) for e in found]


# -- the pieces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "sha1", "sha256", "sha512"),
    [
        (59, "94287082", "46119246", "90693936"),
        (1111111109, "07081804", "68084774", "25091201"),
        (1111111111, "14050471", "67062674", "99943326"),
        (1234567890, "89005924", "91819424", "93441116"),
        (2000000000, "69279037", "90698825", "38618901"),
        (20000000000, "65353130", "77737706", "47863826"),
    ],
)
def test_the_codes_of_rfc_6238_appendix_b(seconds: int, sha1: str, sha256: str, sha512: str):
    seed = b"1234567890" * 7
    step = totp.step_at(datetime.fromtimestamp(seconds, UTC))
    assert totp.code_at(seed[:20], step, digits=8) == sha1
    assert totp.code_at(seed[:32], step, digits=8, digest="sha256") == sha256
    assert totp.code_at(seed[:64], step, digits=8, digest="sha512") == sha512


def test_the_codes_of_rfc_4226_appendix_d():
    codes = [totp.code_at(b"12345678901234567890", n) for n in range(10)]
    assert codes == [
        "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"
    ]  # fmt: skip


def test_the_tag_of_rfc_9106():
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    made = Argon2id(
        salt=b"\2" * 16, length=32, iterations=3, lanes=4, memory_cost=32, ad=b"\4" * 12, secret=b"\3" * 8
    ).derive(b"\1" * 32)
    assert made.hex() == "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"


def test_the_uri_of_an_app_is_quoted():
    assert totp.uri("ABC", issuer="Sun & Rise", account="ann@example.org") == (
        "otpauth://totp/Sun%20%26%20Rise:ann%40example.org?secret=ABC&issuer=Sun%20%26%20Rise&digits=6&period=30"
    )


def test_secrets_of_other_systems_are_read_as_they_write_them():
    moment = datetime.fromtimestamp(59, UTC)
    typed = totp.code_at(base64.b32decode("JBSWY3DPEHPK3PXPGE======"), totp.step_at(moment))
    for written in ("JBSWY3DPEHPK3PXPGE======", "jbsw y3dp ehpk 3pxp ge", "JBSW-Y3DP-EHPK-3PXP-GE"):
        assert totp.matching_step(written, typed, moment) == totp.step_at(moment)
    for broken in ("", "0189", "AAA", "\u00e9"):
        assert totp.matching_step(broken, totp.code_at(b"", totp.step_at(moment)), moment) is None


async def test_a_hash_names_its_cost_and_its_pepper():
    hasher = hasher_of(QUICK)
    stored = await hasher.hash(b"pw", lambda version: b"%d" % version * 32)
    assert stored.startswith("1$argon2id$v=19$m=64,t=1,p=1$")
    assert len(stored) < 255
    assert await hasher.fits(b"pw", stored, lambda version: b"1" * 32)
    assert not await hasher.fits(b"pw", stored, lambda version: b"2" * 32)
    assert not await hasher.fits(b"pW", stored, lambda version: b"1" * 32)
    assert not await hasher.fits(b"pw", None, lambda version: b"1" * 32)
    assert not await hasher.fits(None, stored, lambda version: b"1" * 32)
    assert not await hasher.fits(b"pw", "$2b$12$abcdefghijklmnopqrstuv", lambda version: b"1" * 32)
    # What another system wrote may be nothing that can be computed.
    for numbers in ("m=7,t=1,p=1$YQ$YQ", "m=64,t=0,p=1$YWFhYWFhYWE$YWFhYWFhYWE"):
        assert not await hasher.fits(b"pw", f"$argon2id$v=19${numbers}", lambda version: b"1" * 32)
    assert not hasher.is_cheap(stored)
    for other in (replace(QUICK, memory_kib=65), replace(QUICK, passes=2), replace(QUICK, pepper=0)):
        assert hasher_of(other).is_cheap(stored)


def test_passwords_are_normalised_and_bounded():
    assert prepared("ﬁsh") == prepared("fish") == b"fish"
    assert prepared("é") == prepared("é")
    assert prepared("x" * 1024) is not None
    for bad in ("", "x" * 1025, "é" * 513, "\ud800", b"bytes", None, 7):
        assert prepared(bad) is None


async def test_too_many_at_once_are_turned_away():
    hasher = Hasher(replace(QUICK, hashes_at_once=1, waiting=1, passes=40, memory_kib=1024))
    done = await asyncio.gather(*(hasher.hash(b"pw", lambda _: b"k") for _ in range(5)), return_exceptions=True)
    assert [type(d) for d in done].count(Unavailable) == 3
    assert isinstance(await hasher.hash(b"pw", lambda _: b"k"), str)


def test_sources_are_networks():
    assert network("203.0.113.7") == "203.0.113.7" == network("::ffff:203.0.113.7")
    assert network("2001:db8:5::1") == network("2001:db8:5::ffff:2") == "2001:db8:5::/64"
    assert network("branch 12") == "branch 12"
    for bad in ("", "x" * 201, None):
        with pytest.raises(Invalid):
            network(bad)  # type: ignore[arg-type]


def test_a_policy_below_the_floor_is_refused_by_the_application():
    for cheap in (QUICK, LoginPolicy(memory_kib=19_455), LoginPolicy(passes=1)):
        with pytest.raises(Invalid, match="too cheaply"):
            Tallystick.open(logins=cheap)
    Tallystick.open(logins=LoginPolicy(memory_kib=65_536, passes=3, lanes=4))
    for wrong in (
        {"lanes": 0},
        {"pepper": -1},
        {"memory_kib": True},
        {"answer_after": -1},
        {"reset_for": timedelta(0)},
        {"lanes": 4096},
    ):
        with pytest.raises(Invalid):
            LoginPolicy(**wrong)  # type: ignore[arg-type]
    for given in ((0, 1, 2), (1, 0, 2), (1, 3, 2), (1, 1, 1e9)):
        with pytest.raises(Invalid):
            Delay(*given, window=timedelta(days=1))
    with pytest.raises(Invalid):
        Delay(1, 1, 1, window=timedelta(0))


# -- passwords -------------------------------------------------------------------------------------------------------


async def test_a_password_lets_its_owner_in(db: Session, ann: User, clock: FixedClock):
    login = await db.logins.password("Ann@EXAMPLE.org ", PASSWORD, source=HERE)
    assert not login.mfa_due
    assert login.actor == f"user:{ann.id}"
    assert (login.user.id, login.user.last_login_at, login.challenge) == (ann.id, clock.now(), None)
    async with db._app.session(db.tenant_id, actor=login.actor) as own:
        assert (await own.users.get(ann.id)).email == ANN
    assert await events(db, ann) == [("password.set", ""), ("login.succeeded", "")]


@pytest.mark.parametrize("status", [s for s in UserStatus if s is not UserStatus.ACTIVE])
async def test_every_refusal_is_the_same(db: Session, ann: User, status: UserStatus):
    await refused(db)
    await refused(db, email="nobody@example.org")
    await refused(db, email="no address")
    other = await db.users.add(User(email="bob@example.org"))
    await db.logins.passwords.set(other, PASSWORD)
    bob = await db.users.get(other.id)
    if status is not UserStatus.PENDING:
        bob = await db.users.update(bob, status=UserStatus.ACTIVE)
        bob = await db.users.update(bob, status=status)
    await refused(db, email="bob@example.org", password=PASSWORD)
    assert await events(db, bob) == [("password.set", ""), ("login.refused", f"account {status.value}")]
    assert (await events(db))[-4:-1] != []


async def test_an_account_without_a_password_and_one_locked_for_a_time(db: Session, ann: User, clock: FixedClock):
    await db.users.add(User(email="eve@example.org", status=UserStatus.ACTIVE))
    await refused(db, email="eve@example.org", password=PASSWORD)
    await db.users.update(ann, locked_until=clock.now() + timedelta(hours=1))
    await refused(db, password=PASSWORD)
    clock.advance(timedelta(hours=1))
    assert (await db.logins.password(ANN, PASSWORD, source=HERE)).failures == 1
    assert (await db.users.get(ann.id)).failed_login_attempts == 1


async def test_unusable_passwords(db: Session, ann: User):
    for bad in ("short", "x" * 1025, "\ud800" * 9):
        with pytest.raises(Invalid) as caught:
            await db.logins.passwords.set(ann, bad)
        assert bad not in str(caught.value)
        await refused(db, password=bad)
    with pytest.raises(Invalid):
        await db.logins.password(7, PASSWORD, source=HERE)  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        await db.logins.password(ANN, PASSWORD, source="")


async def test_a_hash_is_renewed_when_the_cost_was_raised(db: Session, ann: User):
    desk = db.logins._desk
    before = await desk.stored(ann)
    db._app.login_policy = replace(QUICK, memory_kib=128, pepper=2)
    await db.logins.password(ANN, PASSWORD, source=HERE)
    after = await desk.stored(await db.users.get(ann.id))
    assert before is not None
    assert before.startswith("1$argon2id$v=19$m=64,")
    assert after is not None
    assert after.startswith("2$argon2id$v=19$m=128,")
    await db.logins.password(ANN, PASSWORD, source=HERE)
    assert await desk.stored(await db.users.get(ann.id)) == after


async def test_a_hash_of_another_system_is_taken_over(db: Session, ann: User):
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    phc = Argon2id(salt=b"s" * 16, length=32, iterations=1, lanes=1, memory_cost=64)
    taken = secret(phc.derive_phc_encoded(PASSWORD.encode()))
    bob = await db.users.add(User(email="bob@example.org", status=UserStatus.ACTIVE, password_hash=taken))
    await db.logins.password("bob@example.org", PASSWORD, source=HERE)
    stored = await db.logins._desk.stored(await db.users.get(bob.id))
    assert stored is not None
    assert stored.startswith("1$argon2id$")


async def test_only_logins_change_what_somebody_logs_in_with(db: Session, ann: User):
    for users in (db.users, db[User]):
        for name, value in (("password_hash", secret("x")), ("mfa_secret", None), ("mfa_enabled", False)):
            for act in (
                lambda u=users, n=name, v=value: u.update(ann, **{n: v}),
                lambda u=users, n=name, v=value: u.update_where(User.id == ann.id, **{n: v}),
            ):
                with pytest.raises(Invalid, match=r"db\.logins\."):
                    await act()
        with pytest.raises(Invalid, match=r"db\.logins\.passwords"):
            await users.upsert(User(email="c@example.org", password_hash=secret("x")), on=User.email)
        # Without one, it would take hers away.
        with pytest.raises(Conflict):
            await users.upsert(User(email=ANN, status=UserStatus.ACTIVE), on=User.email)
        await users.upsert(User(email="new@example.org", first_name="New"), on=User.email)
    assert (await db.users.get(ann.id)) == ann
    await db.logins.password(ANN, PASSWORD, source=HERE)


async def test_changing_a_password_takes_the_present_one(db: Session, ann: User):
    with pytest.raises(LoginRefused):
        await db.logins.passwords.change(ann, "wrong", "another long one", source=HERE)
    with pytest.raises(Invalid):
        await db.logins.passwords.change(ann, PASSWORD, "short", source=HERE)
    await db.logins.passwords.change(ann, PASSWORD, "another long one", source=HERE)
    await refused(db, password=PASSWORD)
    await db.logins.password(ANN, "another long one", source=HERE)
    assert [e for e, _ in await events(db, ann)][1:3] == ["password.change_refused", "password.changed"]


async def test_setting_passwords_takes_a_permission(sandbox: Sandbox, tenant: str, ann: User):
    async with sandbox.session(tenant, actor="web", permissions=()) as plain:
        with pytest.raises(RoleMissing):
            await plain.logins.passwords.set(ann, PASSWORD)
        with pytest.raises(RoleMissing):
            await plain.logins.mfa.reset(ann)
        with pytest.raises(RoleMissing):
            await plain.logins.identities.link(ann, ExternalSubject("https://id.example.org", "a1"))
        with pytest.raises(RoleMissing):
            await plain[LoginToken].update_where(LoginToken.user == ann.ref, used_at=None)
        # Logging in takes none.
        assert (await plain.logins.password(ANN, PASSWORD, source=HERE)).user.id == ann.id


async def test_a_reset_holds_once_and_not_for_long(db: Session, ann: User, clock: FixedClock):
    assert await db.logins.passwords.request_reset("nobody@example.org", source=HERE) is None
    first = await db.logins.passwords.request_reset(ANN, source=HERE)
    assert first is not None
    with pytest.raises(Invalid):
        await db.logins.passwords.reset(first, "short")
    clock.advance(QUICK.reset_for)
    with pytest.raises(LoginRefused):
        await db.logins.passwords.reset(first, "another long one")
    token = await db.logins.passwords.request_reset(ANN, source=HERE)
    other = await db.logins.passwords.request_reset(ANN, source=HERE)
    assert token is not None
    assert other is not None
    await db.logins.passwords.reset(token, "another long one")
    # One that is used up ends the others too.
    for spent in (token, other, "x", "", 7):
        with pytest.raises(LoginRefused):
            await db.logins.passwords.reset(spent, "yet another one")  # type: ignore[arg-type]
    await db.logins.password(ANN, "another long one", source=HERE)
    assert await db.logins.passwords.request_reset(ANN, source=THERE) is not None
    for _ in range(2):
        with pytest.raises(LoginRefused):
            for _ in range(9):
                await db.logins.passwords.request_reset(ANN, source=HERE)
    assert await db[LoginToken].count(LoginToken.digest == token.encode()) == 0
    # An account that there is none of waits as well, however it is written, or who has none could be told.
    for email in (ANN, "nobody@example.org"):
        told: list[str] = []
        for written in (email, email.upper(), f" {email}", email.replace("@", "\uff20"), email) * 3:
            try:
                await db.logins.passwords.request_reset(written, source="198.51.100.9")
                told.append("asked")
            except LoginRefused:
                told.append("refused")
        assert told.count("refused") == 11, email


async def test_a_suspended_account_is_not_reset(db: Session, ann: User):
    token = await db.logins.passwords.request_reset(ANN, source=HERE)
    await db.users.update(ann, status=UserStatus.SUSPENDED)
    assert await db.logins.passwords.request_reset(ANN, source=HERE) is None
    assert token is not None
    with pytest.raises(LoginRefused):
        await db.logins.passwords.reset(token, "another long one")
    assert (await events(db, ann)).count(("password.reset_refused", "account suspended")) == 2


# -- second factors --------------------------------------------------------------------------------------------------


async def test_a_login_in_two_steps(db: Session, ann: User, clock: FixedClock):
    shared, codes = await enrolled(db, ann, clock)
    assert len(set(codes)) == 10
    first = await db.logins.password(ANN, PASSWORD, source=HERE)
    assert first.mfa_due
    assert first.challenge is not None
    assert first.challenge not in repr(first)
    with pytest.raises(LoginRefused):
        _ = first.actor
    with pytest.raises(LoginRefused):
        _ = first.user
    assert (await db.users.get(ann.id)).last_login_at is None
    with pytest.raises(LoginRefused):
        await db.logins.second_factor(first.challenge, "000000", source=HERE)
    typed = code(shared, clock)
    done = await db.logins.second_factor(first.challenge, f"{typed[:3]} {typed[3:]}", source=HERE)
    assert done.actor == f"user:{ann.id}"
    assert done.failures == 1
    # The challenge holds once, and so does the code.
    clock.advance(timedelta(seconds=totp.PERIOD))
    with pytest.raises(LoginRefused):
        await db.logins.second_factor(first.challenge, code(shared, clock), source=HERE)


async def test_codes_one_step_off_are_taken_and_none_twice(db: Session, ann: User, clock: FixedClock):
    shared, _ = await enrolled(db, ann, clock)

    async def enter(typed: str) -> Login:
        begun = await db.logins.password(ANN, PASSWORD, source=HERE)
        assert begun.challenge is not None
        return await db.logins.second_factor(begun.challenge, typed, source=HERE)

    # The one that enrolled is used up though it is still shown on a slow phone.
    for bad in (code(shared, clock, -1), code(shared, clock, 2)):
        with pytest.raises(LoginRefused):
            await enter(bad)
    await enter(code(shared, clock, 1))
    for used in (code(shared, clock, 1), code(shared, clock)):
        with pytest.raises(LoginRefused):
            await enter(used)
    clock.advance(timedelta(seconds=2 * totp.PERIOD))
    await enter(code(shared, clock))


async def test_a_challenge_runs_out_and_ends_with_the_password(db: Session, ann: User, clock: FixedClock):
    shared, _ = await enrolled(db, ann, clock)
    begun = await db.logins.password(ANN, PASSWORD, source=HERE)
    assert begun.challenge is not None
    clock.advance(QUICK.challenge_for)
    with pytest.raises(LoginRefused):
        await db.logins.second_factor(begun.challenge, code(shared, clock), source=HERE)
    begun = await db.logins.password(ANN, PASSWORD, source=HERE)
    await db.logins.passwords.change(ann, PASSWORD, "another long one", source=HERE)
    assert begun.challenge is not None
    with pytest.raises(LoginRefused):
        await db.logins.second_factor(begun.challenge, code(shared, clock), source=HERE)


async def test_recovery_codes_work_once(db: Session, ann: User, clock: FixedClock):
    shared, codes = await enrolled(db, ann, clock)
    for typed in (codes[0], codes[1].lower().replace("-", " ")):
        begun = await db.logins.password(ANN, PASSWORD, source=HERE)
        assert begun.challenge is not None
        await db.logins.second_factor(begun.challenge, typed, source=HERE)
    assert await db.logins.mfa.codes_left(ann) == 8
    begun = await db.logins.password(ANN, PASSWORD, source=HERE)
    assert begun.challenge is not None
    for bad in (codes[0], "AAAA-BBBB-CCCC-DDDD", "", "🔥"):
        with pytest.raises(LoginRefused):
            await db.logins.second_factor(begun.challenge, bad, source=THERE)
    clock.advance(timedelta(minutes=1))
    fresh = await db.logins.mfa.renew_codes(ann, PASSWORD, code(shared, clock), source=HERE)
    assert not set(fresh) & set(codes)
    assert await db.logins.mfa.codes_left(ann) == 10
    stored = await db[RecoveryCode].find(RecoveryCode.user == ann.ref)
    assert not {c.digest for c in stored} & {c.encode() for c in fresh}


async def test_a_second_factor_is_put_on_and_off_by_who_proves_it(db: Session, ann: User, clock: FixedClock):
    mfa = db.logins.mfa
    with pytest.raises(LoginRefused):
        await mfa.enrol(ann, "wrong horse", source=HERE)
    with pytest.raises(Conflict):
        await mfa.confirm(ann, "000000", source=HERE)
    begun = await mfa.enrol(ann, PASSWORD, source=HERE)
    assert begun.secret in begun.uri
    assert begun.secret not in repr(begun)
    # Not in force before it was confirmed.
    assert not (await db.logins.password(ANN, PASSWORD, source=HERE)).mfa_due
    with pytest.raises(LoginRefused):
        await mfa.confirm(ann, code(begun.secret, clock, 5), source=HERE)
    await mfa.confirm(ann, code(begun.secret, clock), source=HERE)
    with pytest.raises(Conflict):
        await mfa.enrol(ann, PASSWORD, source=HERE)
    clock.advance(timedelta(minutes=1))
    for proof, typed in (("wrong horse", code(begun.secret, clock)), (PASSWORD, "000000")):
        with pytest.raises(LoginRefused):
            await mfa.remove(ann, proof, typed, source=HERE)
    clock.advance(timedelta(minutes=1))
    await mfa.remove(ann, PASSWORD, code(begun.secret, clock), source=HERE)
    assert not (await db.logins.password(ANN, PASSWORD, source=HERE)).mfa_due
    assert await mfa.codes_left(ann) == 0
    found = await db.users.get(ann.id)
    assert (found.mfa_enabled, found.mfa_secret) == (False, None)


async def test_an_administrator_ends_a_lost_one(db: Session, ann: User, clock: FixedClock):
    await enrolled(db, ann, clock)
    await db.logins.mfa.reset(ann)
    assert not (await db.logins.password(ANN, PASSWORD, source=HERE)).mfa_due
    assert ("mfa.reset", "") in await events(db, ann)


# -- identity providers ----------------------------------------------------------------------------------------------


async def test_an_identity_provider_instead_of_a_password(db: Session, ann: User, make: Make, clock: FixedClock):
    who = ExternalSubject("https://id.example.org", "s-a1b2")
    with pytest.raises(LoginRefused):
        await db.logins.external(who, source=HERE)
    linked = await db.logins.identities.link(ann, who)
    assert "s-a1b2" not in repr(linked) + repr(who)
    assert (await db.logins.external(who, source=HERE)).actor == f"user:{ann.id}"
    await refused(db, password=PASSWORD)
    with pytest.raises(Conflict):
        await db.logins.passwords.set(ann, PASSWORD)
    assert await db.logins.passwords.request_reset(ANN, source=HERE) is None
    other = await make.user(status=UserStatus.ACTIVE)
    with pytest.raises(Duplicate):
        await db.logins.identities.link(other, who)
    for stranger in (ExternalSubject("https://id.example.org", "S-A1B2"), ExternalSubject("https://other", "s-a1b2")):
        with pytest.raises(LoginRefused):
            await db.logins.external(stranger, source=THERE)
    # Full-width letters have the same index, and are not the same subject.
    with pytest.raises(LoginRefused):
        await db.logins.external(ExternalSubject("https://id.example.org", "s-\uff411\uff422"), source=THERE)
    begun = await db.logins.mfa.enrol(ann, who, source=HERE)
    await db.logins.mfa.confirm(ann, code(begun.secret, clock), source=HERE)
    assert (await db.logins.external(who, source=HERE)).mfa_due
    assert await db.logins.identities.of_user(ann) == [linked]
    # Whose it is is not what the caller says.
    async with db._app.session(db.tenant, actor=f"user:{other.id}") as thief:
        with pytest.raises(RoleMissing):
            await thief.logins.identities.unlink(structs.replace(linked, user=other.ref))
        with pytest.raises(RoleMissing):
            await thief[ExternalIdentity].purge(linked, reason="mine now")
        with pytest.raises(RoleMissing):
            await thief[ExternalIdentity].purge_where(ExternalIdentity.user == ann.ref, reason="mine now")
    await db.logins.identities.unlink(linked)
    with pytest.raises(LoginRefused):
        await db.logins.external(who, source=HERE)
    await db.logins.passwords.set(ann, PASSWORD)


def test_subjects_are_printable_and_short():
    for issuer, subject in (("", "a"), ("i", ""), ("i" * 256, "a"), ("i", "a\nb"), (None, "a"), ("i", 7)):
        with pytest.raises(Invalid):
            ExternalSubject(issuer, subject)  # type: ignore[arg-type]


# -- delays ----------------------------------------------------------------------------------------------------------


async def test_delays_double_and_end_with_a_success(db: Session, ann: User, clock: FixedClock):
    for _ in range(4):
        await refused(db)
    # Now it is too early even for the right one.
    await refused(db, password=PASSWORD)
    clock.advance(timedelta(seconds=1))
    await refused(db)
    clock.advance(timedelta(seconds=1))
    await refused(db, password=PASSWORD)
    # Six attempts: the one that was judged last makes the next wait 2 ** (6 - 3 - 1) seconds from then.
    clock.advance(timedelta(seconds=3))
    assert (await db.logins.password(ANN, PASSWORD, source=HERE)).failures == 5
    (pair,) = await db[LoginThrottle].find(LoginThrottle.scope == ThrottleScope.PAIR)
    assert pair.tries == 0
    for _ in range(3):
        await refused(db)
    assert (await db.logins.password(ANN, PASSWORD, source=HERE)).failures == 3
    assert ("login.refused", "too early") in await events(db, ann)


async def test_an_attacker_keeps_nobody_out(db: Session, ann: User, clock: FixedClock):
    await db.logins.password(ANN, PASSWORD, source=HERE)
    for n in range(20):
        for _ in range(3):
            await refused(db, source=f"198.51.100.{n}")
    # From everywhere else the account waits now; from where it was entered before, it does not.
    await refused(db, password=PASSWORD, source="192.0.2.1")
    assert (await db.logins.password(ANN, PASSWORD, source=HERE)).failures > 10


async def test_the_longest_wait_is_bounded_and_counts_begin_anew(db: Session, ann: User, clock: FixedClock):
    for _ in range(25):
        await refused(db)
        clock.advance(timedelta(seconds=QUICK.pair.most))
    await db.logins.password(ANN, PASSWORD, source=HERE)
    for _ in range(3):
        await refused(db)
    clock.advance(QUICK.pair.window)
    await refused(db)
    (pair,) = await db[LoginThrottle].find(LoginThrottle.scope == ThrottleScope.PAIR)
    assert (pair.tries, pair.since) == (1, clock.now())


async def test_one_source_that_tries_many_accounts_waits(db: Session, ann: User, clock: FixedClock):
    db._app.login_policy = replace(QUICK, source=Delay(free=5, first=60, most=60, window=timedelta(hours=1)))
    for n in range(7):
        await refused(db, email=f"nobody{n}@example.org", source=THERE)
    await refused(db, password=PASSWORD, source="2001:db8:5::2")
    await db.logins.password(ANN, PASSWORD, source=HERE)
    assert [b for _, b in await events(db)].count("no such account") == 6


async def test_a_tenant_is_bounded_as_a_whole_and_known_sources_go_on(db: Session, ann: User, clock: FixedClock):
    await db.logins.password(ANN, PASSWORD, source=HERE)
    db._app.login_policy = replace(QUICK, tenant=Delay(free=5, first=60, most=60, window=timedelta(minutes=1)))
    for n in range(6):
        await refused(db, email=f"nobody{n}@example.org", source=f"198.51.100.{n}")
    await refused(db, password=PASSWORD, source=THERE)
    await db.logins.password(ANN, PASSWORD, source=HERE)


async def test_counts_name_nobody_and_are_swept(db: Session, ann: User, clock: FixedClock):
    await db.logins.password(ANN, PASSWORD, source=HERE)
    await refused(db, email="nobody@example.org", source=THERE)
    await db.logins.passwords.request_reset(ANN, source=THERE)
    assert await db.logins.sweep() == 0
    clock.advance(timedelta(days=3))
    assert await db.logins.sweep() > 4
    # Where the account was entered from is remembered longer.
    assert {t.scope for t in await db[LoginThrottle].find()} == {ThrottleScope.PAIR}
    clock.advance(QUICK.known_for)
    assert await db.logins.sweep() == 1
    assert not await db[LoginThrottle].exists()


async def test_a_login_is_no_part_of_a_transaction(db: Session, ann: User):
    async with db.transaction():
        with pytest.raises(Invalid, match="transaction"):
            await db.logins.password(ANN, PASSWORD, source=HERE)


async def test_refusals_take_a_multiple_of_one_time(db: Session, ann: User):
    db._app.login_policy = replace(QUICK, answer_after=0.2)
    for email in (ANN, "nobody@example.org"):
        started = time.monotonic()
        await refused(db, email=email)
        assert time.monotonic() - started >= 0.2


async def test_nobody_of_another_tenant_gets_in(sandbox: Sandbox, db: Session, ann: User, clock: FixedClock):
    other = f"test-{uuid7().hex}"
    await sandbox.tally.tenants.create(other, name="Other")
    token = await db.logins.passwords.request_reset(ANN, source=HERE)
    assert token is not None
    async with sandbox.session(other) as elsewhere:
        await refused(elsewhere, password=PASSWORD)
        with pytest.raises(LoginRefused):
            await elsewhere.logins.passwords.reset(token, "another long one")
        with pytest.raises(LoginRefused):
            await elsewhere.logins.second_factor(token, "000000", source=HERE)
