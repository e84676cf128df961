"""Behaviour inputs: what a user did somewhere, waiting to be processed into a score."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec

from tallystick.claims import Claimed
from tallystick.domains.identity.users import User, UserLike, user_id
from tallystick.domains.reputation.sessions import BehaviorSession
from tallystick.entity import Entity, with_fields
from tallystick.errors import Conflict, Duplicate, Invalid, LeaseLost
from tallystick.fields import Length, Maintained, Once, Ref
from tallystick.query import missing
from tallystick.repository import Repository
from tallystick.rules import Check, Foreign, Guard, Index, Queue, Readable, Rules, Unique

if TYPE_CHECKING:
    from tallystick.domains.reputation.analytics import BehaviorAnalyticsSummary

_MOST_IDS = 100_000
_MARK = (
    "UPDATE tally.behavior_input b SET done_at = now(), lease_token = NULL, lease_until = NULL "
    "WHERE b.tenant_id = $1 AND b.id = ANY ($2::uuid[]) AND b.done_at IS NULL "
    "AND (b.lease_until IS NULL OR b.lease_until < now()) RETURNING b.id"
)
_FINISH = (
    "UPDATE tally.behavior_input b SET done_at = now(), lease_token = NULL, lease_until = NULL "
    "WHERE b.tenant_id = $1 AND b.id = ANY ($2::uuid[]) AND b.lease_token = ANY ($3::uuid[]) AND b.done_at IS NULL "
    "RETURNING b.id"
)
_LOCK = (
    "SELECT b.id FROM tally.behavior_input b WHERE b.tenant_id = $1 AND b.id = ANY ($2::uuid[]) "
    "ORDER BY b.id FOR NO KEY UPDATE"
)


class InputType(StrEnum):
    """What kind of behaviour an input tells of."""

    TRANSACTION = "transaction"
    DEFI = "defi"
    NFT = "nft"
    GOVERNANCE = "governance"
    SOCIAL = "social"
    LOGIN = "login"
    SURVEY = "survey"
    OTHER = "other"


class InputSource(StrEnum):
    """Where an input came from."""

    BLOCKCHAIN = "blockchain"
    API = "api"
    WEB = "web"
    MOBILE = "mobile"
    ORACLE = "oracle"
    MANUAL = "manual"


class BehaviorInput(Entity):
    """One thing that a user did, once for each user, source and ``external_id`` however often it is delivered.

    ``client_session`` is what the outside calls its session, ``session`` the user's own here. ``payload_hash`` is the
    SHA-256 of the payload in a canonical form; ``receive`` computes it. ``processed_at`` is the database's: it is set
    when a worker is done, and never taken back.
    """

    user: Annotated[Ref[User], Once()]
    session: Annotated[Ref[BehaviorSession], Once()] | None = None
    client_session: Annotated[str, Length(200, min=1), Once()] | None = None
    type: Annotated[InputType, Once()]
    source: Annotated[InputSource, Once()]
    external_id: Annotated[str, Length(200, min=1), Once()]
    payload: Annotated[dict[str, Any], Once()] = msgspec.field(default_factory=dict)
    payload_hash: Annotated[bytes, Once()] | None = None
    occurred_at: Annotated[datetime, Once()]
    processed_at: Annotated[datetime, Maintained()] | None = None

    rules = Rules(
        Unique("user", "source", "external_id"),
        Foreign("session", "user", to=BehaviorSession, of=("id", "user_id")),
        Index("user", "occurred_at", query="a user's inputs by time"),
        Index("session", "occurred_at", query="the inputs of a session"),
        Index("client_session", "occurred_at", query="the inputs of an outside session"),
        Index("type", "occurred_at", query="inputs of a type by time"),
        Check("payload_hash", "payload_hash is null or octet_length(payload_hash) = 32"),
        Guard(
            "tally_processed",
            "BEFORE UPDATE",
            "tally.behavior_processed('behavior_input')",
            when='OLD."done_at" IS DISTINCT FROM NEW."done_at"',
        ),
        Queue("occurred_at"),
        retain="scoring",
        readable={
            "client_session": Readable.CODE,
            "external_id": Readable.CODE,
            "payload": Readable.BY_ID,
            "payload_hash": Readable.DIGEST,
        },
    )


class Inputs(Repository[BehaviorInput]):
    """The tenant's behaviour inputs; workers take them with ``claim``."""

    async def receive(self, entity: BehaviorInput) -> BehaviorInput:
        """Store an input, or answer the one that was delivered before: a repeated delivery is no second input.

        Raises ``Conflict`` when the same user, source and id came before with another payload, type or time.
        """
        self._check_kind(entity)
        fresh = with_fields(entity, payload_hash=payload_hash(entity.payload))
        async with self.db.transaction():
            try:
                async with self.db.transaction():
                    return await self.add(fresh)
            except Duplicate:
                pass
            known = await self.one(
                BehaviorInput.user == Ref(entity.user.id),
                BehaviorInput.source == entity.source,
                BehaviorInput.external_id == entity.external_id,
            )
        told = (fresh.payload_hash, fresh.type, fresh.occurred_at)
        if (known.payload_hash, known.type, known.occurred_at) != told:
            raise Conflict(
                "Another input came from this source under the same id.",
                entity="BehaviorInput",
                rule="external_id",
                remedy="Give what happened later an id of its own; an input is never rewritten.",
            )
        return known

    async def of_user(self, user: UserLike, *, limit: int | None = None) -> list[BehaviorInput]:
        """A user's inputs, oldest first."""
        return await self.find(BehaviorInput.user == Ref(user_id(user)), order=BehaviorInput.occurred_at, limit=limit)

    async def of_session(self, session: UUID | str, *, limit: int | None = None) -> list[BehaviorInput]:
        """The inputs of a session, oldest first: ours by its id, an outside one by its name."""
        if not isinstance(session, (UUID, str)):
            raise Invalid("A session is named by its id, or by what the outside calls it.", field="session")
        where = (
            BehaviorInput.session == Ref(session)
            if isinstance(session, UUID)
            else BehaviorInput.client_session == session
        )
        return await self.find(where, order=BehaviorInput.occurred_at, limit=limit)

    async def unprocessed(self, *, limit: int | None = None) -> list[BehaviorInput]:
        """Inputs that nobody has processed, oldest first, to look at. To work on them, ``claim`` them."""
        return await self.find(missing(BehaviorInput.processed_at), order=BehaviorInput.occurred_at, limit=limit)

    async def mark_processed(self, inputs: Iterable[BehaviorInput | UUID]) -> int:
        """Mark inputs processed without a claim, all or none, in one statement; answers how many.

        Raises ``Conflict`` when one was processed before, is leased by a worker, or does not exist: none is marked.
        """
        ids = _ids(inputs)
        if not ids:
            return 0
        async with self.db.transaction():
            await self.db.unit.call(_LOCK, (self.db.tenant_id, ids), self.spec)
            done = await self.db.unit.call(_MARK, (self.db.tenant_id, ids), self.spec)
            if len(done) != len(ids):
                raise Conflict(
                    f"{len(ids) - len(done)} of the inputs are processed, leased by a worker, or not there.",
                    entity="BehaviorInput",
                    remedy="Claim inputs with db.inputs.claim(...), so that nobody else works on them.",
                )
        return len(done)

    async def finish(self, items: Iterable[Claimed[BehaviorInput]]) -> int:
        """Mark claimed inputs done in one statement, all or none; answers how many.

        For workers that take many at a time, where ``async with item`` would be a round trip each. Raises
        ``LeaseLost`` when the lease on any of them is over: then none is marked, and those still held can be finished.
        """
        given: list[Any]
        try:
            given = [items] if isinstance(items, Claimed) else list(items)
        except TypeError:
            given = [items]
        if len(given) > _MOST_IDS or not all(isinstance(i, Claimed) for i in given):
            raise Invalid("finish() takes what claim() gave.", field="items", entity="BehaviorInput")
        held = {i.value.id: i.token for i in given}
        if not held:
            return 0
        async with self.db.transaction():
            args = (self.db.tenant_id, list(held), list(set(held.values())))
            done = await self.db.unit.call(_FINISH, args, self.spec)
            if len(done) != len(held):
                raise LeaseLost(f"The lease on {len(held) - len(done)} of the inputs is over.", entity="BehaviorInput")
        return len(done)

    async def analytics(
        self, *, user: UserLike | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> BehaviorAnalyticsSummary:
        """How many inputs of each type and source there are, and how many wait, from ``start`` until before ``end``."""
        from tallystick.domains.reputation.analytics import analytics

        return await analytics(self.db, user, start, end)


def payload_hash(payload: Any) -> bytes:
    """The SHA-256 of a payload in a canonical form: keys in order, no blanks. Raises ``Invalid``."""
    try:
        return sha256(msgspec.json.encode(payload, order="sorted")).digest()
    except (TypeError, ValueError, RecursionError, OverflowError):
        raise Invalid(
            "The payload is no JSON document.",
            field="payload",
            entity="BehaviorInput",
            remedy="Give text, whole numbers, lists and dicts.",
        ) from None


def _ids(inputs: Any) -> list[UUID]:
    try:
        given = [inputs] if isinstance(inputs, (BehaviorInput, UUID)) else list(inputs)
    except TypeError:
        given = [inputs]
    if len(given) > _MOST_IDS or not all(isinstance(i, (BehaviorInput, UUID)) for i in given):
        raise Invalid(
            f"mark_processed() takes up to {_MOST_IDS:,} inputs or their ids.",
            field="inputs",
            entity="BehaviorInput",
        )
    return sorted({i if isinstance(i, UUID) else i.id for i in given})
