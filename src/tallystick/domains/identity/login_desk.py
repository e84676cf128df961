"""The desk that logins, passwords and second factors share: it counts, compares, refuses and lets in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar
from uuid import UUID

from tallystick.domains.identity import login_throttle as throttle
from tallystick.domains.identity.external_identities import ExternalIdentities, ExternalIdentity, ExternalSubject
from tallystick.domains.identity.login_events import record
from tallystick.domains.identity.login_policy import LoginPolicy
from tallystick.domains.identity.login_throttle import Attempt, ThrottleScope
from tallystick.domains.identity.passwords import hasher_of, prepared
from tallystick.domains.identity.users import User, UserStatus
from tallystick.entity import spec_of
from tallystick.errors import Erased, Invalid, LoginRefused, Unavailable
from tallystick.privacy.blind import normalise
from tallystick.privacy.sealed import ciphertext_of

if TYPE_CHECKING:
    from tallystick.privacy.sealed import Secret
    from tallystick.session import Session

T = TypeVar("T")
#: What shows that a person is who they are: their password, or what an identity provider has just said of them.
Proof = str | ExternalSubject
_QUIET: Final = (ThrottleScope.SOURCE, ThrottleScope.TENANT)


class Desk:
    """One session's desk, with the rules of its application."""

    def __init__(self, db: Session, policy: LoginPolicy) -> None:
        self.db = db
        self.policy = policy
        self.hasher = hasher_of(policy)

    async def answered(self, work: Awaitable[T], *, always: bool = False) -> T:
        """What the work answers. A refusal comes after a multiple of the policy's time, and is the same for all.

        With ``always`` every answer takes that time.
        """
        started = time.monotonic()
        try:
            answer = await work
        except LoginRefused:
            await self._wait(started)
        else:
            if always:
                await self._wait(started)
            return answer
        # Made here, so that neither its trace nor its cause tells where the other one came from.
        raise LoginRefused("The login was refused.")

    async def _wait(self, started: float) -> None:
        every = self.policy.answer_after
        if every:
            await asyncio.sleep(every - (time.monotonic() - started) % every)

    async def begin(self, account: UUID | str, source: str, event: str = "login.refused") -> Attempt:
        """Count an attempt, and refuse at once what floods: no hash is made for it and no event written."""
        attempt = await throttle.count(self.db, self.policy, str(account), source)
        if attempt.early in _QUIET:
            raise LoginRefused(event)
        return attempt

    async def refuse(self, user: User | None, because: str, event: str = "login.refused") -> NoReturn:
        """Write the refusal down, for auditors with its reason, and refuse."""
        await record(self.db, event, None if user is None else user.id, because=because)
        raise LoginRefused(because)

    async def by_email(self, email: str) -> User | None:
        """The account of an e-mail address; None for what is no address as for one that nobody has."""
        if not isinstance(email, str):
            raise Invalid("An e-mail address is text.", field="email")
        try:
            return await self.db.users.by_email(email)
        except (Invalid, Erased):
            return None

    def counted(self, email: str, user: User | None) -> UUID | str:
        """What attempts at an address are counted under: one account however it is written, there or not."""
        if user is not None:
            return user.id
        try:
            return normalise("email", email).decode()
        except Invalid:
            return email.casefold()

    async def by_id(self, id: UUID | None) -> User | None:
        """The account of an id."""
        if id is None:
            return None
        try:
            return await self.db.users.get_or_none(id)
        except Erased:
            return None

    def closed(self, user: User | None) -> str:
        """Why an account cannot be entered at all, for auditors; empty for one that can."""
        if user is None:
            return "no such account"
        if user.status is not UserStatus.ACTIVE:
            return f"account {user.status.value}"
        if user.locked_until is not None and user.locked_until > self.db.now():
            return "account locked for a time"
        return ""

    async def fits(self, user: User | None, password: object, attempt: Attempt) -> bool:
        """Whether it is the account's password; takes as long for an account that has none, or is none.

        Raises ``Unavailable`` when too many are being checked; that was no attempt.
        """
        stored = await self.stored(user)
        try:
            return await self.hasher.fits(prepared(password), stored, self.pepper)
        except Unavailable:
            async with self.db.transaction():
                await throttle.give_back(self.db, attempt)
            raise

    async def stored(self, user: User | None) -> str | None:
        """The stored hash of an account; None, after as many questions, where there is none."""
        if user is None or user.password_hash is None:
            await self.db.sealer.generation()
            return None
        return await self.opened(user, "password_hash", user.password_hash)

    async def opened(self, user: User, name: str, held: Secret[str] | None) -> str | None:
        """A secret of an account in plain, for this process alone; None where there is none, or it was erased."""
        from tallystick.privacy.envelope import key_id_of

        if held is None:
            return None
        envelope, sealer, spec = ciphertext_of(held), self.db.sealer, spec_of(User)
        opener = await sealer.opener_of({key_id_of(envelope)}, await sealer.generation())
        try:
            return str(opener.reveal(spec.table, spec.fields[name], envelope, user.id))
        except Erased:
            return None

    def pepper(self, version: int) -> bytes:
        """The key that goes into hashes."""
        return self.db.sealer.keyring().provider.index_key(self.db.tenant_id, "user_account", "password_hash", version)

    async def proven(self, id: UUID, proof: Proof, source: str, event: str) -> tuple[User, Attempt]:
        """The account of a person who has shown again who they are; counted like a login. Raises ``LoginRefused``."""
        user = await self.by_id(id)
        attempt = await self.begin(id, source, event)
        if isinstance(proof, ExternalSubject):
            fits = await ExternalIdentities(self.db, ExternalIdentity).owner(proof) == id
        else:
            fits = await self.fits(user, proof, attempt)
        because = "too early" if attempt.early else self.closed(user) or ("" if fits else "not proven")
        if because or user is None:
            await self.refuse(user, because, event)
        return user, attempt
