"""Going round the ledger: as the application, as the owner, without a tenant."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from tests.ledger.support import DAY, audit, books

from tallystick import Conflict, Denied, Invalid, InvalidTransition, Tallystick, Unsupported, usd
from tallystick.domains.ledger.accounts import Account, AccountKind, Stripe
from tallystick.domains.ledger.journals import Journal
from tallystick.domains.ledger.posting import draft, insert_sql, journal_of, write
from tallystick.domains.ledger.transfers import Phase, Transfer, transfer
from tallystick.entity import with_fields
from tallystick.fields import Ref
from tallystick.schema.connect import acting_as_owner
from tallystick.session import Session
from tallystick.testing import Race
from tallystick.testing.server import KitServer

CHANGES = [
    "UPDATE tally.transfer SET amount = amount + 1 WHERE tenant_id = $1",
    "DELETE FROM tally.transfer WHERE tenant_id = $1",
    "UPDATE tally.journal SET effective = effective - 1 WHERE tenant_id = $1",
    "DELETE FROM tally.journal WHERE tenant_id = $1",
    "UPDATE tally.account SET credits = credits + 1 WHERE tenant_id = $1",
    "UPDATE tally.account SET debits_pending = 1 WHERE tenant_id = $1",
    "DELETE FROM tally.account WHERE tenant_id = $1",
    "UPDATE tally.account_stripe SET debits = debits + 1 WHERE tenant_id = $1",
    "DELETE FROM tally.account_stripe WHERE tenant_id = $1",
    "DELETE FROM tally.accounting_period WHERE tenant_id = $1",
    "UPDATE tally.accounting_period SET status = 'open' WHERE tenant_id = $1",
    "DELETE FROM tally.journal_proposal WHERE tenant_id = $1",
    "UPDATE tally.journal_proposal SET status = 'proposed' WHERE tenant_id = $1",
]
OPENED = (
    "INSERT INTO tally.account (tenant_id, id, code, asset, kind, floor_rule, stripes, credits) "
    "VALUES ($1, gen_random_uuid(), 'rich', 'USD', 'liability', 'none', 0, 5)"
)
RIGHTS = [
    "UPDATE tally.account SET floor_rule = 'none' WHERE tenant_id = $1",
    "UPDATE tally.account SET stripes = 4 WHERE tenant_id = $1",
    "UPDATE tally.account SET asset = 'EUR' WHERE tenant_id = $1",
    "UPDATE tally.journal_proposal SET legs = '[]' WHERE tenant_id = $1",
    "UPDATE tally.accounting_period SET ends_on = ends_on + 1 WHERE tenant_id = $1",
    "UPDATE tally.command_key SET request = sha256('x') WHERE tenant_id = $1",
    "TRUNCATE tally.transfer",
]


async def _full(db: Session) -> tuple[Account, Account]:
    """Books with a row in each table."""
    cash, wallet = await books(db, stripes=2)
    await db.ledger.post([transfer(cash, wallet, usd("10"))], op="deposit", key="k", on=DAY)
    period = await db.ledger.periods.open(DAY, DAY)
    await db.ledger.periods.close(period.id)
    proposal = await db.ledger.approval.propose([transfer(cash, wallet, usd("1"))], op="x", key=None)
    await db.ledger.approval.reject(proposal.id)
    return cash, wallet


async def _owner(tally: Tallystick, server: KitServer) -> asyncpg.Connection:
    return await asyncpg.connect(server.url("admin", tally.settings.database_url.rpartition("/")[2].partition("?")[0]))


@pytest.mark.parametrize("sql", [*CHANGES, *RIGHTS, OPENED], ids=lambda s: " ".join(s.split()[:4]))
async def test_the_application_has_no_right_to(db: Session, race: Race, sql: str):
    await _full(db)
    with pytest.raises((Denied, InvalidTransition)):
        async with db.transaction():
            await db.unit.call(sql, (db.tenant_id,) if "$1" in sql else ())
    await audit(db)


@pytest.mark.parametrize("sql", [*CHANGES, OPENED], ids=lambda s: " ".join(s.split()[:4]))
async def test_the_owner_is_refused_by_a_trigger(
    db: Session, race: Race, tally: Tallystick, tally_server: KitServer, sql: str
):
    await _full(db)
    conn = await _owner(tally, tally_server)
    try:
        async with acting_as_owner(conn, tally_server.roles), conn.transaction():
            await conn.execute("SELECT set_config('tally.tenant', $1, true)", str(db.tenant_id))
            await conn.execute("SELECT set_config('tally.actor', 'owner', true)")
            with pytest.raises(asyncpg.PostgresError) as refused:
                async with conn.transaction():
                    await conn.execute(sql, db.tenant_id)
            assert refused.value.sqlstate in ("TS300", "TS301")
    finally:
        await conn.close()
    await audit(db)


async def test_a_posting_without_a_tenant_raises(db: Session, race: Race, tally: Tallystick, tally_server: KitServer):
    cash, wallet = await _full(db)
    conn = await _owner(tally, tally_server)
    values = "VALUES ($1, gen_random_uuid(), $2, 2, $3, $4, 'USD', 1, 'posted')"
    sql = (
        "INSERT INTO tally.transfer (tenant_id, id, journal_id, seq, debit_id, credit_id, asset, amount, phase) "
        + values
    )
    journal = (await db[Journal].find(limit=1))[0]
    try:
        async with acting_as_owner(conn, tally_server.roles):
            with pytest.raises(asyncpg.UndefinedObjectError, match=r"tally\.(tenant|actor)"):
                async with conn.transaction():
                    await conn.execute(sql, db.tenant_id, journal.id, cash.id, wallet.id)
    finally:
        await conn.close()
    await audit(db)


async def test_a_journal_is_whole_when_it_is_written(db: Session, race: Race):
    cash, wallet = await books(db)
    first = await db.ledger.post([transfer(cash, wallet, usd("10"))], op="deposit", key="k", on=DAY)
    with pytest.raises(Denied):
        await db[Transfer].add(
            Transfer(journal=first.journal.ref, seq=2, debit=Ref(cash.id), credit=Ref(wallet.id), asset="USD", amount=1)
        )
    await audit(db)


async def test_a_resolution_that_does_not_fit_is_refused_by_the_database(db: Session):
    cash, wallet = await books(db)
    other = await db.ledger.open_account("other", "USD", AccountKind.EQUITY)
    posted = await db.ledger.post([transfer(cash, other, usd("5"))], op="x", key=None)
    held = (await db.ledger.pend([transfer(cash, other, usd("5"))], op="x", key=None)).transfers[0]
    bad: list[dict[str, Any]] = [
        {"amount": 501},
        {"debit": Ref(wallet.id)},
        {"debit": Ref(other.id), "credit": Ref(cash.id)},
        {"resolves": posted.transfers[0].ref},
        {"phase": Phase.VOID, "amount": 499},
    ]

    for one in bad:
        journal, (leg,) = journal_of(db, draft([transfer(cash, other, usd("5"))], op="x"))
        row = with_fields(leg, **({"phase": Phase.POST, "resolves": held.ref} | one))
        with pytest.raises(Conflict, match="does not fit"):
            async with db.transaction():
                await write(db, [(journal, (row,))])
    await audit(db)


async def test_a_missing_stripe_is_not_passed_over(db: Session):
    _, wallet = await books(db)
    made = await db[Account].add(Account(code="hot", asset="USD", kind=AccountKind.ASSET, stripes=2))

    with pytest.raises(Conflict, match="could not reach every account"):
        await db.ledger.post([transfer(made, wallet, usd("5"))], op="x", key=None)
    await db[Stripe].add_many([Stripe(account=made.ref, number=n) for n in range(2)])
    await db.ledger.post([transfer(made, wallet, usd("5"))], op="x", key=None)
    await audit(db)


async def test_fields_the_ledger_keeps_cannot_be_given_or_changed(db: Session):
    cash, _ = await books(db)
    with pytest.raises(Invalid, match="kept by the database"):
        await db[Account].add(Account(code="rich", asset="USD", kind=AccountKind.ASSET, debits=5))
    for change in ({"debits": 5}, {"code": "x"}, {"asset": "EUR"}, {"stripes": 2}):
        with pytest.raises(Invalid, match="cannot be set"):
            await db[Account].update(cash, **change)
        with pytest.raises(Invalid, match="cannot be set"):
            await db[Account].update_where(Account.code == "cash", **change)
    renamed = await db[Account].update(cash, name="Petty cash")
    assert renamed.version == cash.version + 1
    with pytest.raises(Denied):
        await db[Account].purge(renamed, reason="no")
    with pytest.raises(Unsupported):
        await db[Transfer].purge_where(Transfer.seq == 1, reason="no")
    with pytest.raises(Invalid):
        await db[Account].find(Account.debits > 10**39)
    assert await db[Account].count(Account.debits == 0) == 2


def test_the_statement_carries_no_value():
    assert "$1::uuid" in insert_sql(1, 1)
    assert "'" not in insert_sql(2, 3)
