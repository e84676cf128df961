"""Vaults: positions, what is derived from them, and what nobody may write."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.vaults.support import ETH, T0, USDC, WORTH, agent, agree, asset, at, code, pair, price, vault

from tallystick import (
    Agent,
    AlertKind,
    Conflict,
    CredibilityTier,
    Denied,
    Duplicate,
    InsufficientFunds,
    Invalid,
    InvalidTransition,
    NotFound,
    Protection,
    ProtectionRule,
    RiskAlert,
    RoleMissing,
    Session,
    UnknownReference,
    VaultAsset,
    VaultAssetChange,
    VaultMetric,
    VaultObservation,
    VaultPosition,
    VaultSide,
    VaultStatus,
)
from tallystick.domains.guarded import alter
from tallystick.query import key
from tallystick.testing import Sandbox


async def test_the_sample_of_the_source_with_the_health_factor_that_is_right(db: Session) -> None:
    """Collateral of 20,000, debt of 10,000: LTV 50 %; at a threshold of 70 % the health factor is 1.4, not 2.0."""
    eth, usdc = await pair(db, ltv=Decimal("0.6"), threshold=Decimal("0.7"))
    made = await vault(
        db,
        {eth.id: 10 * ETH},
        {usdc.id: 10_000 * USDC},
        max_ltv="0.70",
        protection=Protection(threshold="0.595", cooldown=timedelta(hours=1)),
    )
    assert (made.collateral_value, made.debt_value) == (20_000 * WORTH, 10_000 * WORTH)
    assert (made.borrow_limit, made.weighted_threshold) == (12_000 * WORTH, 14_000 * WORTH)
    assert (made.ltv, made.health_factor) == (Decimal("0.5"), Decimal("1.4"))
    assert made.status is VaultStatus.ACTIVE
    assert made.worth(made.debt_value) == Decimal(10_000)
    seen = await db.vaults.observe(made, ltv="0.50", health_factor="2.0", source="monitor")
    assert (seen.mismatch, seen.derived_ltv, seen.derived_health) == (True, 50_000_000, 140_000_000)
    (rule,) = await db.protection_rules.find(ProtectionRule.vault == made.ref)
    assert (rule.threshold, rule.cooldown, rule.metric) == (Decimal("0.595"), 3600, VaultMetric.LTV)
    await agree(db)


async def test_without_debt_there_is_no_ltv_and_no_health(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {})
    assert (made.ltv, made.health_factor, made.debt_value) == (None, None, 0)
    made = await db.vaults.borrow(made, usdc, USDC, key=None)
    assert made.health_factor == Decimal(1650)
    made = await db.vaults.repay(made, usdc, USDC, key=None)
    assert (made.ltv, made.health_factor) == (None, None)
    empty = await vault(db, {}, {usdc.id: 5 * USDC})
    assert (empty.ltv, empty.health_factor, empty.status) == (Decimal("Infinity"), Decimal(0), VaultStatus.AT_RISK)
    await agree(db)


async def test_rounding_never_favours_the_borrower(db: Session) -> None:
    odd = await asset(db, "ODD", "0.000000003", decimals=0)
    made = await vault(db, {odd.id: 5}, {odd.id: 5})
    assert (made.collateral_value, made.debt_value) == (1, 2)
    assert (made.ltv_scaled, made.health_scaled) == (2 * WORTH, 0)
    await agree(db)


async def test_absurd_amounts_end_at_the_ceiling_and_stop_nobody(db: Session) -> None:
    odd = await asset(db, "ODD", "1000", decimals=0)
    most = 2**256 - 1
    made = await vault(db, {odd.id: most}, {odd.id: 1})
    assert (made.collateral_value, made.health_scaled) == (most, 2**63 - 1)
    small = await vault(db, {odd.id: 10}, {odd.id: 1})
    await db.vaults.tick(price(odd, "2000", 1))
    assert (await db.vaults.get(small.id)).collateral_value == 20_000 * WORTH
    for wrong in (-1, 2**256, 1.5, True, "1"):
        with pytest.raises(Invalid):
            await db.vaults.set_positions(small, collateral={odd.id: wrong})  # type: ignore[dict-item]


async def test_several_assets_weigh_by_their_values(db: Session) -> None:
    eth, usdc = await pair(db)
    wbtc = await asset(db, "WBTC", "30000", decimals=8, ltv=Decimal("0.7"), threshold=Decimal("0.75"))
    made = await vault(db, {eth.id: 3 * ETH, wbtc.id: 10**7}, {usdc.id: 4_000 * USDC})
    assert made.collateral_value == 9_000 * WORTH
    assert made.weighted_threshold == (4950 + 2250) * WORTH
    assert made.health_factor == Decimal("1.8")
    await db.vaults.tick(price(wbtc, "15000", 1))
    made = await db.vaults.get(made.id)
    assert (made.collateral_value, made.health_factor) == (7_500 * WORTH, Decimal("1.51875"))
    await agree(db)


@pytest.mark.parametrize(
    "name", ["collateral_value", "weighted_threshold", "debt_value", "ltv_scaled", "health_scaled"]
)
async def test_no_client_writes_what_is_derived(db: Session, name: str) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: USDC})
    with pytest.raises(Invalid):
        await db.vaults.update(made, **{name: 7})
    with pytest.raises((Denied, Invalid)):
        await db.unit.call(f"UPDATE tally.vault SET {name} = 7 WHERE tenant_id = $1", (db.tenant_id,))


async def test_prices_of_assets_and_histories_are_not_written_by_clients(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: 1_000 * USDC}, warn_health="2")
    for statement in (
        "UPDATE tally.vault_asset SET price = 1 WHERE tenant_id = $1",
        "UPDATE tally.protection_rule SET last_fired_at = NULL WHERE tenant_id = $1",
        "INSERT INTO tally_ref.asset_price SELECT 'x', 'y', 'z', now(), 1, $1::uuid IS NULL::int, 1",
        "DELETE FROM tally_ref.market_data WHERE $1::uuid IS NOT NULL",
    ):
        async with db.transaction():
            with pytest.raises((Denied, Invalid)):
                async with db.transaction():
                    await db.unit.call(statement, (db.tenant_id,))
    (alert,) = await db.vaults.alerts(made)
    for row in (
        RiskAlert(
            vault=made.ref,
            kind=AlertKind.BAD_DEBT,
            severity=alert.severity,
            metric=alert.metric,
            observed=1,
            threshold=Decimal(1),
        ),
        VaultAssetChange(asset=eth.ref, parameter="ltv", asset_version=1),
    ):
        with pytest.raises(Denied):
            await db[type(row)].add(row)  # type: ignore[arg-type]


async def test_parameters_of_an_asset_hold_together(db: Session) -> None:
    ok: dict[str, Any] = {"ltv": Decimal("0.8"), "threshold": Decimal("0.85"), "bonus": Decimal("0.05")}
    for wrong in (
        {"ltv": Decimal("0.86")},
        {"threshold": Decimal(1), "bonus": Decimal(0)},
        {"bonus": Decimal("0.18")},
        {"bonus": Decimal("-0.01")},
        {"decimals": 78},
        {"close_factor": Decimal(0)},
        {"close_factor": Decimal("1.1")},
    ):
        with pytest.raises(Invalid):
            await db.vault_assets.add(VaultAsset(code=code("X"), **ok | wrong))
    made = await db.vault_assets.add(VaultAsset(code=code("X"), **ok))
    with pytest.raises(Duplicate):
        await db.vault_assets.add(VaultAsset(code=made.code, **ok))


async def test_a_parameter_that_changes_revalues_and_is_remembered(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: 1_500 * USDC})
    assert (made.status, made.health_factor) == (VaultStatus.ACTIVE, Decimal("1.1"))
    changed = await db.vault_assets.update(eth, threshold=Decimal("0.81"), details={"oracle": "chainlink"})
    now = await db.vaults.get(made.id)
    assert (now.status, now.health_factor) == (VaultStatus.AT_RISK, Decimal("1.08"))
    assert [a.kind for a in await db.vaults.alerts(now)] == [AlertKind.HEALTH_LOW]
    history = await db[VaultAssetChange].find(VaultAssetChange.asset == eth.ref, order=VaultAssetChange.parameter)
    assert [(h.parameter, h.before, h.after) for h in history] == [
        ("details.oracle", None, "chainlink"),
        ("threshold", "0.82500000", "0.81000000"),
    ]
    assert {h.asset_version for h in history} == {changed.version}
    await db.vault_assets.update(changed, threshold=Decimal("0.825"))
    assert (await db.vaults.get(made.id)).status is VaultStatus.ACTIVE
    assert await db.vaults.alerts(made) == []
    await agree(db)


async def test_an_asset_needs_a_price_in_the_vaults_quote(db: Session) -> None:
    bare = await asset(db, "NEW", None)
    euro = await asset(db, "EUR", None, quote="EUR")
    await db.vaults.tick(price(euro, "1", quote="EUR"))
    eth, _ = await pair(db)
    made = await vault(db, {eth.id: ETH}, {})
    for wrong in (bare, euro):
        with pytest.raises(Conflict):
            async with db.transaction():
                await db.vaults.deposit(made, wrong, ETH, key=None)
    with pytest.raises(NotFound):
        await db.vaults.deposit(made, "no such code", ETH, key=None)
    with pytest.raises((UnknownReference, NotFound)):
        async with db.transaction():
            await db.vaults.deposit(made, made.id, ETH, key=None)


async def test_borrowing_and_withdrawing_stop_at_the_limits(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {})
    with pytest.raises(Conflict):
        await db.vaults.borrow(made, usdc, 1_601 * USDC, key=None)
    made = await db.vaults.borrow(made, usdc, 1_600 * USDC, key="b")
    assert made.ltv == Decimal("0.8")
    again = await db.vaults.borrow(made, usdc, 1_600 * USDC, key="b")
    assert again.debt_value == made.debt_value
    with pytest.raises(Conflict):
        await db.vaults.withdraw(made, eth, ETH // 10, key=None)
    made = await db.vaults.repay(made, usdc, 600 * USDC, key=None)
    made = await db.vaults.withdraw(made, eth, ETH // 10, key=None)
    assert made.health_factor == Decimal("1.485")
    with pytest.raises(InsufficientFunds):
        await db.vaults.repay(made, usdc, 1_001 * USDC, key=None)
    with pytest.raises(InsufficientFunds):
        await db.vaults.withdraw(made, usdc, 1, key=None)
    with pytest.raises(Conflict):
        await db.vaults.close(made)
    await db.vaults.pause(made)
    with pytest.raises(Conflict):
        await db.vaults.borrow(made, usdc, 1, key=None)
    await db.vaults.repay(made, usdc, 1_000 * USDC, key=None)
    made = await db.vaults.close(made)
    with pytest.raises(Conflict):
        await db.vaults.deposit(made, eth, 1, key=None)
    with pytest.raises(Conflict):
        async with db.transaction():
            await db.vaults.set_positions(made, collateral={eth.id: 1})
    with pytest.raises(InvalidTransition):
        await db.vaults.resume(made)
    await agree(db)


async def test_find_high_risk_and_by_chain(db: Session) -> None:
    eth, usdc = await pair(db)
    made = [
        await vault(db, {eth.id: ETH}, {usdc.id: n * USDC}, chain_id=1 + n % 2, contract=bytes([n % 2]) * 20)
        for n in (1_000, 1_601, 1_700, 1_600)
    ]
    assert [v.id for v in await db.vaults.find_high_risk(Decimal("0.80"))] == [made[2].id, made[1].id]
    assert [v.id for v in await db.vaults.find_high_risk("0.5", limit=1)] == [made[2].id]
    assert [v.id for v in await db.vaults.find_liquidatable()] == [made[2].id]
    assert {v.id for v in await db.vaults.find_by_chain(2)} == {made[1].id}
    assert {v.id for v in await db.vaults.find_by_chain(1, contract=bytes(20))} == {made[i].id for i in (0, 2, 3)}
    assert await db.vaults.find_by_chain(1, contract=b"\1" * 20) == []
    for wrong in (80, 0.8, "eighty", Decimal("NaN"), -1, None):
        with pytest.raises(Invalid):
            await db.vaults.find_high_risk(wrong)  # type: ignore[arg-type]


async def test_a_vault_of_a_chain_is_there_once(db: Session) -> None:
    who = await agent(db)
    for contract in (None, b"\1" * 20):
        await db.vaults.open(agent=who, chain_id=1, contract=contract, external_id="17")
        with pytest.raises(Duplicate):
            async with db.transaction():
                await db.vaults.open(agent=who, chain_id=1, contract=contract, external_id="17")
    await db.vaults.open(agent=who, chain_id=2, external_id="17")
    with pytest.raises(Invalid):
        await db.vaults.open(agent=who, chain_id=1, contract=b"short", external_id="18")


async def test_agents(db: Session) -> None:
    made = await db.agents.add(
        Agent(
            name="keeper", tier=CredibilityTier.GOLD, credibility=870, address=b"\7" * 20, profile={"strategy": "eth"}
        )
    )
    await agent(db)
    assert [a.id for a in await db.agents.find(Agent.tier == CredibilityTier.GOLD, Agent.credibility >= 800)] == [
        made.id
    ]
    rows = await db.agents.find(key(Agent.profile, "strategy") == "eth")
    assert [a.id for a in rows] == [made.id]
    with pytest.raises(Duplicate):
        async with db.transaction():
            await db.agents.add(Agent(name="other", address=b"\7" * 20))
    for wrong in (-1, 1001):
        with pytest.raises(Invalid):
            await db.agents.add(Agent(name="x", credibility=wrong))


async def test_plain_writing_takes_a_permission(sandbox: Sandbox, db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: USDC})
    async with sandbox.session(db.tenant_id, permissions=()) as other:
        with pytest.raises(RoleMissing):
            await other.vaults.update(await other.vaults.get(made.id), max_ltv=Decimal("0.5"))
        with pytest.raises(RoleMissing):
            await other.prices.record(price(eth, "1", 5))
        receipt = await other.vaults.tick(feed=eth.code)
        assert not receipt.applied
    assert (await alter(db.vaults, await db.vaults.get(made.id), max_ltv=Decimal("0.5"))).max_ltv == Decimal("0.5")


async def test_observations_are_kept_and_compared(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {usdc.id: 1_000 * USDC})
    good = await db.vaults.observe(made, ltv="0.5", health_factor="1.653", source="a", at=T0, block=17)
    assert not good.mismatch
    bad = await db.vaults.observe(made, health_factor="1.66", source="a", at=at(1))
    assert bad.mismatch
    strict = await db.vaults.observe(made, ltv="0.50000001", source="b", at=T0, tolerance="0")
    assert strict.mismatch
    with pytest.raises(Duplicate):
        async with db.transaction():
            await db.vaults.observe(made, ltv="0.5", source="a", at=T0)
    with pytest.raises(Invalid):
        await db.vaults.observe(made, source="a")
    assert await db[VaultObservation].count(VaultObservation.mismatch == True) == 2  # noqa: E712
    assert (await db.vaults.get(made.id)).version == made.version
    empty = await vault(db, {eth.id: ETH}, {})
    assert (await db.vaults.observe(empty, health_factor="2", source="a")).mismatch


async def test_positions_written_by_hand_are_revalued_too(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: ETH}, {})
    await db[VaultPosition].add(VaultPosition(vault=made.ref, side=VaultSide.DEBT, asset=usdc.ref, quantity=500 * USDC))
    assert (await db.vaults.get(made.id)).ltv == Decimal("0.25")
    (debt,) = [p for p in await db.vaults.positions(made) if p.side is VaultSide.DEBT]
    await db[VaultPosition].update(debt, quantity=1_000 * USDC)
    assert (await db.vaults.get(made.id)).ltv == Decimal("0.5")
    await agree(db)
