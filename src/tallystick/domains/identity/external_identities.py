"""External identities: persons whom an identity provider of their own vouches for, instead of a password here."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec

from tallystick.domains.guarded import Guarded, alter, drop_where, put
from tallystick.domains.identity.access import acting_user
from tallystick.domains.identity.login_events import record
from tallystick.domains.identity.login_tokens import void
from tallystick.domains.identity.users import User, UserLike, user_id
from tallystick.entity import Entity
from tallystick.errors import Invalid
from tallystick.fields import Length, Once, Personal, Ref, Search
from tallystick.rules import Index, Readable, Rules, Unique

_LONGEST = 255


class ExternalSubject(msgspec.Struct, frozen=True):
    """Who somebody is at an identity provider: OpenID Connect's ``iss`` and ``sub``, taken from a token that the
    application has verified. Raises ``Invalid`` for what cannot be one.
    """

    issuer: str
    subject: str

    def __post_init__(self) -> None:
        for name in ("issuer", "subject"):
            value = getattr(self, name)
            if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST or not value.isprintable():
                raise Invalid(
                    f"An {name} is 1 to {_LONGEST} printable characters.".replace("An subject", "A subject"),
                    field=name,
                    remedy="Take it from the verified token.",
                )

    def __repr__(self) -> str:
        return "ExternalSubject(…)"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


class ExternalIdentity(Entity):
    """A person as an identity provider knows them; once in a tenant. Who has one has no password."""

    user: Annotated[Ref[User], Once()]
    issuer: Annotated[str, Length(_LONGEST, min=1), Once()]
    subject: Annotated[Personal[str], Search("exact"), Length(_LONGEST, min=1)]

    rules = Rules(
        Unique("issuer", "subject"),
        Index("user", query="a person's identities"),
        subject="user",
        retain="identity",
        readable={"issuer": Readable.CODE},
    )


class ExternalIdentities(Guarded[ExternalIdentity]):
    """Which person an identity provider's subject is."""

    permission = "logins.manage"
    instead = "db.logins.identities.link() and unlink()"

    async def link(self, user: UserLike, who: ExternalSubject) -> ExternalIdentity:
        """Let a person in by what an identity provider says; their password and open tokens are gone from then on.

        A person does it for themselves, for others it takes "logins.manage". Raises ``Duplicate`` for a subject that
        is linked already, ``RoleMissing``, ``NotFound``, ``Invalid``.
        """
        db, id, given = self.db, user_id(user), checked_subject(who)
        await acting_user(db, id, self.permission)
        async with db.transaction():
            found = await db.users.lock(id)
            made = await put(self, ExternalIdentity(user=Ref(id), issuer=given.issuer, subject=given.subject))
            await alter(db.users, found, password_hash=None)
            await void(db, id)
            await record(db, "identity.linked", id)
        return made

    async def unlink(self, identity: ExternalIdentity) -> None:
        """End that. The person needs another identity or ``db.logins.passwords.set`` to log in again."""
        db = self.db
        async with db.transaction():
            # Whose it is the row says, and not what was given.
            found = await self.get(identity.id)
            await acting_user(db, found.user.id, self.permission)
            await drop_where(self, ExternalIdentity.id == found.id, reason="identity unlinked")
            await record(db, "identity.unlinked", found.user.id)

    async def of_user(self, user: UserLike) -> list[ExternalIdentity]:
        """A person's identities."""
        return await self.find(ExternalIdentity.user == Ref(user_id(user)))

    async def owner(self, who: ExternalSubject) -> UUID | None:
        """The id of the person that a subject is."""
        given = checked_subject(who)
        for found in await self.find(
            ExternalIdentity.issuer == given.issuer, ExternalIdentity.subject == given.subject, limit=1
        ):
            # The index folds what Unicode holds for compatible; a subject is compared as it is.
            if found.subject == given.subject:
                return found.user.id
        return None


def checked_subject(given: object) -> ExternalSubject:
    """The subject itself. Raises ``Invalid`` for anything else."""
    if isinstance(given, ExternalSubject):
        return given
    raise Invalid("That is no subject.", field="who", remedy="Write ExternalSubject(issuer=..., subject=...).")
