"""Entities of the audit's own tests."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec

from tallystick import ChainAmount, Entity, Mask, Money, Personal, Queue, Rate, Ref, Rules, Search, Secret, Unique


class Mood(StrEnum):
    CALM = "calm"
    CROSS = "cross"


class Dossier(Entity):
    """Something of every kind, and whoever reads it is written down."""

    title: str
    number: int = 0
    mood: Mood = Mood.CALM
    cost: Money | None = None
    wei: ChainAmount = 0
    rate: Rate = Decimal("0.1")
    day: date | None = None
    moment: datetime | None = None
    raw: bytes | None = None
    other: UUID | None = None
    flag: bool = False
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    name: Annotated[Personal[str], Search("exact")] | None = None
    code: Annotated[Secret[str], Search("digits"), Mask(4)] | None = None

    rules = Rules(Unique("title"), audit_reads=True, table="audit_dossier")


class Note(Entity):
    """Refers to a dossier, and is not watched itself."""

    dossier: Ref[Dossier]
    text: str

    rules = Rules(table="audit_note")


class Errand(Entity):
    """Work items that are watched."""

    title: str

    rules = Rules(Queue(), audit_reads=True, table="audit_errand")


ENTITIES = (Dossier, Note, Errand)
