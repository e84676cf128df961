"""Entities that have every kind of field and rule, so that an attack on any of them has something to hit."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec

from tallystick import (
    ChainAmount,
    Check,
    Entity,
    Index,
    Json,
    Length,
    Mask,
    Money,
    Numeric,
    OwnAsset,
    Personal,
    Queue,
    Ref,
    Rules,
    Search,
    Secret,
    Transitions,
    Unique,
    append_only,
    usd,
)


class Stage(StrEnum):
    OPEN = "open"
    HELD = "held"
    GONE = "gone"


class Note(msgspec.Struct, frozen=True):
    """A typed document."""

    text: str
    score: int = 0


class Holder(Entity):
    """Somebody whom parcels belong to, unique by a plain and by a personal field."""

    code: Annotated[str, Length(40, min=1)]
    email: Annotated[Personal[str], Search("email")] | None = None
    name: Personal[str] | None = None
    nick: Annotated[Personal[str], Search("name", bits=1)] | None = None
    pin: Annotated[Secret[str], Search("digits", bits=2, last=2)] | None = None

    rules = Rules(Unique("code"), Unique("email"), retain="identity")


class Parcel(Entity):
    """A row with one field of every kind."""

    holder: Ref[Holder]
    previous: Ref[Parcel] | None = None
    label: Annotated[str, Length(40)]
    remark: str | None = None
    count: int = 0
    ceiling: int | None = None
    is_open: bool = True
    token: UUID | None = None
    seen_at: datetime | None = None
    due_on: date | None = None
    ratio: Annotated[Decimal, Numeric(12, 8)] | None = None
    stage: Stage = Stage.OPEN
    document: Annotated[dict[str, Any], Json(promote={"score": int})] = msgspec.field(default_factory=dict)
    note: Note | None = None
    tags: list[str] = msgspec.field(default_factory=list)
    raw: bytes | None = None
    fee: Money
    tax: Money | None = None
    deposit: Annotated[Money, OwnAsset()] | None = None
    wei: ChainAmount | None = None
    national_id: Annotated[Secret[str], Search("digits"), Mask(4)] | None = None
    score: Secret[int] | None = None
    phone: Annotated[Personal[str], Search("phone")] | None = None
    address: Personal[dict[str, Any]] | None = None

    rules = Rules(
        Unique("label"),
        Index("stage", "created_at", query="parcels of a stage, newest first"),
        Index("count", query="parcels by count"),
        Index("seen_at", query="parcels seen in a period"),
        Index("due_on", query="parcels due"),
        Index("is_open", query="open parcels"),
        Index("token", query="a parcel by token"),
        Index("fee", query="parcels by fee"),
        Index("document_score", query="parcels by score"),
        Index("remark", query="parcels by remark"),
        Check("count", "count between -1000000 and 1000000"),
        Check("fee_bound", "fee >= 0"),
        Transitions(
            "stage", {Stage.OPEN: [Stage.HELD], Stage.HELD: [Stage.OPEN, Stage.GONE]}, initial=[Stage.OPEN, Stage.HELD]
        ),
        retain="lending",
    )


class Trail(Entity):
    """Rows that are written once."""

    parcel: Ref[Parcel]
    text: str

    rules = Rules(append_only(), retain="audit")


class Errand(Entity):
    """Work items."""

    what: Annotated[str, Length(100)]
    archived_at: datetime | None = None

    rules = Rules(Queue(), retain="technical")


ENTITIES = (Holder, Parcel, Trail, Errand)
TABLES = ("holder", "parcel", "trail", "errand")


def holder(code: str = "h", **given: Any) -> Holder:
    """A holder with what it needs."""
    return Holder(**{"code": code, **given})


def parcel(of: Holder | Ref[Holder] | UUID, label: str = "p", **given: Any) -> Parcel:
    """A parcel with what it needs."""
    target = of.ref if isinstance(of, Holder) else of if isinstance(of, Ref) else Ref(of)
    return Parcel(**{"holder": target, "label": label, "fee": usd("1.00"), **given})
