"""User accounts: people of a tenant who borrow, lend, decide, review or audit."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec

from tallystick.entity import Entity
from tallystick.errors import Conflict, Invalid
from tallystick.fields import Internal, Length, Personal, Ref, Search
from tallystick.privacy.sealed import Secret
from tallystick.repository import Repository, Where
from tallystick.rules import Check, Index, Readable, Rules, Transitions, Unique


class UserRole(StrEnum):
    """What a user account is for; ``permissions.ROLE_PERMISSIONS`` says what each may do."""

    USER = "user"
    BORROWER = "borrower"
    LENDER = "lender"
    UNDERWRITER = "underwriter"
    REVIEWER = "reviewer"
    AUDITOR = "auditor"
    ADMIN = "admin"


class UserStatus(StrEnum):
    """Where an account is in its life. Only an active one is entered; failed logins delay, and lock nothing."""

    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    LOCKED = "locked"
    CLOSED = "closed"
    ERASED = "erased"


_S = UserStatus


class User(Entity):
    """A person's account with one tenant. The same person at another tenant is another account.

    ``password_hash``, ``mfa_secret`` and ``mfa_enabled`` are ``db.logins``' own: a new account may bring a hash of
    another system, and after that only logins change them. ``failed_login_attempts`` are those before the last login;
    ``locked_until`` keeps everybody out until then.
    """

    email: Annotated[Personal[str], Search("email"), Length(320, min=3)] | None = None
    first_name: Personal[str] | None = None
    last_name: Personal[str] | None = None
    phone: Annotated[Personal[str], Search("phone", last=4)] | None = None
    role: Annotated[UserRole, Internal()] = UserRole.USER
    permissions: Annotated[list[str], Internal()] = msgspec.field(default_factory=list)
    status: UserStatus = UserStatus.PENDING
    is_verified: Annotated[bool, Internal()] = False
    password_hash: Annotated[Secret[str] | None, Internal()] = None
    mfa_enabled: Annotated[bool, Internal()] = False
    mfa_secret: Annotated[Secret[str] | None, Internal()] = None
    failed_login_attempts: Annotated[int, Internal()] = 0
    locked_until: Annotated[datetime | None, Internal()] = None
    last_login_at: Annotated[datetime | None, Internal()] = None

    rules = Rules(
        Unique("email"),
        Index("role", "created_at", query="accounts of a role, newest first"),
        Check("failed_login_attempts", "failed_login_attempts between 0 and 1000000"),
        Check("mfa", "not mfa_enabled or mfa_secret is not null"),
        Transitions(
            "status",
            {
                _S.PENDING: [_S.ACTIVE, _S.CLOSED, _S.ERASED],
                _S.ACTIVE: [_S.SUSPENDED, _S.LOCKED, _S.CLOSED, _S.ERASED],
                _S.SUSPENDED: [_S.ACTIVE, _S.CLOSED, _S.ERASED],
                _S.LOCKED: [_S.ACTIVE, _S.SUSPENDED, _S.CLOSED, _S.ERASED],
                _S.CLOSED: [_S.ERASED],
            },
            initial=[_S.PENDING, _S.ACTIVE],
            open=[_S.PENDING, _S.ACTIVE, _S.SUSPENDED, _S.LOCKED, _S.CLOSED],
        ),
        table="user_account",
        retain="identity",
        readable={"permissions": Readable.TERMS},
    )


UserLike = User | Ref[User] | UUID


def user_id(given: UserLike, field: str = "user") -> UUID:
    """The id of a user, however it is named. Raises ``Invalid`` for anything else."""
    if isinstance(given, UUID):
        return given
    if isinstance(given, (User, Ref)):
        return given.id
    raise Invalid(
        "A user is named by itself, its ref or its id.",
        field=field,
        remedy="Parse text with tallystick.ids.parse_id().",
    )


_INSTEAD: Final = {
    "password_hash": "db.logins.passwords.set(user, password), .change() or .request_reset()",
    "mfa_secret": "db.logins.mfa.enrol(), .remove() or .reset()",
    "mfa_enabled": "db.logins.mfa.confirm(), .remove() or .reset()",
}


class Users(Repository[User]):
    """The tenant's user accounts. What people log in with is changed by ``db.logins``, which judges and records it."""

    async def update(self, entity: User, /, **changes: Any) -> User:
        """``Repository.update``, of anything but a password or second factor. Raises ``Invalid`` for those."""
        _refuse_credentials(changes)
        return await super().update(entity, **changes)

    async def update_where(self, *where: Where, **changes: Any) -> int:
        """``Repository.update_where``, of anything but passwords and second factors. Raises ``Invalid`` for those."""
        _refuse_credentials(changes)
        return await super().update_where(*where, **changes)

    async def upsert(self, entity: User, *, on: Any) -> User:
        """``Repository.upsert``, of accounts that nobody logs in with yet: it would replace how they do.

        Raises ``Invalid`` for a given password or second factor, ``Conflict`` for an account that has one.
        """
        _refuse_credentials(n for n in _INSTEAD if getattr(entity, n, None))
        async with self.db.transaction():
            email = entity.email if isinstance(entity, User) else None
            found = None if email is None else await self.by_email(email)
            if found is not None:
                found = await self.lock(found.id)
                if found.password_hash is not None or found.mfa_secret is not None:
                    raise Conflict(
                        "Somebody logs in with the account that has these values, so it is not replaced.",
                        entity="User",
                        remedy="Update it: db.users.update(await db.users.by_email(...), ...).",
                    )
            return await super().upsert(entity, on=on)

    async def by_email(self, email: str) -> User | None:
        """The account with this e-mail address, whatever its case; found through the blind index."""
        found = await self.find(User.email == email, limit=1)
        return found[0] if found else None


def _refuse_credentials(changes: Iterable[str]) -> None:
    for name in changes:
        if name in _INSTEAD:
            raise Invalid(
                f"User.{name} cannot be set: it is what somebody logs in with.",
                entity="User",
                field=name,
                remedy=f"Use {_INSTEAD[name]}.",
            )
