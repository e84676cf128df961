"""Prices: the latest never goes back; ticks revalue, raise alerts once and fire rules once a cooldown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from tests.vaults.support import ETH, T0, USDC, WORTH, agree, asset, at, code, pair, price, vault

from tallystick import (
    AlertKind,
    AlertState,
    AssetPrice,
    Invalid,
    NotFound,
    PriceTick,
    Protection,
    ProtectionRule,
    RiskAlert,
    RuleFiring,
    Session,
    VaultMetric,
    VaultStatus,
)
from tallystick.testing import Sandbox


async def test_a_late_price_is_kept_and_does_not_become_the_latest(db: Session) -> None:
    name = code("ETH")
    assert await db.prices.record(price(name, "100", 10, round=5)) == await_recorded(1, 1)
    assert await db.prices.record(price(name, "90", 9, round=6)) == await_recorded(1, 0)
    assert await db.prices.record(price(name, "80", 11, round=4)) == await_recorded(1, 0)
    assert await db.prices.record(price(name, "70", 10, round=5)) == await_recorded(0, 0)
    assert (await db.prices.latest(name)).price == 100
    assert await db.prices.record(price(name, "110", 10, source="other", round=7)) == await_recorded(1, 1)
    assert await db.prices.record(price(name, "120", 12, source="other")) == await_recorded(1, 1)
    assert await db.prices.record(price(name, "130", 13, round=1)) == await_recorded(1, 1)
    assert (await db.prices.latest(name)).price == 130
    found = [p.price async for p in db.prices.history(name, at(0), at(60))]
    assert found == [90, 100, 110, 80, 120, 130]


def await_recorded(added: int, latest: int) -> object:
    from tallystick.domains.vaults.prices import Recorded

    return Recorded(added=added, latest=latest)


async def test_a_batch_ends_at_its_newest_whatever_its_order(db: Session) -> None:
    name = code("ETH")
    prices = [price(name, str(100 + n), n) for n in (3, 1, 7, 2)]
    assert await db.prices.record(prices) == await_recorded(4, 1)
    assert (await db.prices.latest(name)).price == 107
    assert await db.prices.record([]) == await_recorded(0, 0)


async def test_as_of(db: Session) -> None:
    name = code("ETH")
    await db.prices.record([price(name, "100", 0), price(name, "101", 60), price(name, "102", 60, source="z")])
    assert (await db.prices.as_of(name, at(59))).price == 100
    assert (await db.prices.as_of(name, at(60))).price == 101
    assert (await db.prices.as_of(name, at(60), source="z")).price == 102
    assert (await db.prices.as_of(name, at(1e6))).price == 101
    with pytest.raises(NotFound):
        await db.prices.as_of(name, at(-1))
    with pytest.raises(NotFound):
        await db.prices.as_of(name, at(200), max_age=timedelta(minutes=30))
    assert (await db.prices.as_of(name, at(70), max_age=timedelta(minutes=30))).price == 101
    for wrong in (datetime(2026, 3, 1), "2026-03-01", None):
        with pytest.raises(Invalid):
            await db.prices.as_of(name, wrong)  # type: ignore[arg-type]


async def test_partitions_are_made_on_demand(db: Session) -> None:
    name = code("GOLD")
    days = [datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC) for year in (1903, 1971, 2101)]
    await db.prices.record(
        [AssetPrice(asset=name, price=Decimal(n + 1), observed_at=day) for n, day in enumerate(days)]
    )
    assert [p.price async for p in db.prices.history(name, days[0], days[2] + timedelta(1))] == [1, 2, 3]
    rows = await db.unit.call(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'tally_ref.market_data'::regclass",
        (),
    )
    assert {"market_data_1903", "market_data_1971", "market_data_2101"} <= {r[0] for r in rows}
    with pytest.raises(Invalid):
        await db.prices.record(AssetPrice(asset=name, price=Decimal(1), observed_at=datetime(1899, 1, 1, tzinfo=UTC)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"price": Decimal(0)},
        {"price": Decimal(-1)},
        {"price": Decimal("NaN")},
        {"price": Decimal("1e20")},
        {"price": Decimal("1e-19")},
        {"price": 1.5},
        {"price": None},
        {"asset": ""},
        {"asset": "x" * 33},
        {"source": "a\0b"},
        {"round": -1},
        {"block": 2**63},
        {"low": Decimal(101)},
        {"high": Decimal(99)},
        {"observed_at": datetime(2026, 1, 1)},
    ],
)
async def test_bad_prices_are_refused(db: Session, wrong: dict[str, object]) -> None:
    base: dict[str, object] = {"asset": code("X"), "price": Decimal(100), "observed_at": T0}
    with pytest.raises(Invalid):
        await db.prices.record(AssetPrice(**base | wrong))  # type: ignore[arg-type]


async def test_a_tick_revalues_every_vault_that_it_touches_and_no_other(db: Session) -> None:
    eth, usdc = await pair(db)
    other = await asset(db, "BTC", "30000", decimals=8)
    touched = [await vault(db, {eth.id: ETH}, {usdc.id: n * USDC}) for n in (500, 1_000)]
    owing = await vault(db, {usdc.id: 9_000 * USDC}, {eth.id: ETH})
    apart = await vault(db, {other.id: 10**8}, {usdc.id: USDC})
    receipt = await db.vaults.tick(price(eth, "1000", 1))
    assert (receipt.applied, receipt.vaults, receipt.price) == (True, 3, Decimal(1000))
    assert [(await db.vaults.get(v.id)).ltv for v in touched] == [Decimal("0.5"), Decimal(1)]
    assert (await db.vaults.get(owing.id)).debt_value == 1_000 * WORTH
    assert (await db.vaults.get(apart.id)) == apart
    assert (await db.vaults.get(touched[0].id)).version == touched[0].version
    await agree(db)


async def test_a_price_that_is_not_newer_is_not_applied(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: 1_000 * USDC})
    assert (await db.vaults.tick(price(eth, "1900", 5))).applied
    for late in (price(eth, "1", 4), price(eth, "1", 5)):
        receipt = await db.vaults.tick(late)
        assert (receipt.applied, receipt.vaults, receipt.price) == (False, 0, Decimal(1900))
    assert (await db.vaults.get(made.id)).collateral_value == 1_900 * WORTH
    nothing = await db.vaults.tick(feed=code("unknown"))
    assert (nothing.applied, nothing.price) == (False, None)
    for wrong in (
        {},
        {"feed": "x", "price": price(eth, "1", 9)},
        {"feed": 7},
        {"feed": "x", "at": datetime(2026, 1, 1)},
    ):
        with pytest.raises(Invalid):
            await db.vaults.tick(**wrong)  # type: ignore[arg-type]
    assert await db[PriceTick].count(PriceTick.feed == eth.code) == 4


async def test_prices_are_shared_and_ticks_are_a_tenants(sandbox: Sandbox, db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: 1_000 * USDC})
    await sandbox.tally.tenants.create("neighbour", name="Neighbour")
    async with sandbox.session("neighbour") as other:
        theirs = await asset(other, "ETH", None, code=eth.code)
        await other.vaults.tick(price(theirs, "1500", 1))
        assert (await other.vault_assets.get(theirs.id)).price == 1500
        assert (await other.prices.latest(eth.code)).price == 1500
        assert await other.vaults.get_or_none(made.id) is None
    assert (await db.vaults.get(made.id)).collateral_value == 2_000 * WORTH
    assert (await db.vaults.tick(feed=eth.code)).vaults == 1
    assert (await db.vaults.get(made.id)).collateral_value == 1_500 * WORTH


async def test_assets_can_share_a_feed(db: Session) -> None:
    feed = code("ETH")
    eth = await asset(db, "ETH", None, feed=feed)
    weth = await asset(db, "WETH", None, feed=feed)
    await db.vaults.tick(price(feed, "2000"))
    made = await vault(db, {eth.id: ETH, weth.id: ETH}, {})
    assert made.collateral_value == 4_000 * WORTH


async def test_an_alert_stands_once_and_is_resolved_by_itself(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: 1_200 * USDC}, max_ltv="0.65")
    assert await db.vaults.alerts(made) == []
    assert (await db.vaults.tick(price(eth, "1800", 1))).alerts == 1
    assert (await db.vaults.tick(price(eth, "1790", 2))).alerts == 0
    assert (await db.vaults.tick(price(eth, "1590", 3))).alerts == 1
    receipt = await db.vaults.tick(price(eth, "1400", 4))
    assert receipt.alerts == 1
    standing = await db.vaults.alerts(made)
    assert {a.kind for a in standing} == {AlertKind.LTV_HIGH, AlertKind.HEALTH_LOW, AlertKind.LIQUIDATABLE}
    ltv = next(a for a in standing if a.kind is AlertKind.LTV_HIGH)
    assert (ltv.observed, ltv.threshold, ltv.metric) == (66_666_667, Decimal("0.65"), VaultMetric.LTV)
    seen = await db.risk_alerts.acknowledge(ltv)
    low = next(a for a in standing if a.kind is AlertKind.HEALTH_LOW)
    await db.risk_alerts.suppress(low)
    assert (await db.vaults.tick(price(eth, "1401", 5))).alerts == 0
    await db.vaults.tick(price(eth, "3000", 6))
    assert await db.vaults.alerts(made) == []
    assert (await db.risk_alerts.get(seen.id)).state is AlertState.RESOLVED
    assert (await db.vaults.get(made.id)).status is VaultStatus.ACTIVE
    assert (await db.vaults.tick(price(eth, "1400", 7))).alerts == 3
    assert await db[RiskAlert].count() == 6
    (one, *_) = await db.vaults.alerts(made)
    await db.risk_alerts.resolve(one)
    assert (await db.vaults.tick(price(eth, "1399", 8))).alerts == 1


async def test_a_rule_fires_once_in_its_cooldown(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(
        db,
        {eth.id: ETH},
        {usdc.id: 1_000 * USDC},
        protection=Protection(threshold="0.595", cooldown=timedelta(hours=1)),
    )
    by_health = await db.vaults.protect(
        made, Protection(threshold="1.2", metric=VaultMetric.HEALTH, cooldown=timedelta(0), action={"repay": "100"})
    )
    fired = []
    for minute, value in ((0, "1700"), (1, "1680"), (30, "1670"), (60, "1660"), (61, "1650"), (62, "1300")):
        receipt = await db.vaults.tick(price(eth, value, minute + 1), at=at(minute))
        fired.append(receipt.firings)
    # 59.5 % is reached at 1680.67 and fires at minute 1, then at 61; health falls to 1.2 at 1454.5, at the last.
    assert fired == [0, 1, 0, 0, 1, 1]
    rows = await db[RuleFiring].find(order=RuleFiring.fired_at)
    assert [r.fired_at for r in rows] == [at(1), at(61), at(62)]
    assert rows[0].observed == 59_523_810
    assert rows[2].rule == by_health.ref
    async for work in db[RuleFiring].claim(limit=1):
        async with work:
            assert work.value.vault == made.ref
    left = [w.value.id async for w in db[RuleFiring].claim(limit=10)]
    assert len(left) == 2
    rule = await db.protection_rules.get(by_health.id)
    assert rule.last_fired_at == at(62)
    await db.protection_rules.update(rule, enabled=False)
    assert (await db.vaults.tick(price(eth, "1200", 70), at=at(400))).firings == 1


async def test_a_round_fires_a_rule_once_even_without_a_cooldown(db: Session) -> None:
    eth, usdc = await pair(db)
    await vault(
        db, {eth.id: ETH}, {usdc.id: 1_000 * USDC}, protection=Protection(threshold="0.5", cooldown=timedelta(0))
    )
    assert (await db.vaults.tick(price(eth, "1900", 1, round=7), at=at(1))).firings == 1
    again = await db.vaults.tick(price(eth, "1890", 2, round=7), at=at(2))
    assert (again.applied, again.firings) == (True, 0)
    assert (await db.vaults.tick(price(eth, "1880", 3, round=8), at=at(3))).firings == 1


async def test_a_paused_vault_is_revalued_and_left_alone(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: 1_000 * USDC}, protection=Protection(threshold="0.4"))
    await db.vaults.pause(made)
    receipt = await db.vaults.tick(price(eth, "1100", 1))
    assert (receipt.vaults, receipt.alerts, receipt.firings) == (1, 0, 0)
    now = await db.vaults.get(made.id)
    assert (now.status, now.ltv_scaled) == (VaultStatus.PAUSED, 90_909_091)
    await db.vaults.resume(now)
    assert (await db.vaults.tick(price(eth, "1101", 2))).firings == 1
    assert (await db.vaults.get(made.id)).status is VaultStatus.AT_RISK


@pytest.mark.parametrize("wrong", [{"threshold": "0"}, {"threshold": 1.5}, {"threshold": "0.5", "cooldown": 3600}])
async def test_bad_protection_is_refused(db: Session, wrong: dict[str, object]) -> None:
    eth, _ = await pair(db)
    made = await vault(db, {eth.id: ETH}, {})
    with pytest.raises(Invalid):
        await db.vaults.protect(made, Protection(**wrong))  # type: ignore[arg-type]
    assert await db[ProtectionRule].count() == 0
