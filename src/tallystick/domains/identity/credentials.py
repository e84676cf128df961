"""``db.logins.passwords``: setting, changing and resetting them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallystick.domains.guarded import alter
from tallystick.domains.identity import login_throttle as throttle
from tallystick.domains.identity.external_identities import ExternalIdentity
from tallystick.domains.identity.login_events import record
from tallystick.domains.identity.login_tokens import TokenUse, bearer, issue, spend, void
from tallystick.domains.identity.passwords import acceptable
from tallystick.domains.identity.users import User, UserLike, user_id
from tallystick.errors import Conflict
from tallystick.fields import Ref
from tallystick.privacy.sealed import secret

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.domains.identity.login_desk import Desk

_PERMISSION = "logins.manage"
_CHANGED = "changed meanwhile"
_VOUCHED = "an identity provider vouches for it"


class Passwords:
    """The passwords of the tenant's users. A new one ends open challenges and resets of its person."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def set(self, user: UserLike, password: str) -> None:
        """Give an account a password, as an administrator or a registration does; takes "logins.manage".

        Raises ``RoleMissing``, ``NotFound``, ``Invalid`` for an unusable password, ``Conflict`` for an account that an
        identity provider vouches for.
        """
        desk, id = self._desk, user_id(user)
        await desk.db.require(_PERMISSION)
        hashed = await desk.hasher.hash(acceptable(password, desk.policy), desk.pepper)
        async with desk.db.transaction():
            await self._write(await desk.db.users.lock(id), hashed, "password.set")

    async def change(self, user: UserLike, present: str, new: str, *, source: str) -> None:
        """Change a password by who knows the present one. Raises ``LoginRefused``, ``Invalid`` for an unusable one."""
        desk, id = self._desk, user_id(user)
        wanted = acceptable(new, desk.policy)
        await desk.answered(self._change(id, present, wanted, source))

    async def _change(self, id: UUID, present: str, wanted: bytes, source: str) -> None:
        desk = self._desk
        found, attempt = await desk.proven(id, present, source, "password.change_refused")
        hashed = await desk.hasher.hash(wanted, desk.pepper)
        async with desk.db.transaction():
            locked = await desk.db.users.lock(id)
            because = desk.closed(locked) or ("" if locked.password_hash == found.password_hash else _CHANGED)
            if not because:
                await self._write(locked, hashed, "password.changed")
                await throttle.forgive(desk.db, desk.policy, attempt)
        if because:
            await desk.refuse(locked, because, "password.change_refused")

    async def request_reset(self, email: str, *, source: str) -> str | None:
        """A token with which the owner of an address may set a new password, to be sent there and nowhere else.

        None where there is no such account, or one that cannot have a password. Answer your visitor the same in
        both cases, and send the message after that: sending takes time. Requests are counted like logins, apart from
        them, and raise ``LoginRefused``, which says nothing of the account either.
        """
        return await self._desk.answered(self._request(email, source), always=True)

    async def _request(self, email: str, source: str) -> str | None:
        desk, event = self._desk, "password.reset_refused"
        user = await desk.by_email(email)
        attempt = await desk.begin(f"reset:{desk.counted(email, user)}", source, event)
        if attempt.early:
            await desk.refuse(user, "too early", event)
        because = desk.closed(user)
        if user is not None and not because and await _vouched(desk, user):
            because = _VOUCHED
        async with desk.db.transaction():
            if because or user is None:
                await record(desk.db, event, None if user is None else user.id, because=because)
                return None
            token = await issue(desk.db, user.id, TokenUse.RESET, desk.policy.reset_for)
            await record(desk.db, "password.reset_requested", user.id)
        return token

    async def reset(self, token: str, new: str) -> None:
        """Set a new password by a token, which holds once and not for long. A second factor stays as it is.

        Raises ``LoginRefused`` for a token that is none, was used or is over; ``Invalid`` for an unusable password,
        which uses nothing up.
        """
        wanted = acceptable(new, self._desk.policy)
        await self._desk.answered(self._reset(token, wanted))

    async def _reset(self, token: str, wanted: bytes) -> None:
        desk = self._desk
        id = await bearer(desk.db, token, TokenUse.RESET)
        if id is None:
            await desk.refuse(None, "no such token", "password.reset_refused")
        hashed = await desk.hasher.hash(wanted, desk.pepper)
        async with desk.db.transaction():
            locked = await desk.db.users.lock(id)
            because = desk.closed(locked) or (_VOUCHED if await _vouched(desk, locked) else "")
            if not because and not await spend(desk.db, token, TokenUse.RESET):
                because = _CHANGED
            if not because:
                await self._write(locked, hashed, "password.reset")
        if because:
            await desk.refuse(locked, because, "password.reset_refused")

    async def _write(self, locked: User, hashed: str, event: str) -> None:
        desk = self._desk
        if await _vouched(desk, locked):
            raise Conflict(
                "An identity provider vouches for this account, so it has no password.",
                entity="User",
                remedy="Unlink its identities first: db.logins.identities.unlink(...).",
            )
        await alter(desk.db.users, locked, password_hash=secret(hashed))
        await void(desk.db, locked.id)
        await record(desk.db, event, locked.id)


async def _vouched(desk: Desk, user: User) -> bool:
    return await desk.db[ExternalIdentity].exists(ExternalIdentity.user == Ref(user.id))
