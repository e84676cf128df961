"""Balances and the values of vaults are in no log: whoever edits one in silence is found by working it out again."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Annotated
from uuid import UUID, uuid4

import pytest
from tests.attacks.test_audit_reconcile import found, silently
from tests.audit.ground import SealedGround
from tests.vaults import support

from tallystick import Account, AccountKind, Entity, FloorRule, Rules, Session, transfer, usd
from tallystick.audit.reconcile import Discrepancy
from tallystick.domains.ledger.accounts import Stripe
from tallystick.entity import spec_of
from tallystick.errors import Declaration
from tallystick.fields import LedgerAmount, Maintained


async def books(db: Session, stripes: int = 0) -> tuple[Account, Account]:
    """Cash and a customer's wallet; something is posted, something pending, and one pending resolved in part."""
    cash = await db.ledger.open_account(f"cash:{uuid4().hex}", "USD", AccountKind.ASSET, stripes=stripes)
    wallet = await db.ledger.open_account(f"wallet:{uuid4().hex}", "USD", AccountKind.LIABILITY)
    await db.ledger.post([transfer(cash, wallet, usd("100"))], op="deposit", key=None)
    for amount in ("7", "5", "3"):
        receipt = await db.ledger.pend([transfer(wallet, cash, usd(amount))], op="withdraw", key=None)
        (waits,) = receipt.transfers
        if amount == "5":
            await db.ledger.settle(waits, usd("4"), key=None)
        elif amount == "3":
            await db.ledger.void(waits, key=None)
    return cash, wallet


async def one(ground: SealedGround, tenant: UUID) -> Discrepancy:
    (finding,) = await found(ground, tenant)
    return finding


async def test_a05_a_balance_that_the_owner_edits_is_found(sealed: SealedGround) -> None:
    """The guards are as they were sealed afterwards, and no log ever had the balance."""
    tenant = await sealed.tenant()
    async with sealed.tally.session(tenant, actor="teller", permissions=("*",)) as db:
        _, wallet = await books(db)
    first = await sealed.seal()
    report = await sealed.tally.audit.reconcile(tenant)
    assert (report.findings, report.derived) == ([], 2)
    async with sealed.connected("owner") as owner:
        for columns in ("credits", "debits", "credits_pending", "debits_pending"), ("credits",):
            for sign in "+", "-":
                change = ", ".join(f"{c} = {c} {sign} 1000000" for c in columns)
                await silently(owner, "account", f"UPDATE tally.account SET {change} WHERE id = '{wallet.id}'")
                if sign == "+":
                    finding = await one(sealed, tenant)
                    expected = ("account", str(wallet.id), "derived", tuple(sorted(columns)))
                    assert (finding.table, finding.key, finding.kind, finding.columns) == expected
    assert await found(sealed, tenant) == []
    assert (await sealed.seal()).state == first.state


async def test_a05_money_moved_between_balances_is_found_at_both(sealed: SealedGround) -> None:
    """A trial balance would still be right."""
    tenant = await sealed.tenant()
    async with sealed.tally.session(tenant, actor="teller", permissions=("*",)) as db:
        _, one_wallet = await books(db)
        _, other = await books(db)
    async with sealed.connected("owner") as owner:
        await silently(
            owner,
            "account",
            f"UPDATE tally.account SET credits = credits - 500 WHERE id = '{one_wallet.id}'",
            f"UPDATE tally.account SET credits = credits + 500 WHERE id = '{other.id}'",
        )
    both = {(f.key, f.kind, f.columns) for f in await found(sealed, tenant)}
    assert both == {(str(w.id), "derived", ("credits",)) for w in (one_wallet, other)}
    # Batch by batch, and gone on with.
    keys, after = set(), None
    for _ in range(20):
        report = await sealed.tally.audit.reconcile(tenant, tables=["account"], after=after, batches=1, batch=1)
        keys |= {f.key for f in report.findings}
        after = report.next
        if after is None:
            break
    assert (keys, after) == ({str(one_wallet.id), str(other.id)}, None)


async def test_a05_a_stripe_that_the_owner_edits_is_found_at_its_accounts_first(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    async with sealed.tally.session(tenant, actor="teller", permissions=("*",)) as db:
        cash, _ = await books(db, stripes=4)
        await books(db, stripes=3)
        stripes = sorted(await db[Stripe].find(Stripe.account == cash.id), key=lambda s: s.number)
    assert await found(sealed, tenant) == []
    async with sealed.connected("owner") as owner:
        edit = f"UPDATE tally.account_stripe SET debits = debits + 1 WHERE id = '{stripes[2].id}'"
        await silently(owner, "account_stripe", edit)
        finding = await one(sealed, tenant)
        assert (finding.table, finding.kind, finding.columns) == ("account_stripe", "derived", ("debits",))
        assert finding.key == str(stripes[0].id)
        (again,) = (await sealed.tally.audit.reconcile(tenant, tables=["account_stripe"], batch=2)).findings
        assert again == finding
        # Without any stripe the account's own row is missing what was posted.
        for stripe in stripes:
            await silently(owner, "account_stripe", f"DELETE FROM tally.account_stripe WHERE id = '{stripe.id}'")
    finding = await one(sealed, tenant)
    assert (finding.table, finding.key) == ("account", str(cash.id))
    assert finding.columns == ("credits", "credits_pending", "debits")


async def test_a05_a_health_factor_that_the_owner_edits_is_found(sealed: SealedGround) -> None:
    tenant = await sealed.tenant()
    async with sealed.tally.session(tenant, actor="desk", permissions=("*",)) as db:
        eth, dollar = await support.pair(db)
        risky = await support.vault(db, {eth.id: support.ETH}, {dollar.id: 1600 * support.USDC})
        safe = await support.vault(db, {eth.id: support.ETH}, {dollar.id: 100 * support.USDC})
        await db.vaults.tick(support.price(eth, "1900", 5))
    report = await sealed.tally.audit.reconcile(tenant)
    assert (report.findings, report.derived) == ([], 2)
    checks = "ck_vault_health_is_derived"
    async with sealed.connected("owner") as owner:
        # With the check on it the value alone cannot be edited; what it is worked out of can be, all together.
        await owner.execute(f"ALTER TABLE tally.vault DROP CONSTRAINT {checks}")
        await silently(owner, "vault", f"UPDATE tally.vault SET health_scaled = 250000000 WHERE id = '{risky.id}'")
        finding = await one(sealed, tenant)
        assert (finding.table, finding.key, finding.kind) == ("vault", str(risky.id), "derived")
        assert finding.columns == ("health_scaled",)
        more = (
            "collateral_value = collateral_value * 2, ltv_scaled = div(debt_value * 100000000 + collateral_value * 2 "
        )
        more += "- 1, collateral_value * 2)"
        await silently(owner, "vault", f"UPDATE tally.vault SET {more} WHERE id = '{safe.id}'")
    columns = {f.key: f.columns for f in await found(sealed, tenant)}
    assert columns == {str(risky.id): ("health_scaled",), str(safe.id): ("collateral_value", "ltv_scaled")}


@pytest.mark.parametrize("stripes", [0, 8])
async def test_sixteen_writers_cause_no_alarm(sealed: SealedGround, stripes: int) -> None:
    tenant = await sealed.tenant()
    async with sealed.tally.session(tenant, actor="teller", permissions=("*",)) as db:
        cash = await db.ledger.open_account("cash", "USD", AccountKind.ASSET, stripes=stripes)
        wallets = [
            await db.ledger.open_account(f"wallet:{n}", "USD", AccountKind.LIABILITY, floor=FloorRule.DEBITS_LE_CREDITS)
            for n in range(4)
        ]
        eth, dollar = await support.pair(db)
        for _ in range(3):
            await support.vault(db, {eth.id: support.ETH}, {dollar.id: 1000 * support.USDC})
    done, turns = False, 0

    async def write(number: int) -> None:
        nonlocal turns
        times = 0
        async with sealed.tally.session(tenant, actor=f"writer {number}", permissions=("*",)) as db:
            while not done:
                wallet = wallets[(number + times) % 4]
                await db.ledger.post([transfer(cash, wallet, usd("5"))], op="deposit", key=None)
                receipt = await db.ledger.pend([transfer(wallet, cash, usd("2"))], op="withdraw", key=None)
                if times % 2:
                    await db.ledger.settle(receipt.transfers[0], usd("1"), key=None)
                if number == 0:
                    await db.vaults.tick(support.price(eth, str(Decimal(2000 - times % 50)), times + 1))
                times, turns = times + 1, turns + 1
                # Unbridled, writers outrun the reader for minutes: what is read grows while it is read.
                await asyncio.sleep(0.05)

    writers = [asyncio.create_task(write(n)) for n in range(16)]
    reports = []
    try:
        tables = ["account", "account_stripe", "vault"]
        async with asyncio.timeout(120):
            while len(reports) < 15 or turns < 64:
                reports.append(await sealed.tally.audit.reconcile(tenant, tables=tables, batch=3))
    finally:
        done = True
        await asyncio.gather(*writers)
    assert [r.findings for r in reports] == [[]] * len(reports)
    assert {r.derived for r in reports} == {8 + stripes}
    assert await found(sealed, tenant) == []


def test_what_stays_out_of_the_log_names_what_works_it_out() -> None:
    class Tally(Entity):
        total: Annotated[LedgerAmount, Maintained()] = 0
        rules = Rules(unaudited=("total",))

    class Bad(Entity):
        total: Annotated[LedgerAmount, Maintained()] = 0
        rules = Rules(unaudited=("total",), derived="tally.x(); --")

    class Fine(Entity):
        total: Annotated[LedgerAmount, Maintained()] = 0
        rules = Rules(unaudited=("total",), derived="tally.fine_derived")

    for bad in (Tally, Bad):
        with pytest.raises(Declaration, match="works its unaudited columns out"):
            spec_of(bad)
    assert spec_of(Fine).derived == "tally.fine_derived"
