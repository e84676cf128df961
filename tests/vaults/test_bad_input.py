"""What ``db.vaults`` and ``db.prices`` are called with by mistake is refused with an error of the tree."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from tests.vaults.refusals import all_untyped
from tests.vaults.support import T0, agent, agree, at, pair, price, vault

from tallystick import AssetPrice, ChainLog, Protection, Session, VaultMetric
from tallystick.domains.vaults.protection import ProtectionKind


async def test_wrong_arguments(db: Session) -> None:
    eth, usdc = await pair(db)
    made = await vault(db, {eth.id: 10**18}, {usdc.id: 10**8})
    who = await agent(db, "another")
    log = ChainLog(chain_id=1, tx_hash=b"\1" * 32, log_index=0)
    held, owed = {eth.id: 1}, {usdc.id: 0}
    rule = {
        "threshold": "0.5",
        "metric": VaultMetric.LTV,
        "kind": ProtectionKind.ALERT,
        "cooldown": timedelta(1),
        "action": {"a": 1},
    }
    full = {name: Decimal(n) for name, n in (("price", 2), ("open", 2), ("high", 3), ("low", 1), ("volume", 0))}
    named = {"asset": "A", "quote": "USD", "source": "s", "round": 1, "block": 1, "observed_at": T0}

    def protect(**given: Any) -> Awaitable[Any]:
        return db.vaults.protect(made, Protection(**given))

    def record(**given: Any) -> Awaitable[Any]:
        return db.prices.record(AssetPrice(**given))

    v, p = db.vaults, db.prices
    opened = {"agent": who.id, "chain_id": 1, "external_id": "q", "contract": b"\1" * 20, "quote": "USD"}
    limits = {"collateral": held, "debt": owed, "max_ltv": "1", "warn_health": "1.1", "protection": Protection(**rule)}
    moved = {"vault": made.id, "quantity": 1, "key": "k"}
    seen = {"vault": made, "ltv": "0.5", "health_factor": "1", "source": "s", "at": at(0), "block": 3}
    past = {"asset": eth.code, "quote": "USD", "source": "s"}
    assert [
        *await all_untyped(
            db,
            {
                "open": (v.open, opened | limits),
                "set_positions": (v.set_positions, {"vault": made, "collateral": held, "debt": owed}),
                "deposit": (v.deposit, moved | {"asset": eth.code}),
                "withdraw": (v.withdraw, moved | {"asset": eth.id}),
                "borrow": (v.borrow, moved | {"asset": usdc}),
                "repay": (v.repay, moved | {"asset": usdc.id}),
                "tick of a price": (v.tick, {"price": price(eth, "1", 9), "at": at(0)}),
                "tick of a feed": (v.tick, {"feed": eth.code, "quote": "USD", "at": at(0)}),
                "find_high_risk": (v.find_high_risk, {"ltv": "0.5", "limit": 3}),
                "find_liquidatable": (v.find_liquidatable, {"limit": 3}),
                "find_by_chain": (v.find_by_chain, {"chain_id": 1, "contract": b"\1" * 20, "limit": 4}),
                "alerts": (v.alerts, {"vault": made}),
                "positions": (v.positions, {"vault": made}),
                "protect": (protect, rule),
                "observe": (v.observe, seen | {"tolerance": "0.01", "details": {"a": 1}}),
                "pause": (v.pause, {"vault": made.id}),
                "resume": (v.resume, {"vault": made.id}),
                "close": (v.close, {"vault": made.id}),
                "record": (p.record, {"prices": price(eth, "1", 70)}),
                "record one": (record, full | named),
                "latest": (p.latest, {"asset": eth.code, "quote": "USD"}),
                "as_of": (p.as_of, past | {"at": at(3), "max_age": timedelta(1)}),
                "history": (p.history, past | {"since": at(3), "until": at(4)}),
            },
        )
    ] == []
    await db.vaults.tick(price(eth, "100", 50))
    bitten = {"vault": made.id, "debt": usdc.id, "collateral": eth.code, "repay": 10**6, "chain": log, "key": "z"}
    when = {"liquidator": b"\2" * 20, "at": at(1), "on": T0.date()}
    assert await all_untyped(db, {"liquidate": (v.liquidate, bitten | when)}) == []
    await agree(db)
