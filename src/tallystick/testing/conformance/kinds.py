"""Every kind of field keeps its value to the last bit, at its extremes too, and refuses what it could not keep."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from tallystick.entity import with_fields
from tallystick.errors import Invalid
from tallystick.fields import Ref
from tallystick.ids import uuid7
from tallystick.money import Money, eur, usd
from tallystick.privacy.sealed import MASK, secret
from tallystick.testing.conformance.base import Base, values_of
from tallystick.testing.conformance.capabilities import Capability, needs
from tallystick.testing.conformance.entities import Colour, Detail, Owner, Sink

if TYPE_CHECKING:
    from tallystick.entity import Entity
    from tallystick.session import Session
    from tallystick.testing.factories import Make

_INT = 2**63
_WEI = 2**256
_ODD = "Zoë\t“quotes” ' \" \\ % _ $1 {}; --\r\n\u202eRTL\u202c e\u0301 🏦👩‍👩‍👧 \U0010ffff \u0001"
_EAST = timezone(timedelta(hours=5, minutes=45))

KEPT: dict[str, list[Any]] = {
    "label": ["", " ", "a" * 200, "é" * 200, "🏦" * 200, _ODD, "null", "NULL", "0", "\ufeffbom"],
    "note": [None, "", "x" * 100_000, _ODD],
    "number": [0, -1, _INT - 1, -_INT],
    "amount": [None, 0, _INT - 1, -_INT],
    "flag": [True, False],
    "maybe": [None, True, False],
    "token": [None, UUID(int=0), UUID(int=2**128 - 1), UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")],
    "at": [
        None,
        datetime(2026, 3, 29, 1, 30, 0, 123456, UTC),
        datetime(2026, 3, 29, 7, 15, 0, 999999, _EAST),
        datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999998, tzinfo=UTC),
    ],
    "day": [None, date(1, 1, 2), date(2024, 2, 29), date(1900, 2, 28), date(9999, 12, 30)],
    "rate": [Decimal(0), Decimal("0.00000001"), Decimal("-9999.99999999"), Decimal("9999.99999999"), Decimal("1E-8")],
    "price": [
        None,
        Decimal("0.000000000000000001"),
        Decimal("99999999999999999999.999999999999999999"),
        Decimal("-99999999999999999999.999999999999999999"),
        Decimal("1E+19"),
    ],
    "share": [None, Decimal("0.000001"), Decimal(1), Decimal("0.5")],
    "ratio": [None, Decimal("999.99"), Decimal("0.01"), Decimal("0.010")],
    "colour": list(Colour),
    "shade": [None, *Colour],
    "raw": [b"", bytes(range(256)), b"\x00" * 5000],
    "blob": [None, b"", b"\xff\x00'\\"],
    "fee": [None, usd("0"), usd("-0.01"), Money(_INT - 1, "USD"), Money(-_INT, "JPY"), eur("12.34")],
    "deposit": [None, Money(1, "KWD"), Money(-_INT, "NGN")],
    "wei": [0, 1, 10**38, _WEI - 1],
    "gas": [None, 0, _WEI - 1],
    "tags": [None, [], ["a", "", _ODD], ["x"] * 1000],
    "detail": [None, Detail(name=_ODD, score=-_INT), Detail(name="", score=0)],
    "payload": [
        {},
        {"a": None, "b": [1, 2.5, "x", {"deep": [[]]}], "": _ODD},
        {"score": 2**31, "kind": "k", "ok": True},
        {"score": None, "kind": None, "ok": None},
        {"big": 2**53 + 1, "small": -(2**63), "float": 1e15, "tiny": 5e-324, "neg": -0.5},
        {'quoted "key" \\ \'': "value", "\\u0041": "not an A"},
    ],
}

REFUSED: list[tuple[str, Any]] = [
    ("label", "a" * 201),
    ("label", "nul\0inside"),
    ("label", "\ud800"),
    ("label", b"bytes"),
    ("label", None),
    ("label", 5),
    ("note", "\0"),
    ("number", _INT),
    ("number", -_INT - 1),
    ("number", True),
    ("number", 1.0),
    ("number", "1"),
    ("number", None),
    ("flag", 1),
    ("flag", None),
    ("token", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    ("at", datetime(2026, 1, 1)),
    ("at", date(2026, 1, 1)),
    ("at", "2026-01-01T00:00:00Z"),
    ("at", datetime.max.replace(tzinfo=UTC)),
    ("at", datetime.min.replace(tzinfo=UTC)),
    ("at", datetime(1, 1, 1, 3, tzinfo=_EAST)),
    ("day", datetime(2026, 1, 1, tzinfo=UTC)),
    ("day", date.min),
    ("day", date.max),
    ("rate", Decimal("0.000000001")),
    ("rate", Decimal(10_000)),
    ("rate", Decimal("NaN")),
    ("rate", Decimal("Infinity")),
    ("rate", 0.5),
    ("price", Decimal("1E+20")),
    ("colour", "mauve"),
    ("colour", None),
    ("raw", "text"),
    ("fee", 5),
    ("fee", Decimal(5)),
    ("fee", Money(_INT, "USD")),
    ("wei", -1),
    ("wei", _WEI),
    ("wei", 1.0),
    ("owner", "nobody"),
    ("owner", 7),
    ("pin", "not a secret"),
    ("score", secret("not a number")),
    ("email", 5),
    ("tags", ["ok", 5]),
    ("detail", {"name": 5}),
    ("payload", {"nan": float("nan")}),
    ("payload", {"nul": "\0"}),
    ("payload", {"set": object()}),
    ("payload", {5: "key"}),
    ("payload", ["not", "an", "object"]),
]


def _case(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 24 and text.isascii() else f"{type(value).__name__}-{len(text)}"


class Kinds(Base):
    """Round trips of every kind, through every way in."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [(n, v) for n, values in KEPT.items() for v in values],
        ids=lambda v: v if isinstance(v, str) and v in KEPT else _case(v),
    )
    async def test_a_value_is_kept(self, db: Session, name: str, value: Any) -> None:
        """Through ``add``, ``update``, ``add_many`` and ``update_where``, and found by equality where that exists."""
        sinks = db[Sink]
        added = await sinks.add(Sink(**{name: value}))
        assert getattr(added, name) == value
        stored = await sinks.get(added.id)
        assert _same(getattr(stored, name), value)
        assert stored == added
        blank = await sinks.add(Sink(number=77))
        updated = await sinks.update(blank, **{name: value})
        assert _same(getattr(await sinks.get(blank.id), name), value)
        assert updated == await sinks.get(blank.id)
        many = await sinks.add_many([Sink(**{name: value}), Sink(number=78)])
        assert _same(getattr(await sinks.get(many[0].id), name), value)
        if name != "fee" and Capability.UPDATE_WHERE not in self.unsupported:
            assert await sinks.update_where(Sink.id == many[1].id, **{name: value}) == 1
            assert _same(getattr(await sinks.get(many[1].id), name), value)
        handle = getattr(Sink, name)
        if value is not None and handle.spec.kind != "json":
            found = {s.id for s in await sinks.find(handle == value)}
            assert {added.id, many[0].id} <= found

    @pytest.mark.parametrize(("name", "value"), REFUSED, ids=_case)
    async def test_what_could_not_be_kept_is_refused(self, db: Session, name: str, value: Any) -> None:
        """With ``Invalid`` that names the field and never shows the value, and nothing is written."""
        given: dict[str, Any] = {name: value}
        bad = Sink(**given)
        with pytest.raises(Invalid) as caught:
            await db[Sink].add(bad)
        assert caught.value.field == name
        assert caught.value.remedy or caught.value.problem
        if isinstance(value, str) and len(value) > 6:
            assert value not in str(caught.value)
        with pytest.raises(Invalid):
            await db[Sink].add_many([Sink(), bad])
        assert await db[Sink].count() == 0
        kept = await db[Sink].add(Sink())
        with pytest.raises(Invalid):
            await db[Sink].update(kept, **{name: value})
        assert await db[Sink].get(kept.id) == kept

    async def test_empty_and_missing_are_two_things(self, db: Session) -> None:
        """An empty text, list, document or amount of zero is not a missing one."""
        empty = await db[Sink].add(Sink(note="", blob=b"", tags=[], fee=usd(0), amount=0, gas=0))
        missing = await db[Sink].add(Sink())
        for name in ("note", "blob", "tags", "fee", "amount", "gas"):
            assert getattr(await db[Sink].get(empty.id), name) is not None
            assert getattr(await db[Sink].get(missing.id), name) is None
        assert [s.id for s in await db[Sink].find(Sink.note == "")] == [empty.id]

    async def test_one_moment_is_one_moment(self, db: Session) -> None:
        """A time is stored as a moment: two zones' words for it are equal and find the same row."""
        moment = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
        added = await db[Sink].add(Sink(at=moment.astimezone(_EAST)))
        stored = await db[Sink].get(added.id)
        assert stored.at == moment
        assert stored.at is not None
        assert stored.at.tzinfo is not None
        assert await db[Sink].count(Sink.at == moment.astimezone(timezone(timedelta(hours=-9)))) == 1

    async def test_money_fields_share_an_asset_unless_they_say_otherwise(self, db: Session) -> None:
        """Two assets in one row's shared column are refused; a field with its own asset is free."""
        kept = await db[Sink].add(Sink(fee=usd(1), ceiling=usd(9), deposit=eur(5)))
        stored = await db[Sink].get(kept.id)
        assert (stored.fee, stored.ceiling, stored.deposit) == (usd(1), usd(9), eur(5))
        with pytest.raises(Invalid):
            await db[Sink].add(Sink(fee=usd(1), ceiling=eur(9)))
        with pytest.raises(Invalid):
            await db[Sink].update(kept, ceiling=eur(9))
        both = await db[Sink].update(kept, fee=eur(2), ceiling=eur(9))
        assert (await db[Sink].get(both.id)).ceiling == eur(9)

    async def test_references_are_ids(self, db: Session) -> None:
        """A reference is stored by its id, whether it was loaded or not."""
        owner = await db[Owner].add(Owner(name="Ada"))
        parent = await db[Sink].add(Sink(owner=owner.ref))
        child = await db[Sink].add(Sink(owner=Ref(owner.id), parent=parent.ref))
        stored = await db[Sink].get(child.id)
        assert stored.owner == Ref(owner.id)
        assert stored.parent == parent.ref
        assert stored.owner is not None
        with pytest.raises(Invalid):
            _ = stored.owner.value
        with pytest.raises(Invalid):
            await db[Sink].add(Sink(owner=parent.ref))  # type: ignore[arg-type]

    @needs(Capability.SEALED)
    async def test_sealed_values_are_sealed(self, db: Session) -> None:
        """A secret shows its mask and nothing else; personal data is plain in the entity and found by its index."""
        address = {"street": _ODD, "no": 5}
        added = await db[Sink].add(
            Sink(
                pin=secret("hunter2hunter2"),
                score=secret(711),
                email="Ada.Lovelace@Example.org",
                phone="+44 20 7946 0958",
                name=_ODD,
                address=address,
            )
        )
        stored = await db[Sink].get(added.id)
        assert stored.pin is not None
        assert stored.pin.is_sealed
        assert str(stored.pin) == f"{MASK}r2"
        assert str(stored.score) == MASK
        assert (stored.email, stored.name, stored.address) == ("Ada.Lovelace@Example.org", _ODD, address)
        assert [s.id for s in await db[Sink].find(Sink.email == "ada.lovelace@EXAMPLE.ORG")] == [added.id]
        assert [s.id for s in await db[Sink].find(Sink.phone == "+442079460958")] == [added.id]
        assert [s.id for s in await db[Sink].find(Sink.pin == "hunter2hunter2")] == [added.id]
        assert await db[Sink].find(Sink.pin == "hunter2hunter3") == []
        assert "hunter" not in repr(stored)
        assert "Lovelace" not in repr(stored)

    @needs(Capability.SEALED)
    async def test_a_sealed_value_stays_when_something_else_changes(self, db: Session) -> None:
        """Reading, changing another field and writing leaves a secret as it was, and a new one replaces it."""
        added = await db[Sink].add(Sink(pin=secret("first-pin"), score=secret(1)))
        changed = await db[Sink].update(await db[Sink].get(added.id), number=4)
        assert await db[Sink].find(Sink.pin == "first-pin")
        replaced = await db[Sink].update(changed, pin=secret("second-pin"))
        assert not await db[Sink].find(Sink.pin == "first-pin")
        assert [s.id for s in await db[Sink].find(Sink.pin == "second-pin")] == [added.id]
        gone = await db[Sink].update(replaced, pin=None, email=None)
        assert (await db[Sink].get(gone.id)).pin is None

    @needs(Capability.SEALED)
    async def test_a_sealed_value_does_not_move(self, db: Session) -> None:
        """Ciphertext belongs to its row: putting it into another is refused."""
        one = await db[Sink].add(Sink(pin=secret("first-pin")))
        two = await db[Sink].add(Sink())
        with pytest.raises(Invalid):
            await db[Sink].update(two, pin=(await db[Sink].get(one.id)).pin)
        with pytest.raises(Invalid):
            await db[Sink].add(with_fields(await db[Sink].get(one.id), id=uuid7()))

    async def test_every_entity_goes_round(self, entity: type[Entity], db: Session, make: Make) -> None:
        """What was added is what is read, with the stamps of the database and the session's actor."""
        added = await make(entity)
        stored = await db[entity].get(added.id)
        assert values_of(stored) == values_of(added)
        assert stored.version == 1
        assert stored.tenant_id == db.tenant_id
        assert stored.created_by == stored.updated_by == "conformance"
        assert stored.created_at == stored.updated_at
        assert await db[entity].find() == [stored]
        assert [e async for e in db[entity].stream()] == [stored]
        assert (await db[entity].page()).items == [stored]
        assert await db[entity].one(entity.id == added.id) == stored


def _same(found: Any, value: Any) -> bool:
    """Equal, and of one type: True is not 1, and 5.0 is not 5."""
    if isinstance(value, dict):
        return type(found) is dict and found.keys() == value.keys() and all(_same(found[k], value[k]) for k in value)
    if isinstance(value, list):
        return type(found) is list and len(found) == len(value) and all(map(_same, found, value))
    alike = isinstance(found, type(value)) and isinstance(found, bool) == isinstance(value, bool)
    return alike and bool(found == value)
