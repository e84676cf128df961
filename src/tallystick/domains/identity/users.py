"""User accounts: people of a tenant who borrow, lend, decide, review or audit."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec

from tallystick.entity import Entity
from tallystick.errors import Invalid
from tallystick.fields import Internal, Length, Personal, Ref, Search
from tallystick.privacy.sealed import Secret
from tallystick.repository import Repository
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

    ``password_hash`` and ``mfa_secret`` are ``db.logins``' own. ``failed_login_attempts`` are those before the last
    login; ``locked_until`` keeps everybody out until then.
    """

    email: Annotated[Personal[str], Search("email"), Length(320, min=3)] | None = None
    first_name: Personal[str] | None = None
    last_name: Personal[str] | None = None
    phone: Annotated[Personal[str], Search("phone")] | None = None
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


class Users(Repository[User]):
    """The tenant's user accounts."""

    async def by_email(self, email: str) -> User | None:
        """The account with this e-mail address, whatever its case; found through the blind index."""
        found = await self.find(User.email == email, limit=1)
        return found[0] if found else None
