"""Behaviour sessions: the visit, sync or import that inputs came in with."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from tallystick.domains.identity.users import User
from tallystick.entity import Entity
from tallystick.errors import Conflict
from tallystick.fields import Once, Ref
from tallystick.repository import Repository
from tallystick.rules import Check, Index, Readable, Rules, Transitions, Unique


class SessionType(StrEnum):
    """What kind of session inputs came in with."""

    WEB = "web"
    MOBILE = "mobile"
    API = "api"
    WALLET = "wallet"
    IMPORT = "import"


class SessionStatus(StrEnum):
    """Where a session is in its life: open, ended in one of three ways, and then processed into a score."""

    OPEN = "open"
    CLOSED = "closed"
    EXPIRED = "expired"
    ABANDONED = "abandoned"
    PROCESSING = "processing"
    SCORED = "scored"


_S = SessionStatus


class BehaviorSession(Entity):
    """One session of a user. ``token_hash`` is the SHA-256 of its token; the token itself is never stored."""

    user: Annotated[Ref[User], Once()]
    type: Annotated[SessionType, Once()]
    status: SessionStatus = SessionStatus.OPEN
    started_at: Annotated[datetime, Once()]
    ended_at: datetime | None = None
    token_hash: Annotated[bytes, Once()] | None = None

    rules = Rules(
        Unique("token_hash", where="token_hash is not null"),
        Unique("id", "user"),
        Index("user", "started_at", query="a user's sessions, newest first"),
        Index("status", "started_at", query="sessions of a status: those to process, those to expire"),
        Check("token", "token_hash is null or octet_length(token_hash) = 32"),
        Check("order", "ended_at is null or ended_at >= started_at"),
        Check("ended", "(status = 'open') = (ended_at is null)"),
        Transitions(
            "status",
            {
                _S.OPEN: [_S.CLOSED, _S.EXPIRED, _S.ABANDONED],
                _S.CLOSED: [_S.PROCESSING],
                _S.PROCESSING: [_S.SCORED],
            },
            initial=[_S.OPEN],
        ),
        retain="scoring",
        readable={"token_hash": Readable.DIGEST},
    )


class BehaviorSessions(Repository[BehaviorSession]):
    """The users' sessions."""

    async def end(self, session: UUID, status: SessionStatus = SessionStatus.CLOSED) -> BehaviorSession:
        """End an open session: closed, expired or abandoned. Raises ``NotFound``, ``InvalidTransition``, ``Conflict``.

        A session is ended once; whoever comes second is told how it ended.
        """
        db = self.db
        async with db.transaction():
            found = await self.lock(session)
            if found.status is not _S.OPEN:
                raise Conflict(f"The session is {found.status.value} already.", entity="BehaviorSession")
            return await self.update(found, status=status, ended_at=max(db.now(), found.started_at))
