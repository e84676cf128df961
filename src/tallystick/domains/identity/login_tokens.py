"""Tokens: what a person shows once to go on: to a second factor, or to a new password."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from tallystick.domains.guarded import Guarded, put
from tallystick.domains.identity.users import User
from tallystick.entity import Entity
from tallystick.fields import Once, Ref
from tallystick.rules import Check, Index, Readable, Rules, Unique

if TYPE_CHECKING:
    from tallystick.session import Session

_BYTES = 32
_LONGEST = 100


class TokenUse(StrEnum):
    """What a token is for."""

    CHALLENGE = "challenge"
    RESET = "reset"


class LoginToken(Entity):
    """A token that was given out, as its hash: 256 random bits need no slow one. It holds once and until it expires."""

    user: Annotated[Ref[User], Once()]
    use: Annotated[TokenUse, Once()]
    digest: Annotated[bytes, Once()]
    expires_at: Annotated[datetime, Once()]
    used_at: datetime | None = None

    rules = Rules(
        Unique("digest"),
        Index("user", where="used_at is null", query="a person's open tokens"),
        Index("expires_at", query="tokens that are over"),
        Check("digest", "octet_length(digest) = 32"),
        audit=False,
        readable={"digest": Readable.DIGEST},
    )


class LoginTokens(Guarded[LoginToken]):
    """The tokens; written by ``db.logins``."""

    permission = "logins.manage"
    instead = "db.logins"


async def issue(db: Session, user: UUID, use: TokenUse, lasting: timedelta) -> str:
    """A new token, which is told once and never stored."""
    token = secrets.token_urlsafe(_BYTES)
    await put(
        db[LoginToken],
        LoginToken(user=Ref(user), use=use, digest=_digest(token), expires_at=db.now() + lasting),
    )
    return token


async def bearer(db: Session, token: object, use: TokenUse) -> UUID | None:
    """Whose token it is, while it holds."""
    if not isinstance(token, str) or not 1 <= len(token) <= _LONGEST:
        return None
    rows = await db.unit.call(_BEARER, (db.tenant_id, _digest(token), use.value, db.now()))
    return rows[0][0] if rows else None


async def spend(db: Session, token: str, use: TokenUse) -> bool:
    """Use a token up; False when somebody else did, or it is over."""
    return bool(await db.unit.call(_SPEND, (db.tenant_id, _digest(token), use.value, db.now())))


async def void(db: Session, user: UUID) -> None:
    """Use all open tokens of a person up, because what they proved holds no more."""
    await db.unit.call(_VOID, (db.tenant_id, user, db.now()))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


_HOLDS = "tenant_id = $1 AND digest = $2 AND use = $3 AND used_at IS NULL AND expires_at > $4"
_BEARER = f"SELECT user_id FROM tally.login_token WHERE {_HOLDS}"
_SPEND = f"UPDATE tally.login_token SET used_at = $4 WHERE {_HOLDS} RETURNING id"
_VOID = "UPDATE tally.login_token SET used_at = $3 WHERE tenant_id = $1 AND user_id = $2 AND used_at IS NULL"
