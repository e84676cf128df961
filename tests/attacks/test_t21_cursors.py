"""T21: cursors of other tenants, queries and orders, and cursors somebody made."""

from __future__ import annotations

import base64
import random
from typing import Any

import msgspec
import pytest
from tests.attacks.conftest import Ground
from tests.attacks.entities import Holder, Parcel, Stage, holder, parcel

from tallystick import asc, desc, one_of
from tallystick.domains.identity.tenants import TenantInfo
from tallystick.errors import Invalid

Pair = tuple[TenantInfo, TenantInfo]


@pytest.fixture
async def filled(ground: Ground, pair: Pair) -> Pair:
    for tenant in pair:
        async with ground.tally.session(tenant, actor="a") as db:
            home = await db[Holder].add(holder("home"))
            await db[Holder].add_many([holder(f"h{n}") for n in range(5)])
            await db[Parcel].add_many([parcel(home, f"p{n}", count=n % 3, remark=f"r{n}") for n in range(12)])
    return pair


# Every query here differs from every other in tenant, entity, conditions, values or order.
QUERIES: list[tuple[Any, tuple[Any, ...], Any]] = [
    (Parcel, (), None),
    (Parcel, (), desc(Parcel.id)),
    (Parcel, (), asc(Parcel.created_at)),
    (Parcel, (), desc(Parcel.created_at)),
    (Parcel, (), asc(Parcel.label)),
    (Parcel, (), asc(Parcel.remark)),
    (Parcel, (), (asc(Parcel.count), desc(Parcel.label))),
    (Parcel, (), (desc(Parcel.count), desc(Parcel.label))),
    (Parcel, (Parcel.count < 3,), None),
    (Parcel, (Parcel.count <= 2,), None),
    (Parcel, (Parcel.count < 4,), None),
    (Parcel, (one_of(Parcel.stage, [Stage.OPEN, Stage.HELD]),), None),
    (Parcel, (one_of(Parcel.stage, [Stage.OPEN, Stage.GONE]),), None),
    (Parcel, (Parcel.stage == Stage.OPEN,), None),
    (Holder, (), None),
]


async def test_t21_a_cursor_is_good_for_its_own_tenant_query_and_order_only(ground: Ground, filled: Pair) -> None:
    cursors: dict[tuple[int, int], str] = {}
    for side, tenant in enumerate(filled):
        async with ground.tally.session(tenant, actor="a") as db:
            for number, (entity, where, order) in enumerate(QUERIES):
                found = await db[entity].page(*where, order=order, limit=2)
                assert found.next is not None
                cursors[side, number] = found.next
    assert len(set(cursors.values())) == len(cursors)
    for side, tenant in enumerate(filled):
        async with ground.tally.session(tenant, actor="a") as db:
            for number, (entity, where, order) in enumerate(QUERIES):
                for origin, cursor in cursors.items():
                    if origin == (side, number):
                        found = await db[entity].page(*where, order=order, limit=2, after=cursor)
                        assert {row.tenant_id for row in found} == {tenant.id}
                        continue
                    with pytest.raises(Invalid) as caught:
                        await db[entity].page(*where, order=order, limit=2, after=cursor)
                    assert caught.value.field == "after"
                    assert caught.value.remedy


@pytest.mark.parametrize("number", [0, 3, 5, 6])
async def test_t21_a_cursor_with_any_byte_changed_is_refused_or_stays_inside(
    ground: Ground, filled: Pair, number: int
) -> None:
    """Cursors need no key: what a forged one can say is another place in the same list of the same tenant."""
    dice = random.Random(number)
    entity, where, order = QUERIES[number]
    refused = 0
    async with ground.tally.session(filled[0], actor="a") as db:
        whole = {row.id for row in await db[entity].find(*where)}
        cursor = (await db[entity].page(*where, order=order, limit=2)).next
        assert cursor is not None
        raw = bytes.fromhex(cursor)
        forged = [raw[:at] + bytes([dice.randrange(256)]) + raw[at + 1 :] for at in range(len(raw)) for _ in range(3)]
        forged += [raw[:at] for at in range(len(raw))] + [raw + b"\x00", raw * 2, b"", b"\xc1"]
        for one in forged:
            try:
                found = await db[entity].page(*where, order=order, limit=100, after=one.hex())
            except Invalid as problem:
                refused += bool(problem.remedy)
            else:
                assert {row.id for row in found} <= whole
        # The mark is an eighth of the bytes at least, and no change of it is let through.
        mark = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in range(2, 11)]
        for one in mark:
            with pytest.raises(Invalid):
                await db[entity].page(*where, order=order, after=one.hex())
    assert refused > len(raw)


HOSTILE_POSITIONS: list[Any] = [
    None,
    True,
    -1,
    2**64 - 1,
    float("nan"),
    "x",
    "x" * 10_000,
    "\0",
    b"",
    b"x" * 15,
    b"x" * 17,
    [],
    {},
    [[[]]],
    msgspec.msgpack.Ext(-1, b"\x00" * 12),
    msgspec.msgpack.Ext(5, b"x"),
]


@pytest.mark.parametrize("number", [0, 2, 4, 5, 6, 8])
async def test_t21_a_forged_position_of_any_type_is_a_typed_error(ground: Ground, filled: Pair, number: int) -> None:
    entity, where, order = QUERIES[number]
    async with ground.tally.session(filled[0], actor="a") as db:
        cursor = (await db[entity].page(*where, order=order, limit=2)).next
        assert cursor is not None
        unsaid = 0
        mark, *position = msgspec.msgpack.decode(bytes.fromhex(cursor))
        for at in range(len(position)):
            for hostile in HOSTILE_POSITIONS:
                changed = [*position[:at], hostile, *position[at + 1 :]]
                made = msgspec.msgpack.encode([mark, *changed]).hex()
                try:
                    found = await db[entity].page(*where, order=order, after=made)
                except Invalid as problem:
                    unsaid += not problem.remedy
                else:
                    assert {row.tenant_id for row in found} <= {filled[0].id}
        assert not unsaid
        # The connection has survived all of it.
        assert await db[entity].count() > 0


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "zz" * 20,
        "00",
        "c0",
        "90",
        "91" * 50_000,
        "81" * 20_000,
        "ff" * 200_000,
        "\ud800",
        "\0",
        "93c408" + "00" * 8 + "0000",
        base64.b64encode(b"{}").decode(),
        5,
        b"93",
        ["93"],
        {"a": 1},
        True,
    ],
    ids=range(18),
)
async def test_t21_what_is_no_cursor_at_all_is_a_typed_error(ground: Ground, filled: Pair, cursor: Any) -> None:
    async with ground.tally.session(filled[0], actor="a") as db:
        with pytest.raises(Invalid) as caught:
            await db[Parcel].page(after=cursor)
        assert caught.value.field == "after"
        assert caught.value.remedy
