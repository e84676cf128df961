"""Keys: the same request is done once, another one is refused, a failure is forgotten."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.support import DAY, books

from tallystick import Invalid, KeyReused, Money, usd, uuid7
from tallystick.domains.idempotency import CommandKey, _canonical, idempotent
from tallystick.domains.ledger.journals import Journal
from tallystick.domains.ledger.transfers import Phase, transfer
from tallystick.session import Session

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.uuids(),
    st.dates(),
    st.decimals(allow_nan=False),
    st.builds(Money, st.integers(), st.sampled_from(["USD", "EUR"])),
)
REQUESTS = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
)


def _typed(value: Any) -> Any:
    """Equality that tells True from 1 and 1 from Decimal(1)."""
    if isinstance(value, list):
        return [_typed(v) for v in value]
    if isinstance(value, dict):
        return {k: _typed(v) for k, v in value.items()}
    return type(value), str(value) if isinstance(value, Decimal) else value


@given(REQUESTS, REQUESTS)
def test_two_requests_have_one_text_only_when_they_are_one(a: Any, b: Any):
    assert (_canonical(a) == _canonical(b)) == (_typed(a) == _typed(b))


def test_a_request_is_described_by_plain_values():
    assert _canonical({"a": 1, "b": 2}) == _canonical({"b": 2, "a": 1})
    assert _canonical(Phase.POST) == _canonical("post")
    assert _canonical(datetime(2026, 1, 1, tzinfo=UTC)) != _canonical(date(2026, 1, 1))
    for bad in (1.5, object(), {1.5: 1}):
        with pytest.raises(Invalid):
            _canonical(bad)


async def test_a_key_replays_its_request_and_refuses_another(db: Session):
    cash, wallet = await books(db)
    legs = [transfer(cash, wallet, usd("10"))]
    first = await db.ledger.post(legs, op="pay", key="k", on=DAY, description="d", source=("loan", cash.id))
    again = await db.ledger.post(legs, op="pay", key="k", on=DAY, description="d", source=("loan", cash.id))
    assert again.replayed
    assert (again.journal, again.transfers) == (first.journal, first.transfers)
    others: list[dict[str, Any]] = [
        {"legs": [transfer(cash, wallet, usd("11"))]},
        {"legs": [transfer(wallet, cash, usd("10"))]},
        {"legs": legs * 2},
        {"on": date(2026, 3, 3)},
        {"on": None},
        {"description": None},
        {"source": None},
    ]
    same: dict[str, Any] = {"legs": legs, "on": DAY, "description": "d", "source": ("loan", cash.id)}
    for other in others:
        with pytest.raises(KeyReused):
            await db.ledger.post(op="pay", key="k", **(same | other))
    assert await db[Journal].count() == 1
    # A key belongs to its operation.
    assert not (await db.ledger.post(legs, op="other", key="k", on=DAY)).replayed


async def test_keys_of_tenants_do_not_meet(db: Session, sandbox, tally):
    await books(db)
    slug = f"other-{uuid7().hex}"
    await tally.tenants.create(slug, name="Other")
    for session in (db, sandbox.session(slug, actor="x", permissions=("*",))):
        if session is db:
            async with idempotent(db, "op", "k", 1) as once:
                assert not once.replayed
        else:
            async with session as other, idempotent(other, "op", "k", 2) as once:
                assert not once.replayed


async def test_a_failure_is_not_remembered(db: Session):
    made = uuid7()
    with pytest.raises(ZeroDivisionError):
        async with idempotent(db, "op", "k", {"n": 1}):
            _ = 1 / 0
    async with idempotent(db, "op", "k", {"n": 2}) as once:
        assert not once.replayed
        once.results = (made,)
    async with idempotent(db, "op", "k", {"n": 2}) as once:
        assert once.replayed
        assert once.results == (made,)
    with pytest.raises(KeyReused):
        async with idempotent(db, "op", "k", {"n": 1}):
            pytest.fail("the body of another request ran")
    (kept,) = await db[CommandKey].find()
    assert (kept.op, kept.key, kept.results) == ("op", "k", [made])


async def test_without_a_key_it_is_a_transaction(db: Session):
    async with idempotent(db, "op", None, object()) as once:
        assert not once.replayed
    assert await db[CommandKey].count() == 0


async def test_a_purged_key_is_new_again(db: Session):
    async with idempotent(db, "op", "k", 1) as once:
        assert once.results == ()
    assert await db[CommandKey].purge_where(CommandKey.op == "op", reason="older than a year") == 1
    async with idempotent(db, "op", "k", 2) as once:
        assert not once.replayed


@pytest.mark.parametrize("key", ["", "x" * 201, "a\0b", "a\nb", 5, UUID(int=1), b"k"], ids=str)
async def test_a_bad_key_is_refused(db: Session, key: Any):
    with pytest.raises(Invalid):
        async with idempotent(db, "op", key, 1):
            pytest.fail("the body ran")
    with pytest.raises(Invalid):
        async with idempotent(db, key, "k", 1):
            pytest.fail("the body ran")
    assert await db[CommandKey].count() == 0
