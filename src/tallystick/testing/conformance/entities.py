"""The entities of the conformance suite: every kind of field, and every rule."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec

from tallystick.entity import Entity
from tallystick.fields import (
    ChainAmount,
    Fraction,
    Json,
    Length,
    Mask,
    Numeric,
    OwnAsset,
    Personal,
    Price,
    Rate,
    Ref,
    Search,
)
from tallystick.money import Money
from tallystick.privacy.sealed import Secret
from tallystick.rules import Check, Index, Queue, Rules, Transitions, Unique, append_only


class Owner(Entity):
    """Somebody to refer to."""

    name: Annotated[str, Length(120)]

    rules = Rules(table="kit_owner")


class Colour(StrEnum):
    """A few words whose order is not that of their making."""

    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Detail(msgspec.Struct, frozen=True):
    """A typed document."""

    name: str
    score: int = 0


class Sink(Entity):
    """A field of every kind, once required and once optional."""

    label: Annotated[str, Length(200)] = ""
    note: str | None = None
    number: int = 0
    amount: int | None = None
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
    owner: Ref[Owner] | None = None
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
        table="kit_sink",
    )


class Shelf(Entity):
    """Something that can be set aside, with a unique name among those that are not."""

    name: Annotated[str, Length(80, min=1)]
    stock: int = 0
    archived_at: datetime | None = None

    rules = Rules(Unique("name"), Check("stock", "stock >= 0"), table="kit_shelf")


class Job(Entity):
    """A work item."""

    name: Annotated[str, Length(80)]

    rules = Rules(Queue(), table="kit_job")


class Entry(Entity):
    """Something written once."""

    text: Annotated[str, Length(200)]
    amount: Money

    rules = Rules(append_only(), table="kit_entry")


class Member(Entity):
    """Somebody with a sealed number, unique, to write by that number."""

    number: Annotated[Secret[str], Search("digits"), Mask(3)]
    name: Personal[str]
    points: int = 0

    rules = Rules(Unique("number"), table="kit_member")


class Door(StrEnum):
    """Where a door stands."""

    SHUT = "shut"
    OPEN = "open"
    LOCKED = "locked"
    GONE = "gone"


class Gate(Entity):
    """Something with a state machine."""

    name: Annotated[str, Length(80)]
    state: Door = Door.SHUT
    owner: Ref[Owner] | None = None

    rules = Rules(
        Unique("owner", "name"),
        Transitions(
            "state",
            {Door.SHUT: [Door.OPEN, Door.LOCKED], Door.OPEN: [Door.SHUT, Door.GONE], Door.LOCKED: [Door.SHUT]},
            initial=[Door.SHUT, Door.LOCKED],
        ),
        table="kit_gate",
    )


ENTITIES: tuple[type[Entity], ...] = (Owner, Sink, Shelf, Job, Entry, Member, Gate)
"""What a store is installed with for the suite."""
