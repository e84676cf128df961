"""Entities that the tests share; every one is installed in the tests' database."""

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
    Fraction,
    Index,
    Json,
    Length,
    Mask,
    Money,
    Numeric,
    OwnAsset,
    Personal,
    Price,
    Queue,
    Rate,
    Ref,
    Rules,
    Search,
    Secret,
    Transitions,
    Unique,
    User,
    append_only,
)


class VisitStatus(StrEnum):
    PLANNED = "planned"
    DONE = "done"
    MISSED = "missed"


class Visit(Entity):
    """A field visit to a borrower before a loan is approved."""

    borrower: Ref[User]
    national_id: Annotated[Secret[str], Search("digits"), Mask(4)]
    fee: Money
    status: VisitStatus = VisitStatus.PLANNED
    seen_at: datetime | None = None

    rules = Rules(
        Index("status", "seen_at", query="visits of a day"),
        Unique("borrower", "seen_at"),
        Transitions(
            "status", {VisitStatus.PLANNED: [VisitStatus.DONE, VisitStatus.MISSED]}, initial=[VisitStatus.PLANNED]
        ),
        retain="lending",
    )


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Detail(msgspec.Struct, frozen=True):
    """A typed document."""

    name: str
    score: int = 0


class Sink(Entity):
    """One field of every kind, twice where it may be missing."""

    label: Annotated[str, Length(200)]
    note: str | None = None
    number: int = 0
    count: int | None = None
    flag: bool = False
    maybe: bool | None = None
    token: UUID | None = None
    at: datetime | None = None
    day: date | None = None
    rate: Rate = Decimal(0)
    price: Price | None = None
    share: Fraction | None = None
    ratio: Annotated[Decimal, Numeric(5, 2)] | None = None
    colour: Colour = Colour.RED
    shade: Colour | None = None
    raw: bytes = b""
    blob: bytes | None = None
    fee: Money | None = None
    ceiling: Money | None = None
    deposit: Annotated[Money, OwnAsset()] | None = None
    wei: ChainAmount = 0
    gas: ChainAmount | None = None
    owner: Ref[User] | None = None
    parent: Ref[Sink] | None = None
    pin: Annotated[Secret[str], Search("exact"), Mask(2)] | None = None
    score: Secret[int] | None = None
    email: Annotated[Personal[str], Search("email")] | None = None
    phone: Annotated[Personal[str], Search("phone")] | None = None
    name: Personal[str] | None = None
    address: Personal[dict[str, Any]] | None = None
    payload: Annotated[dict[str, Any], Json(promote={"score": int, "kind": str, "ok": bool})] = msgspec.field(
        default_factory=dict
    )
    tags: list[str] | None = None
    detail: Detail | None = None

    rules = Rules(
        Index("number", query="sinks by number"),
        Index("colour", "number", query="sinks of a colour"),
        Index("payload_score", query="sinks by the score of their payload"),
        Check("ratio", "ratio is null or ratio >= 0"),
    )


class Shelf(Entity):
    """Something that can be set aside, with a unique name among those that are not."""

    name: Annotated[str, Length(80, min=1)]
    stock: int = 0
    archived_at: datetime | None = None

    rules = Rules(Unique("name"), Check("stock", "stock >= 0"))


class Job(Entity):
    """A work item."""

    name: Annotated[str, Length(80)]
    tries: int = 0

    rules = Rules(Queue())


class Entry(Entity):
    """Something written once."""

    text: Annotated[str, Length(200)]
    amount: Money

    rules = Rules(append_only())


class Member(Entity):
    """Somebody with a sealed, unique number, to write by that number."""

    number: Annotated[Secret[str], Search("digits"), Mask(3)]
    name: Personal[str]
    points: int = 0

    rules = Rules(Unique("number"))


ALL = (Visit, Sink, Shelf, Job, Entry, Member)
