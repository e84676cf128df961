"""Outbox messages as rows, and the lanes that put messages of one key in order."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from tallystick.domains.guarded import Guarded
from tallystick.domains.identity.users import User
from tallystick.entity import Entity
from tallystick.fields import Length, Maintained, Once, Personal, Ref
from tallystick.rules import Check, Guard, Index, Readable, Rules, Transitions, Unique, kept

LONGEST_TOPIC = 100
LONGEST_KEY = 200
LARGEST = 65_536
"""Bytes of JSON that a payload may have, and so may its personal part."""
LANES = 1_024
"""Over how many rows a tenant's keys are spread."""


class OutboxState(StrEnum):
    """Where a message stands. A stuck one was given up, and the rest of its key waits for a decision."""

    PENDING = "pending"
    DONE = "done"
    DEAD = "dead"
    STUCK = "stuck"
    DISCARDED = "discarded"


_S = OutboxState


class OutboxMessage(Entity):
    """A message to be handled at least once, in order among those of its topic and key.

    ``due_at`` is when it may be claimed: the database's clock judges, and a lease is a due time in the future.
    ``position`` orders the messages of a key by the commits of their transactions. ``tries`` counts deliveries.
    """

    topic: Annotated[str, Length(LONGEST_TOPIC, min=1), Once()]
    key: Annotated[str, Length(LONGEST_KEY, min=1), Once()] | None = None
    payload: Annotated[Any | None, Once()] = None
    personal: Annotated[Personal[dict[str, Any]], Once()] | None = None
    subject: Annotated[Ref[User], Once()] | None = None
    dedupe: Annotated[str, Length(LONGEST_KEY, min=1), Once()] | None = None
    reason: Annotated[str, Length(500), Once()] | None = None
    request_id: Annotated[str, Length(200), Once()] | None = None
    position: Annotated[int, Maintained()] = 0
    state: OutboxState = OutboxState.PENDING
    due_at: datetime | None = None
    token: UUID | None = None
    tries: int = 0
    error: Annotated[str, Length(100, min=1)] | None = None
    finished_at: datetime | None = None

    rules = Rules(
        Unique("topic", "dedupe", where="dedupe is not null"),
        Index(
            "topic",
            "key",
            "position",
            query="the messages of a key that are not over, in order",
            where="key is not null and state in ('pending', 'stuck')",
        ),
        Index(
            "topic",
            "due_at",
            query="messages without a key that are due",
            where="key is null and state = 'pending'",
        ),
        Index("topic", "state", "created_at", query="dead letters", where="state in ('dead', 'stuck')"),
        Index("subject", query="messages about a person", where="subject_id is not null"),
        Index("finished_at", query="messages to purge", where="finished_at is not null"),
        Check("tries", "tries >= 0"),
        Check("payload", f"octet_length(payload::text) <= {2 * LARGEST}"),
        Check("finished", "(state in ('done', 'discarded')) = (finished_at is not null)"),
        Check("held", "token is null or state = 'pending'"),
        Check("personal", "personal is null or subject_id is not null"),
        Guard("tally_order", "BEFORE INSERT", "tally.outbox_order()"),
        Guard(
            "tally_unfinished",
            "BEFORE DELETE",
            "tally.refuse_change('outbox_message')",
            when="OLD.\"state\" not in ('done', 'discarded')",
        ),
        Transitions(
            "state",
            {
                _S.PENDING: [_S.DONE, _S.DEAD, _S.STUCK, _S.DISCARDED],
                _S.DEAD: [_S.PENDING, _S.DISCARDED],
                _S.STUCK: [_S.PENDING, _S.DISCARDED],
            },
            initial=[_S.PENDING],
        ),
        subject="subject",
        retain="operations",
        # A message says again what the rows of its transaction say, and those are in the log.
        audit=False,
        fillfactor=70,
        readable={
            "topic": Readable.CODE,
            "key": Readable.CODE,
            "payload": Readable.TERMS,
            "dedupe": Readable.CODE,
            "reason": Readable.NOTE,
            "request_id": Readable.CODE,
            "error": Readable.CODE,
        },
    )


class OutboxMessages(Guarded[OutboxMessage]):
    """The tenant's messages as rows, to look at; they are written by ``db.outbox``."""

    permission = "outbox.manage"
    instead = "db.outbox.add(), claim(), retry() and discard()"


class OutboxLane(Entity):
    """A counter that keys share: who adds a message of a key waits here for whoever added before and has not committed.

    So numbers of a key are handed out in the order of commits. Only the database writes it.
    """

    lane: Annotated[int, Once()]
    last: Annotated[int, Maintained()] = 0

    rules = Rules(
        Unique("lane"),
        Check("lane", f"lane between 0 and {LANES - 1}"),
        kept(),
        retain="operations",
        audit=False,
        fillfactor=50,
    )
