"""Going round circles: raw statements of the application, and of the owner, against groups and their pots."""

from __future__ import annotations

import asyncpg
import pytest
from tests.savings.support import DAY, agree, all_pay, running

from tallystick import Conflict, Denied, Invalid, InvalidTransition, SavingsGroup, Tallystick, User, usd
from tallystick.schema.connect import acting_as_owner
from tallystick.session import Session
from tallystick.testing import Make, Race
from tallystick.testing.server import KitServer

TABLES = ("savings_group", "group_member", "group_round", "contribution", "payout", "bid")
FORBIDDEN = [
    "UPDATE tally.group_member SET has_received = false WHERE tenant_id = $1",
    "UPDATE tally.group_member SET in_debt = false WHERE tenant_id = $1",
    "UPDATE tally.group_member SET user_id = gen_random_uuid() WHERE tenant_id = $1",
    "UPDATE tally.savings_group SET members = 1 WHERE tenant_id = $1",
    "UPDATE tally.savings_group SET organizer_id = NULL WHERE tenant_id = $1",
    "UPDATE tally.contribution SET amount = 1 WHERE tenant_id = $1",
    "UPDATE tally.contribution SET member_id = gen_random_uuid() WHERE tenant_id = $1",
    "UPDATE tally.contribution SET round_id = gen_random_uuid() WHERE tenant_id = $1",
    "UPDATE tally.payout SET amount = amount + 1 WHERE tenant_id = $1",
    "UPDATE tally.payout SET fee = 0 WHERE tenant_id = $1",
    "UPDATE tally.payout SET member_id = gen_random_uuid() WHERE tenant_id = $1",
    "UPDATE tally.payout SET effective = effective - 1 WHERE tenant_id = $1",
    "UPDATE tally.group_round SET due_on = due_on + 1 WHERE tenant_id = $1",
    "UPDATE tally.group_round SET seq = seq + 1 WHERE tenant_id = $1",
    *(f"DELETE FROM tally.{table} WHERE tenant_id = $1" for table in TABLES),
    *(f"TRUNCATE tally.{table}" for table in TABLES),
]
REFUSED = [
    "UPDATE tally.savings_group SET contribution_amount = 1 WHERE tenant_id = $1",
    "UPDATE tally.savings_group SET late_fee = 1 WHERE tenant_id = $1",
    "UPDATE tally.savings_group SET service_fee_bps = 10000 WHERE tenant_id = $1",
    "UPDATE tally.savings_group SET mirrored = true, order_kind = 'none' WHERE tenant_id = $1",
    "UPDATE tally.savings_group SET rounds = 9 WHERE tenant_id = $1",
    "UPDATE tally.savings_group SET status = 'recruiting' WHERE tenant_id = $1",
    "UPDATE tally.group_member SET status = 'left', position = NULL WHERE tenant_id = $1",
    "UPDATE tally.group_member SET position = position + 10 WHERE tenant_id = $1",
    "UPDATE tally.group_round SET recipient_id = NULL WHERE tenant_id = $1",
    "UPDATE tally.group_round SET status = 'closed', closed_on = '2026-03-02' WHERE tenant_id = $1 AND status = 'open'",
    "UPDATE tally.group_round SET status = 'funded' WHERE tenant_id = $1 AND status = 'open'",
    "UPDATE tally.contribution SET status = 'confirmed', effective = '2026-03-02' WHERE tenant_id = $1 "
    "AND status = 'expected'",
    "UPDATE tally.contribution SET covered = 1 WHERE tenant_id = $1",
    "UPDATE tally.contribution SET status = 'expected' WHERE tenant_id = $1 AND status = 'confirmed'",
    "UPDATE tally.contribution SET effective = '2020-01-01' WHERE tenant_id = $1 AND status = 'confirmed'",
    "UPDATE tally.payout SET status = 'void' WHERE tenant_id = $1",
    "INSERT INTO tally.payout (tenant_id, id, group_id, round_id, member_id, kind, amount, fee, in_debt, effective, "
    "status, journal_id) SELECT tenant_id, gen_random_uuid(), group_id, round_id, member_id, kind, amount, fee, "
    "in_debt, effective, status, journal_id FROM tally.payout WHERE tenant_id = $1",
    "INSERT INTO tally.contribution (tenant_id, id, group_id, round_id, member_id, kind, amount, covered, status, "
    "effective, journal_id) SELECT tenant_id, gen_random_uuid(), group_id, round_id, member_id, 'late_fee', amount, 0, "
    "'confirmed', effective, NULL FROM tally.contribution WHERE tenant_id = $1 AND status = 'confirmed'",
]


@pytest.fixture
async def group(db: Session, make: Make) -> SavingsGroup:
    """In its second round, one of three contributions in."""
    made, users = await running(db, make, 3, service_fee_bps=100)
    await all_pay(db, made, users)
    await db.circles.pay_out(made.id, on=DAY, key=None)
    await db.circles.advance(made.id, on=DAY, key=None)
    await db.circles.contribute(made.id, users[0], on=DAY, key=None)
    return await db.circles.get(made.id)


def named(sql: str) -> str:
    return " ".join(sql.split()[:5])


@pytest.mark.parametrize("sql", FORBIDDEN, ids=named)
async def test_the_application_has_no_right_to(db: Session, group: SavingsGroup, sql: str) -> None:
    with pytest.raises(Denied):
        async with db.transaction():
            await db.unit.call(sql, (db.tenant_id,) if "$1" in sql else ())
    await agree(db, group)


@pytest.mark.parametrize("sql", REFUSED, ids=named)
async def test_the_database_refuses(db: Session, group: SavingsGroup, sql: str) -> None:
    with pytest.raises((Conflict, Invalid, InvalidTransition)):
        async with db.transaction():
            await db.unit.call(sql, (db.tenant_id,))
    found = await db.circles.circle(group.id)
    assert (found.paid_in, found.paid_out, found.fees) == (usd("200"), usd("148.50"), usd("1.50"))
    await agree(db, group)


async def test_the_owner_is_refused_by_triggers(
    race: Race, db: Session, group: SavingsGroup, tally: Tallystick, tally_server: KitServer
) -> None:
    place = tally.settings.database_url.rpartition("/")[2].partition("?")[0]
    conn = await asyncpg.connect(tally_server.url("admin", place))
    deletes = [sql for sql in FORBIDDEN if sql.startswith("DELETE") and "bid" not in sql]
    try:
        async with acting_as_owner(conn, tally_server.roles), conn.transaction():
            await conn.execute("SELECT set_config('tally.tenant', $1, true)", str(db.tenant_id))
            await conn.execute("SELECT set_config('tally.actor', 'owner', true)")
            for sql in [*deletes, *REFUSED]:
                with pytest.raises(asyncpg.PostgresError):
                    async with conn.transaction():
                        await conn.execute(sql, db.tenant_id)
    finally:
        await conn.close()
    assert await db.users.count() == await db[User].count() == 3
    await agree(db, group)
