"""Authenticators: which code of a person's app was used last, so that none is taken twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from tallystick.domains.guarded import Guarded
from tallystick.domains.identity.users import User
from tallystick.entity import Entity
from tallystick.fields import Once, Ref
from tallystick.ids import uuid7
from tallystick.rules import Check, Rules, Unique

if TYPE_CHECKING:
    from tallystick.session import Session


class Authenticator(Entity):
    """The step (half minute, RFC 6238) of the code that a person used last. The secret is the account's."""

    user: Annotated[Ref[User], Once()]
    last_step: int

    rules = Rules(Unique("user"), Check("last_step", "last_step >= 0"), audit=False)


class Authenticators(Guarded[Authenticator]):
    """The authenticators; written by ``db.logins``."""

    permission = "logins.manage"
    instead = "db.logins.mfa"


async def advance(db: Session, user: UUID, step: int) -> bool:
    """Take the code of a step: True once, for a step later than all before (RFC 6238, section 5.2)."""
    return bool(await db.unit.call(_ADVANCE, (db.tenant_id, uuid7(), user, step)))


_ADVANCE = (
    "INSERT INTO tally.authenticator AS a (tenant_id, id, user_id, last_step) VALUES ($1, $2, $3, $4) "
    "ON CONFLICT (tenant_id, user_id) DO UPDATE SET last_step = excluded.last_step "
    "WHERE a.last_step < excluded.last_step RETURNING a.id"
)
