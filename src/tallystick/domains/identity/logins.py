"""``db.logins``: who somebody is, by password or identity provider, and a second factor where there is one.

Every refusal is the same error after the same time: it never says whether there is such an account, whether the
password was right, or what is wrong with the account. What happened stands in the audit log, without what was typed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tallystick.domains.guarded import alter, drop_where
from tallystick.domains.identity import login_throttle as throttle
from tallystick.domains.identity.credentials import Passwords
from tallystick.domains.identity.external_identities import (
    ExternalIdentities,
    ExternalIdentity,
    ExternalSubject,
    checked_subject,
)
from tallystick.domains.identity.login_desk import Desk
from tallystick.domains.identity.login_events import record
from tallystick.domains.identity.login_throttle import Attempt, LoginThrottle
from tallystick.domains.identity.login_tokens import LoginToken, TokenUse, bearer, issue, spend
from tallystick.domains.identity.mfa import Mfa
from tallystick.domains.identity.passwords import prepared
from tallystick.domains.identity.users import User
from tallystick.errors import Invalid, LoginRefused
from tallystick.privacy.sealed import secret
from tallystick.query import any_of, less_than, missing

if TYPE_CHECKING:
    from tallystick.domains.identity.login_policy import LoginPolicy
    from tallystick.session import Session


_READINGS = 3
_CHANGED = "changed meanwhile"


class Login:
    """How far a login came: somebody's, or still without its second factor.

    With ``mfa_due`` there is only a ``challenge``: keep it (a cookie will do) until the person has typed their code.
    Otherwise ``actor`` is what ``tally.session(tenant, actor=...)`` takes, and ``failures`` are the attempts on the
    account since it was entered last, which people should be told. Raises ``LoginRefused`` where the second factor is
    still due and ``user`` or ``actor`` is asked for.
    """

    __slots__ = ("_user", "challenge", "failures")

    def __init__(self, user: User | None, *, challenge: str | None = None, failures: int = 0) -> None:
        self._user = user
        self.challenge = challenge
        self.failures = failures

    @property
    def mfa_due(self) -> bool:
        """Whether a second factor is still to come."""
        return self._user is None

    @property
    def user(self) -> User:
        """Who logged in."""
        if self._user is None:
            raise LoginRefused(
                "The second factor is still due.", remedy="Ask for it: db.logins.second_factor(login.challenge, code)."
            )
        return self._user

    @property
    def actor(self) -> str:
        """Who acts in sessions from here on."""
        return f"user:{self.user.id}"

    def __repr__(self) -> str:
        return f"Login({'second factor due' if self.mfa_due else self.actor})"


class Logins:
    """Logins of the tenant's users. ``source`` is the client's address, as your web server sees it.

    Logins run in a session of the application's own ("web:login"), outside a transaction. Raises ``Unavailable`` when
    more passwords are being checked than may stand in line.
    """

    def __init__(self, db: Session, policy: LoginPolicy) -> None:
        self._db = db
        self._desk = Desk(db, policy)

    @property
    def passwords(self) -> Passwords:
        """Setting, changing and resetting passwords."""
        return Passwords(self._desk)

    @property
    def mfa(self) -> Mfa:
        """Second factors: enrolling, confirming, removing."""
        return Mfa(self._desk)

    @property
    def identities(self) -> ExternalIdentities:
        """Subjects of identity providers, instead of passwords."""
        return ExternalIdentities(self._db, ExternalIdentity)

    async def password(self, email: str, password: str, *, source: str) -> Login:
        """Log somebody in by e-mail address and password. Raises ``LoginRefused``."""
        return await self._desk.answered(self._password(email, password, source))

    async def _password(self, email: str, password: str, source: str) -> Login:
        desk = self._desk
        user = await desk.by_email(email)
        attempt = await desk.begin(desk.counted(email, user), source)
        for _ in range(_READINGS):
            fits = await desk.fits(user, password, attempt)
            because = "too early" if attempt.early else desk.closed(user) or ("" if fits else "wrong password")
            if because or user is None:
                await desk.refuse(user, because)
            login = await self._go_on(user, attempt, "password", await self._rehashed(user, password))
            if login is not None:
                return login
            # Another login of theirs may have stored a hash at a new cost meanwhile: what is there now is asked.
            user = await desk.by_id(user.id)
        await desk.refuse(user, _CHANGED)

    async def external(self, who: ExternalSubject, *, source: str) -> Login:
        """Log somebody in whom an identity provider vouches for, by a token that you have verified.

        A second factor of ours stays due. Raises ``LoginRefused`` for a subject that is nobody's.
        """
        return await self._desk.answered(self._external(checked_subject(who), source))

    async def _external(self, who: ExternalSubject, source: str) -> Login:
        desk = self._desk
        user = await desk.by_id(await self.identities.owner(who))
        attempt = await desk.begin(f"external:{who.issuer}:{who.subject}" if user is None else user.id, source)
        because = "too early" if attempt.early else desk.closed(user)
        if because or user is None:
            await desk.refuse(user, because)
        return await self._go_on(user, attempt, "identity provider", None) or await desk.refuse(user, _CHANGED)

    async def second_factor(self, challenge: str, code: str, *, source: str) -> Login:
        """Finish a login by a code of the person's app, or one of their recovery codes. Raises ``LoginRefused``.

        A challenge holds once and for some minutes; a wrong code leaves it, and counts like a wrong password.
        """
        return await self._desk.answered(self._second(challenge, code, source))

    async def _second(self, challenge: str, code: str, source: str) -> Login:
        desk, db = self._desk, self._db
        user = await desk.by_id(await bearer(db, challenge, TokenUse.CHALLENGE))
        attempt = await desk.begin("challenge" if user is None else user.id, source)
        because = "too early" if attempt.early else desk.closed(user)
        if because or user is None:
            await desk.refuse(user, because)
        login: Login | None = None
        try:
            async with db.transaction():
                locked = await db.users.lock(user.id)
                factor = await self.mfa.take(locked, code) if locked.mfa_enabled else None
                if factor is None or not await spend(db, challenge, TokenUse.CHALLENGE):
                    # A code is not used up by a login that did not happen.
                    raise LoginRefused("wrong code")
                login = await self._enter(locked, attempt, factor, None)
        except LoginRefused:
            login = None
        if login is None:
            await desk.refuse(user, "wrong code")
        return login

    async def sweep(self, *, older: timedelta = timedelta(days=1)) -> int:
        """Remove counts and tokens that have been over for a time; answers how many. For a nightly job."""
        db = self._db
        if not isinstance(older, timedelta) or older < timedelta(0):
            raise Invalid("older is a timedelta from zero.", field="older", remedy="Write timedelta(days=1).")
        before = db.now() - older - max(d.window for d in (self._desk.policy.pair, self._desk.policy.account))
        counts = await drop_where(
            db[LoginThrottle],
            LoginThrottle.since < before,
            LoginThrottle.open_at < before,
            any_of(missing(LoginThrottle.known_until), less_than(LoginThrottle.known_until, db.now())),
            reason="counts of logins that are over",
        )
        return counts + await drop_where(
            db[LoginToken], LoginToken.expires_at < db.now() - older, reason="tokens that are over"
        )

    # -- inside ------------------------------------------------------------------------------------------------

    async def _rehashed(self, user: User, password: str) -> str | None:
        """A hash at the policy's cost, where the stored one is another; only now the password is known."""
        desk = self._desk
        stored, given = await desk.stored(user), prepared(password)
        if stored is None or given is None or not desk.hasher.is_cheap(stored):
            return None
        return await desk.hasher.hash(given, desk.pepper)

    async def _go_on(self, user: User, attempt: Attempt, factor: str, rehashed: str | None) -> Login | None:
        """To the second factor, or in; None where the account is not what it was when it was judged."""
        db, desk = self._db, self._desk
        async with db.transaction():
            locked = await db.users.lock(user.id)
            # Judged by what was read before the hash was made: it may have changed since.
            if desk.closed(locked) or locked.password_hash != user.password_hash:
                return None
            if not locked.mfa_enabled:
                return await self._enter(locked, attempt, factor, rehashed)
            if rehashed is not None:
                await alter(db.users, locked, password_hash=secret(rehashed))
            await throttle.give_back(db, attempt)
            challenge = await issue(db, user.id, TokenUse.CHALLENGE, desk.policy.challenge_for)
            await record(db, "login.challenged", user.id, factor=factor)
        return Login(None, challenge=challenge)

    async def _enter(self, locked: User, attempt: Attempt, factor: str, rehashed: str | None) -> Login:
        """Let somebody in, in the open transaction."""
        db = self._db
        changes = {} if rehashed is None else {"password_hash": secret(rehashed)}
        user = await alter(db.users, locked, last_login_at=db.now(), failed_login_attempts=attempt.failures, **changes)
        await throttle.forgive(db, self._desk.policy, attempt)
        await record(db, "login.succeeded", user.id, factor=factor, failures=attempt.failures)
        return Login(user, failures=attempt.failures)
