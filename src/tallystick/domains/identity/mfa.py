"""``db.logins.mfa``: a second factor for a person, by an authenticator app, with recovery codes for when it is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tallystick.domains.guarded import alter
from tallystick.domains.identity import login_throttle as throttle
from tallystick.domains.identity import recovery_codes, totp
from tallystick.domains.identity.authenticators import advance
from tallystick.domains.identity.login_events import record
from tallystick.domains.identity.login_tokens import void
from tallystick.domains.identity.recovery_codes import RecoveryCode
from tallystick.domains.identity.users import User, UserLike, user_id
from tallystick.errors import Conflict, Invalid
from tallystick.privacy.sealed import secret

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.domains.identity.login_desk import Desk, Proof

_CODE = 6
_LONGEST_CODE = 64


class Enrolment(msgspec.Struct, frozen=True):
    """What an authenticator app needs: ``secret`` to type in, ``uri`` for a QR code. Show it once and keep neither."""

    secret: str
    uri: str

    def __repr__(self) -> str:
        return "Enrolment(…)"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


class Mfa:
    """Second factors of the tenant's users. What changes one asks again who the person is, and is counted."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def enrol(self, user: UserLike, proof: Proof, *, source: str, issuer: str | None = None) -> Enrolment:
        """Begin: a secret for the person's app, which ``confirm`` puts into force.

        ``proof`` is their password, or an ``ExternalSubject`` that was verified a moment ago. ``issuer`` is the name
        that the app shows, by default the tenant's. Raises ``LoginRefused``, ``Conflict`` where one is in force.
        """
        return await self._desk.answered(self._enrol(user_id(user), proof, source, issuer))

    async def _enrol(self, id: UUID, proof: Proof, source: str, issuer: str | None) -> Enrolment:
        desk, db = self._desk, self._desk.db
        _, attempt = await desk.proven(id, proof, source, "mfa.enrolment_refused")
        fresh = totp.new_secret()
        async with db.transaction():
            # The account's row before its counts, as everywhere, so that nobody waits for each other.
            locked = await db.users.lock(id)
            await throttle.forgive(db, desk.policy, attempt)
            if not locked.mfa_enabled:
                await alter(db.users, locked, mfa_secret=secret(fresh))
                await record(db, "mfa.enrolment_begun", id)
        if locked.mfa_enabled:
            raise Conflict(
                "The account has a second factor already.",
                entity="User",
                remedy="Remove that one first: db.logins.mfa.remove(...).",
            )
        return Enrolment(fresh, totp.uri(fresh, issuer=issuer or db.tenant.name, account=locked.email or str(id)))

    async def confirm(self, user: UserLike, code: str, *, source: str) -> list[str]:
        """Put the second factor into force by a first code; answers the recovery codes, this once.

        That code is used up with it. Raises ``LoginRefused`` for a wrong one, ``Conflict`` where nothing was begun.
        """
        return await self._desk.answered(self._confirm(user_id(user), code, source))

    async def _confirm(self, id: UUID, code: str, source: str) -> list[str]:
        desk, db, event = self._desk, self._desk.db, "mfa.enrolment_refused"
        user = await desk.by_id(id)
        attempt = await desk.begin(id, source, event)
        because = "too early" if attempt.early else desk.closed(user)
        if because or user is None:
            await desk.refuse(user, because, event)
        stored = await desk.opened(user, "mfa_secret", user.mfa_secret)
        if user.mfa_enabled or stored is None:
            raise Conflict(
                "No enrolment is under way.", entity="User", remedy="Begin with db.logins.mfa.enrol(user, password)."
            )
        step = totp.matching_step(stored, _tidy(code), db.now())
        if step is None:
            await desk.refuse(user, "wrong code", event)
        async with db.transaction():
            locked = await db.users.lock(id)
            same = not locked.mfa_enabled and locked.mfa_secret == user.mfa_secret
            if same and await advance(db, id, step):
                await alter(db.users, locked, mfa_enabled=True)
                await void(db, id)
                await throttle.forgive(db, desk.policy, attempt)
                await record(db, "mfa.enrolled", id)
                return await recovery_codes.renew(db, id)
        await desk.refuse(user, "changed meanwhile", event)

    async def remove(self, user: UserLike, proof: Proof, code: str, *, source: str) -> None:
        """End the second factor by password (or identity) and a code of the app or a recovery code.

        Raises ``LoginRefused`` for anything wrong.
        """
        await self._desk.answered(self._changed(user_id(user), proof, code, source, renew=False))

    async def renew_codes(self, user: UserLike, proof: Proof, code: str, *, source: str) -> list[str]:
        """New recovery codes, this once; the old ones work no more. Asks what ``remove`` asks."""
        return await self._desk.answered(self._changed(user_id(user), proof, code, source, renew=True))

    async def _changed(self, id: UUID, proof: Proof, code: str, source: str, *, renew: bool) -> list[str]:
        desk, db = self._desk, self._desk.db
        user, attempt = await desk.proven(id, proof, source, "mfa.change_refused")
        used = False
        async with db.transaction():
            locked = await db.users.lock(id)
            if locked.mfa_enabled and locked.mfa_secret == user.mfa_secret:
                used = await self.take(locked, code) is not None
            if used:
                await throttle.forgive(db, desk.policy, attempt)
                if renew:
                    await record(db, "mfa.codes_renewed", id)
                    return await recovery_codes.renew(db, id)
                await self._end(locked, "mfa.removed")
        if not used:
            await desk.refuse(user, "wrong code", "mfa.change_refused")
        return []

    async def reset(self, user: UserLike) -> None:
        """End somebody's second factor who has lost it with all codes, as an administrator; takes "logins.manage".

        Make sure who asks: whoever can have it ended does not need it. Raises ``RoleMissing``, ``NotFound``.
        """
        db = self._desk.db
        await db.require("logins.manage")
        async with db.transaction():
            await self._end(await db.users.lock(user_id(user)), "mfa.reset")

    async def codes_left(self, user: UserLike) -> int:
        """How many recovery codes of a person still work."""
        return await recovery_codes.RecoveryCodes(self._desk.db, RecoveryCode).left(user_id(user))

    async def take(self, user: User, code: str) -> str | None:
        """Use a code up in the open transaction: what it was, "totp" or "recovery code"; None for a wrong one."""
        db, given = self._desk.db, _tidy(code)
        if len(given) == _CODE and given.isascii() and given.isdigit():
            stored = await self._desk.opened(user, "mfa_secret", user.mfa_secret)
            step = None if stored is None else totp.matching_step(stored, given, db.now())
            return "totp" if step is not None and await advance(db, user.id, step) else None
        return "recovery code" if await recovery_codes.redeem(db, user.id, given) else None

    async def _end(self, locked: User, event: str) -> None:
        db = self._desk.db
        await alter(db.users, locked, mfa_enabled=False, mfa_secret=None)
        await recovery_codes.remove(db, locked.id)
        await void(db, locked.id)
        await record(db, event, locked.id)


def _tidy(code: str) -> str:
    if not isinstance(code, str):
        raise Invalid("A code is text.", field="code", remedy="Codes begin with zeros: give them as typed.")
    return "".join(code[:_LONGEST_CODE].split())
