"""Recovery codes: what a person has on paper for the day when their phone is gone."""

from __future__ import annotations

import base64
import hmac
import os
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from tallystick.domains.guarded import Guarded, drop_where
from tallystick.domains.identity.users import User
from tallystick.entity import Entity
from tallystick.fields import Once, Ref
from tallystick.query import missing
from tallystick.repository import Repository
from tallystick.rules import Check, Readable, Rules, Unique

if TYPE_CHECKING:
    from tallystick.session import Session

HOW_MANY = 10
_BYTES, _GROUP = 10, 4


class RecoveryCode(Entity):
    """One code of a person, as a keyed hash: 80 random bits need no slow one. It works once."""

    user: Annotated[Ref[User], Once()]
    digest: Annotated[bytes, Once()]
    used_at: datetime | None = None

    rules = Rules(
        Unique("user", "digest"),
        Check("digest", "octet_length(digest) = 32"),
        audit=False,
        readable={"digest": Readable.DIGEST},
    )


class RecoveryCodes(Guarded[RecoveryCode]):
    """The codes; written by ``db.logins.mfa``."""

    permission = "logins.manage"
    instead = "db.logins.mfa"

    async def left(self, user: UUID) -> int:
        """How many codes of a person still work."""
        return await self.count(RecoveryCode.user == Ref(user), missing(RecoveryCode.used_at))


async def renew(db: Session, user: UUID) -> list[str]:
    """New codes for a person, told once; the old ones work no more."""
    await remove(db, user)
    codes = [_written(os.urandom(_BYTES)) for _ in range(HOW_MANY)]
    made = [RecoveryCode(user=Ref(user), digest=_digest(db, user, c)) for c in codes]
    await Repository.add_many(db[RecoveryCode], made)
    return codes


async def remove(db: Session, user: UUID) -> None:
    """Remove a person's codes."""
    await drop_where(db[RecoveryCode], RecoveryCode.user == Ref(user), reason="recovery codes replaced or removed")


async def redeem(db: Session, user: UUID, code: str) -> bool:
    """Use a code up; False when it is none, or was used."""
    return bool(await db.unit.call(_REDEEM, (db.tenant_id, user, _digest(db, user, code), db.now())))


def _written(raw: bytes) -> str:
    text = base64.b32encode(raw).decode()
    return "-".join(text[i : i + _GROUP] for i in range(0, len(text), _GROUP))


def _digest(db: Session, user: UUID, code: str) -> bytes:
    key = db.sealer.keyring().provider.index_key(db.tenant_id, "recovery_code", "digest")
    plain = "".join(code.split()).replace("-", "").upper().encode("utf-8", "surrogatepass")
    return hmac.digest(key, user.bytes + plain, "sha256")


_REDEEM = (
    "UPDATE tally.recovery_code SET used_at = $4 "
    "WHERE tenant_id = $1 AND user_id = $2 AND digest = $3 AND used_at IS NULL RETURNING id"
)
