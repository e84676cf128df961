"""What ``db.circles`` is called with by mistake is refused with an error of the tree."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

from tests.community.support import person
from tests.savings.support import DAY, agree, contribution_of, recruiting, running, terms
from tests.vaults.refusals import all_untyped

from tallystick import (
    ChainLog,
    ContributionKind,
    ContributionStatus,
    OrderKind,
    PayoutStatus,
    SavingsGroup,
    Session,
    commitment,
    usd,
)
from tallystick.testing import Make


async def test_wrong_arguments(db: Session, make: Make) -> None:
    bidding, users = await running(db, make, 3, order_kind=OrderKind.BIDDING)
    fixed, others = await recruiting(db, make, 2)
    stranger = await person(make)
    log = ChainLog(chain_id=1, tx_hash=b"\1" * 32, log_index=0)
    due = await contribution_of(db, bidding, users[0])
    c, late = db.circles, DAY + timedelta(30)
    of = {"name": "n", "asset": "USD", "contribution_amount": 1, "frequency_days": 7, "max_members": 2}
    more = {"order_kind": OrderKind.RANDOM, "seed_hash": commitment(bytes(16)), "seed": None, "bid_floor_bps": 0}
    fees = {"grace_days": 1, "late_fee": 1, "collateral_required": 1, "service_fee_bps": 1, "mirrored": False}
    where = {"chain_id": 1, "contract": b"\1" * 20, "external_id": "1", "organizer": users[0].ref, "rounds": 0}

    def create(**given: Any) -> Awaitable[Any]:
        return c.create(SavingsGroup(**given), key=None)

    g, f, day = {"group": bidding.id}, {"group": fixed.id}, {"on": DAY, "key": "k"}
    paid = {"user": users[0], "amount": usd("50"), "round": 1, "kind": ContributionKind.REGULAR, "log": log}
    assert (
        await all_untyped(
            db,
            {
                "create with": (create, of | more | fees | where),
                "create": (c.create, {"group": terms(), "key": "k"}),
                "mirror": (c.mirror, {"group": terms()}),
                "invite": (c.invite, f | {"user": stranger}),
                "join": (c.join, f | day | {"user": stranger.id, "target": usd("3")}),
                "leave": (c.leave, f | day | {"user": others[0]}),
                "set_order": (c.set_order, f | {"users": others}),
                "ready": (c.ready, f),
                "draw": (c.draw, f | {"seed": bytes(32)}),
                "start": (c.start, f | day | {"rounds": None}),
                "contribute": (c.contribute, g | day | paid | {"pending": False}),
                "bid": (c.bid, g | {"user": users[0], "amount": usd("50"), "key": "k"}),
                "waive": (c.waive, day | {"contribution": due.id}),
                "settle_contribution": (
                    c.settle_contribution,
                    {"contribution": due.id, "status": ContributionStatus.CONFIRMED, "log": log, "on": DAY},
                ),
                "mark_late": (c.mark_late, g | {"on": late, "key": "k"}),
                "default": (c.default, g | {"user": users[0], "on": late, "key": "k"}),
                "pause": (c.pause, g),
                "circle": (c.circle, g),
                "members": (c.members, g),
                "contributions": (c.contributions, g | {"round": 1, "user": users[0]}),
                "of_user": (c.of_user, {"user": users[0]}),
                "cancel": (c.cancel, f | day),
                "dissolve": (c.dissolve, g | day),
            },
        )
        == []
    )
    for user in users:
        await c.contribute(bidding.id, user, on=DAY, key=None)
    assert await all_untyped(db, {"pay_out": (c.pay_out, g | day | {"log": log})}) == []
    pot = await c.pay_out(bidding.id, on=DAY, key=None)
    settled = {"payout": pot.id, "status": PayoutStatus.CONFIRMED, "log": log}
    calls = {
        "settle_payout": (c.settle_payout, settled),
        "advance": (c.advance, g | day),
        "share_out": (c.share_out, g | day | {"user": users[0]}),
        "resume": (c.resume, g),
    }
    assert await all_untyped(db, calls) == []
    await agree(db, bidding)
    await agree(db, fixed)
