"""Going round lending: raw statements of the application's own role, and of the owner, against the books of loans."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.lending.money import agree
from tests.lending.support import DAY, active, product

from tallystick import (
    Conflict,
    Denied,
    Invalid,
    InvalidTransition,
    Tallystick,
    TallystickError,
    User,
    UserStatus,
    usd,
    uuid7,
)
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.receipts import LoanReceipt
from tallystick.domains.lending.servicing import ChargeKind
from tallystick.domains.lending.transactions import LoanAllocation
from tallystick.schema.connect import acting_as_owner
from tallystick.session import Session
from tallystick.testing import Race
from tallystick.testing.server import KitServer

FEB = date(2026, 2, 1)
RECORDS = ("loan_transaction", "loan_allocation", "loan_charge", "loan_status_change")
CHANGES = [
    *(
        f"UPDATE tally.loan SET {one} WHERE tenant_id = $1"
        for one in (
            "outstanding = outstanding - 1",
            "principal_outstanding = principal_outstanding - 1",
            "interest_outstanding = interest_outstanding + 1",
            "fees_outstanding = fees_outstanding + 1",
            "penalties_outstanding = penalties_outstanding + 1",
            "overpaid = 100000",
            "disbursed = disbursed + 1",
            "funded = funded + 1",
            "oldest_due = '2040-01-01'",
            "closed_on = '2026-01-01'",
        )
    ),
    *(
        f"UPDATE tally.loan_installment SET {one} WHERE tenant_id = $1"
        for one in (
            "principal_paid = principal_paid + 1",
            "interest_waived = interest_waived + 1",
            "fees_paid = fees_paid - 1",
            "penalties_written_off = penalties_written_off + 1",
            "settled_on = '2026-01-01'",
        )
    ),
    "UPDATE tally.loan_transaction SET amount = amount + 1 WHERE tenant_id = $1",
    "UPDATE tally.loan_transaction SET effective = effective - 1 WHERE tenant_id = $1",
    "UPDATE tally.loan_transaction SET external_id = 'x' WHERE tenant_id = $1",
    "UPDATE tally.loan_allocation SET principal = 0 WHERE tenant_id = $1",
    "UPDATE tally.loan_allocation SET overpaid = overpaid + 1 WHERE tenant_id = $1",
    "UPDATE tally.loan_charge SET amount = 1 WHERE tenant_id = $1",
    "UPDATE tally.loan_status_change SET after = 'closed' WHERE tenant_id = $1",
    "UPDATE tally.loan_status_change SET step = step + 100 WHERE tenant_id = $1",
    *(f"DELETE FROM tally.{table} WHERE tenant_id = $1" for table in RECORDS),
    "DELETE FROM tally.loan WHERE tenant_id = $1",
    "DELETE FROM tally.loan_installment WHERE tenant_id = $1",
    "DELETE FROM tally.loan_schedule WHERE tenant_id = $1",
    "DELETE FROM tally.loan_funding WHERE tenant_id = $1",
    "DELETE FROM tally.loan_product WHERE tenant_id = $1",
]
RIGHTS = [
    "UPDATE tally.loan_installment SET principal = principal - 1 WHERE tenant_id = $1",
    "UPDATE tally.loan_installment SET interest = interest + 1 WHERE tenant_id = $1",
    "UPDATE tally.loan SET number = number + 1 WHERE tenant_id = $1",
    "UPDATE tally.loan SET borrower_id = gen_random_uuid() WHERE tenant_id = $1",
    "UPDATE tally.loan SET product_id = gen_random_uuid() WHERE tenant_id = $1",
    "UPDATE tally.loan_installment SET due = due + 365 WHERE tenant_id = $1",
    "UPDATE tally.loan_installment SET loan_id = gen_random_uuid() WHERE tenant_id = $1",
    "UPDATE tally.loan_schedule SET edition = edition + 1 WHERE tenant_id = $1",
    "UPDATE tally.loan_funding SET amount = amount + 1 WHERE tenant_id = $1",
    "UPDATE tally.loan_funding SET lender_id = gen_random_uuid() WHERE tenant_id = $1",
    "UPDATE tally.loan_product SET terms = '{}' WHERE tenant_id = $1",
    "UPDATE tally.loan_product SET servicing = '{}' WHERE tenant_id = $1",
    *(f"TRUNCATE tally.{table}" for table in (*RECORDS, "loan", "loan_installment")),
    "SELECT tally.loan_totals($1, ARRAY[]::uuid[])",
]


# What the application may give when it inserts.
COLUMNS = (
    "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped "
    "AND has_column_privilege(attrelid, attnum, 'INSERT')"
)


def named(sql: str) -> str:
    return " ".join(sql.split()[:5])


@dataclass
class Scene:
    db: Session
    loan: Loan
    """Active, with a payment and a fee."""
    paid: LoanReceipt
    allocation: LoanAllocation
    """Of the payment, to the first installment."""
    other: Loan
    """Of the same product, with nothing paid."""
    open: Loan
    """In funding: 600 of 1000 are there."""
    lender: User
    lost: Loan
    """Written off."""

    async def put(self, table: str, like: UUID, **changes: Any) -> None:
        """Insert a copy of a row with changes, as raw SQL."""
        async with self.db.transaction():
            columns = await self.db.unit.call(COLUMNS, (f"tally.{table}",))
            names = ", ".join(f'"{name}"' for (name,) in columns)
            sql = (
                f"INSERT INTO tally.{table} ({names}) SELECT {names} FROM (SELECT "
                f"(jsonb_populate_record(t, $3::jsonb)).* FROM tally.{table} t WHERE tenant_id = $1 AND id = $2) made"
            )
            given = json.dumps({"id": str(uuid7())} | changes, default=str)
            await self.db.unit.call(sql, (self.db.tenant_id, like, given))


@pytest.fixture
async def scene(db: Session) -> Scene:
    what = await product(db)
    loan = await active(db, what)
    await db.loans.charge(loan, ChargeKind.FEE, usd("5"), code="visit", due=FEB, on=DAY, key=None)
    paid = await db.loans.repay(loan, usd("100"), on=FEB, key=None)
    other = await active(db, what)
    lender = await db.users.add(User(status=UserStatus.ACTIVE))
    open_ = await db.loans.request(product=what, borrower=loan.borrower, principal=usd("1000"), on=DAY, key=None)
    await db.loans.open_funding(open_, on=DAY, key=None)
    await db.loans.fund(open_, lender, usd("600"), on=DAY, key=None)
    lost = await active(db, what)
    await db.loans.write_off(lost, on=FEB, key=None)
    (allocation,) = await db.loans.allocations(paid)
    return Scene(db, loan, paid, allocation, other, open_, lender, lost)


@pytest.mark.parametrize("sql", [*CHANGES, *RIGHTS], ids=named)
async def test_the_application_has_no_right_to(scene: Scene, sql: str) -> None:
    db = scene.db
    with pytest.raises(Denied):
        async with db.transaction():
            await db.unit.call(sql, (db.tenant_id,) if "$1" in sql else ())
    await agree(db)


async def test_the_owner_is_refused_by_triggers(
    race: Race, db: Session, scene: Scene, tally: Tallystick, tally_server: KitServer
) -> None:
    conn = await asyncpg.connect(
        tally_server.url("admin", tally.settings.database_url.rpartition("/")[2].partition("?")[0])
    )
    try:
        async with acting_as_owner(conn, tally_server.roles), conn.transaction():
            await conn.execute("SELECT set_config('tally.tenant', $1, true)", str(db.tenant_id))
            await conn.execute("SELECT set_config('tally.actor', 'owner', true)")
            for sql in CHANGES:
                try:
                    async with conn.transaction():
                        await conn.execute(sql, db.tenant_id)
                except asyncpg.PostgresError as refused:
                    assert refused.sqlstate in ("TS300", "TS301"), sql  # noqa: PT017
                else:
                    pytest.fail(sql)
    finally:
        await conn.close()
    await agree(db)


async def refused(scene: Scene, kinds: Any, table: str, like: UUID, **changes: Any) -> TallystickError:
    with pytest.raises(kinds) as caught:
        await scene.put(table, like, **changes)
    await agree(scene.db)
    return caught.value


async def test_history_is_not_forged(scene: Scene) -> None:
    db = scene.db
    last = (await db.loans.steps(scene.loan))[-1]
    problem = await refused(
        scene, (Conflict, Denied), "loan_status_change", last.id, step=9, before="active", after="closed"
    )
    assert problem.remedy


async def test_allocations_are_the_whole_of_their_transaction(scene: Scene) -> None:
    one = scene.allocation.id
    # Again; more; less, which takes back a part; back to nothing.
    await refused(scene, Conflict, "loan_allocation", one)
    await refused(scene, Conflict, "loan_allocation", one, principal=1, fees=0)
    await refused(scene, Conflict, "loan_allocation", one, principal=-1, fees=0)
    await refused(scene, Conflict, "loan_allocation", one, principal=-9_500, fees=-500)
    # Too much without a payment.
    await refused(
        scene, (Conflict, Invalid), "loan_allocation", one, installment_id=None, principal=0, fees=0, overpaid=100
    )
    # One that is nobody's money.
    (given, *_) = await scene.db.loans.transactions(scene.loan)
    await refused(scene, Conflict, "loan_allocation", one, transaction_id=given.id, effective=DAY)


async def test_allocations_of_another_loan(scene: Scene) -> None:
    db, one = scene.db, scene.allocation.id
    theirs = (await db.loans.schedule(scene.other))[0]
    cases: list[dict[str, Any]] = [
        # Their installment; on their schedule; for their loan.
        {"installment_id": theirs.id},
        {"installment_id": theirs.id, "schedule_id": theirs.schedule.id},
        {"installment_id": theirs.id, "schedule_id": theirs.schedule.id, "loan_id": scene.other.id},
        {"loan_id": scene.other.id},
        {"cause_id": (await db.loans.transactions(scene.other))[0].id},
        {"effective": date(2026, 1, 2)},
        {"settlement": "written_off"},
        {"settlement": "waived", "principal": 0, "interest": 9_500},
        {"asset": "EUR"},
    ]
    for changes in cases:
        await refused(scene, (Conflict, Invalid), "loan_allocation", one, **changes)


async def test_a_payment_moves_only_what_is_owed(scene: Scene) -> None:
    """A forged payment whose allocations add up, to an installment that does not owe as much."""
    db, id = scene.db, uuid7()
    with pytest.raises((Conflict, Invalid)):
        async with db.transaction():
            await scene.put(
                "loan_transaction",
                scene.paid.id,
                id=id,
                seq=50,
                amount=500_000,
                principal=500_000,
                fees=0,
                journal_id=None,
            )
            await scene.put(
                "loan_allocation", scene.allocation.id, transaction_id=id, cause_id=id, principal=500_000, fees=0
            )
    await agree(db)
    # Nor below zero, to be paid out of another installment.
    second = (await db.loans.schedule(scene.loan))[1]
    with pytest.raises((Conflict, Invalid)):
        await scene.put("loan_allocation", scene.allocation.id, installment_id=second.id, principal=-10, fees=0)
    await agree(db)


async def test_transactions_of_another_loan(scene: Scene) -> None:
    db, one = scene.db, scene.paid.id
    theirs = (await db.loans.transactions(scene.other))[0]
    base: dict[str, Any] = {"seq": 50, "journal_id": None}
    cases: list[dict[str, Any]] = [
        base | {"kind": "reversal", "reverses_id": theirs.id, "amount": 100_000},
        base | {"kind": "reversal", "reverses_id": one, "amount": 1},
        base | {"effective": date(2025, 12, 31)},
        base | {"asset": "EUR"},
        base | {"amount": 0, "principal": 0, "fees": 0},
        base | {"amount": 10_001},
        base | {"seq": scene.paid.transaction.seq},
        base | {"loan_id": uuid4()},
        base | {"kind": "disbursement", "amount": 100, "principal": 100, "fees": 0},
    ]
    for changes in cases:
        await refused(scene, (Conflict, Invalid, Denied), "loan_transaction", one, **changes)


async def test_nothing_is_paid_after_a_write_off(scene: Scene) -> None:
    db, lost = scene.db, scene.lost
    base: dict[str, Any] = {"loan_id": lost.id, "seq": 50, "journal_id": None}
    for kind in ("repayment", "goodwill", "waiver", "refund", "charge_off", "restructure"):
        await refused(scene, Conflict, "loan_transaction", scene.paid.id, **base | {"kind": kind})
    # Nor is it brought back to life.
    for status in ("active", "closed", "overpaid", "approved"):
        with pytest.raises((InvalidTransition, Invalid, Conflict)):
            await db[Loan].update(await db.loans.get(lost.id), status=status, written_off_on=None)
    await agree(db)


async def test_a_status_does_not_say_what_totals_do_not(scene: Scene) -> None:
    db = scene.db
    for status in ("closed", "overpaid"):
        with pytest.raises(TallystickError):
            async with db.transaction():
                await db.unit.call(
                    "UPDATE tally.loan SET status = $3 WHERE tenant_id = $1 AND id = $2",
                    (db.tenant_id, scene.loan.id, status),
                )
    await agree(db)


async def test_what_is_owed_does_not_go_with_its_plan(scene: Scene) -> None:
    db, loan = scene.db, scene.loan
    first = (await db.loans.schedule(loan))[0]
    gone = "UPDATE tally.loan_installment SET current = false WHERE tenant_id = $1 AND loan_id = $2"
    args = (db.tenant_id, loan.id)
    no_plan = "UPDATE tally.loan_schedule SET current = false WHERE tenant_id = $1 AND loan_id = $2"
    plan = (
        "INSERT INTO tally.loan_schedule (tenant_id, id, loan_id, edition, reason, since, current) "
        "VALUES ($1, gen_random_uuid(), $2, 2, 'reschedule', '2026-02-01', true)"
    )
    little = (
        "INSERT INTO tally.loan_installment (tenant_id, id, loan_id, schedule_id, seq, kind, start, due, principal, "
        "asset, interest, fees, penalties, current) SELECT $1, gen_random_uuid(), $2, s.id, 1, 'regular', "
        "'2026-02-01', '2026-03-01', 40000, 'USD', 0, 0, 0, true FROM tally.loan_schedule s "
        "WHERE s.loan_id = $2 AND s.current"
    )
    one = gone + f" AND id = '{first.id}'"
    for steps in ([gone], [one], [no_plan, gone], [no_plan, plan, gone], [no_plan, plan, little, gone]):
        with pytest.raises(Conflict):
            async with db.transaction():
                for sql in steps:
                    await db.unit.call(sql, args)
        await agree(db)
    with pytest.raises(Conflict):
        async with db.transaction():
            for sql in (no_plan, plan, little, one):
                await db.unit.call(sql, args)
    await agree(db)


async def test_funding_stops_at_the_loan(scene: Scene) -> None:
    db = scene.db
    (given,) = await db.loans.fundings(scene.open)
    await refused(scene, (Conflict, Invalid), "loan_funding", given.id, amount=40_001)
    await refused(scene, (Conflict, Invalid), "loan_funding", given.id, amount=-1)
    await refused(scene, (Conflict, Invalid), "loan_funding", given.id, amount=100, loan_id=scene.loan.id)
    await refused(scene, (Conflict, Invalid), "loan_funding", given.id, amount=100, asset="EUR")


async def test_charges_reach_no_other_loan(scene: Scene) -> None:
    db = scene.db
    ((charge,),) = await db.unit.call("SELECT id FROM tally.loan_charge WHERE tenant_id = $1", (db.tenant_id,))
    theirs = (await db.loans.schedule(scene.other))[0]
    await refused(scene, (Conflict, Invalid), "loan_charge", charge, installment_id=theirs.id)
    await refused(scene, (Conflict, Invalid), "loan_charge", charge, loan_id=scene.other.id)
    await refused(scene, (Conflict, Invalid), "loan_charge", charge, amount=-500)
    await refused(scene, (Conflict, Invalid), "loan_charge", charge, asset="EUR")


async def test_another_tenants_rows(scene: Scene, tally: Tallystick) -> None:
    db = scene.db
    slug = f"other-{uuid4().hex}"
    made = await tally.tenants.create(slug, name="Other")
    async with tally.session(slug, actor="other", permissions=("*",)) as other:
        theirs = await active(other, await product(other))
        paid = await other.loans.repay(theirs, usd("100"), on=FEB, key=None)
        first = (await other.loans.schedule(theirs))[0]
        (allocation,) = await other.loans.allocations(paid)
    mine: dict[str, dict[str, Any]] = {
        "loan_allocation": {"transaction_id": paid.id},
        "loan_transaction": {"loan_id": theirs.id, "seq": 50, "journal_id": None},
        "loan_charge": {"installment_id": first.id, "loan_id": theirs.id},
        "loan_funding": {"loan_id": theirs.id},
    }
    ((charge,),) = await db.unit.call("SELECT id FROM tally.loan_charge WHERE tenant_id = $1", (db.tenant_id,))
    (funding,) = await db.loans.fundings(scene.open)
    likes = {
        "loan_allocation": scene.allocation.id,
        "loan_transaction": scene.paid.id,
        "loan_charge": charge,
        "loan_funding": funding.id,
    }
    for table, changes in mine.items():
        await refused(scene, (Conflict, Invalid), table, likes[table], **changes)
        # In their name.
        await refused(scene, (Denied, Invalid, Conflict), table, likes[table], tenant_id=made.id, **changes)
    assert await db[LoanAllocation].get_or_none(allocation.id) is None
    for sql in (
        "UPDATE tally.loan SET purpose = 'x' WHERE id = $1 RETURNING id",
        "UPDATE tally.loan_installment SET current = false WHERE loan_id = $1 RETURNING id",
        "SELECT id FROM tally.loan_transaction WHERE loan_id = $1",
    ):
        async with db.transaction():
            assert not await db.unit.call(sql, (theirs.id,))
    async with tally.session(slug, actor="other", permissions=("*",)) as other:
        assert (await other.loans.get(theirs.id)).outstanding == usd("900")
        await agree(other)
