"""Fairness from stored decisions, and the monitor that opens and closes flags."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from uuid import UUID

import pytest

from tallystick import (
    Application,
    ApplicationStatus,
    Decision,
    DecisionKind,
    EmploymentStatus,
    Invalid,
    InvalidTransition,
    Outcome,
    RoleMissing,
    Tallystick,
    secret,
    usd,
)
from tallystick.domains.underwriting.boarding import Boarded, board
from tallystick.domains.underwriting.fairness import BiasFlag, FlagState
from tallystick.domains.underwriting.fairness_metrics import equalized_odds
from tallystick.domains.underwriting.reasons import ReasonCode
from tallystick.errors import Conflict
from tallystick.session import Session


async def decided(db: Session, group: str, approved: int, declined: int, version: str = "m1") -> list[UUID]:
    """Applications of a group with their final decisions by a model."""
    given = []
    for n in range(approved + declined):
        one = Application(
            full_legal_name="Ada Okafor",
            ssn=secret("666-01-0001"),
            annual_income=usd("30000"),
            employment_status=EmploymentStatus.EMPLOYED,
            monitoring={"sex": group},
            decided_at=db.now(),
        )
        outcome = Outcome.APPROVED if n < approved else Outcome.DECLINED
        made = Decision(
            application=one.ref,
            kind=DecisionKind.MODEL,
            model_version=version,
            outcome=outcome,
            reasons=None if n < approved else [ReasonCode.BANKRUPTCY],
        )
        given.append(Boarded(application=one, status=ApplicationStatus(outcome.value), decisions=(made,)))
    await board(db, given)
    return [one.application.id for one in given]


async def test_groups_of_a_window_and_a_model(db: Session) -> None:
    await decided(db, "a", 3, 1)
    await decided(db, "b", 1, 1, "m2")
    both = await db.fairness.groups("sex")
    assert [(g.group, g.total, g.selected) for g in both] == [("a", 4, 3), ("b", 2, 1)]
    assert [g.group for g in await db.fairness.groups("sex", model_version="m2")] == ["b"]
    later = db.now() + timedelta(days=1)
    assert await db.fairness.groups("sex", since=later) == []
    assert len(await db.fairness.groups("sex", until=later)) == 2
    (impact,) = await db.fairness.impacts("sex")
    assert (impact.ratio, impact.adverse) == (Fraction(2, 3), True)
    interval = both[0].interval()
    assert interval is not None
    assert interval.low < both[0].rate < interval.high


async def test_equalized_odds_need_the_truth(db: Session) -> None:
    a, b = await decided(db, "a", 1, 1), await decided(db, "b", 1, 1)
    truth = {a[0]: True, a[1]: False, b[0]: False, b[1]: True}
    groups = await db.fairness.groups("sex", truth=truth)
    odds = equalized_odds(groups)
    assert odds is not None
    assert (odds.difference, odds.ratio) == (1, 0)
    assert equalized_odds(await db.fairness.groups("sex")) is None


async def test_the_monitor_opens_and_closes_flags(db: Session) -> None:
    await decided(db, "a", 6, 4)
    await decided(db, "b", 4, 6)
    await decided(db, "c", 0, 2)
    found = await db.fairness.monitor("sex", minimum=10)
    (flag,) = found.opened
    assert (flag.group_label, flag.reference_label, flag.selected, flag.decided) == ("b", "a", 4, 10)
    assert found.too_small == ["c"]
    assert (await db.fairness.monitor("sex", minimum=10)).opened == []
    assert (await db.fairness.acknowledge(flag)).state is FlagState.ACKNOWLEDGED
    await decided(db, "b", 2, 0)
    # 6 of 12 beside 6 of 10 is more than four fifths.
    found = await db.fairness.monitor("sex", minimum=10)
    (closed,) = found.closed
    assert (closed.id, closed.state) == (flag.id, FlagState.MITIGATED)
    with pytest.raises(InvalidTransition):
        await db.fairness.acknowledge(flag)
    with pytest.raises(Conflict):
        await db.fairness.dismiss(flag, "closed before")


async def test_what_was_dismissed_is_not_raised_again(db: Session) -> None:
    await decided(db, "a", 6, 4)
    await decided(db, "b", 4, 6)
    (flag,) = (await db.fairness.monitor("sex", minimum=10)).opened
    await db.fairness.dismiss(flag, "one branch only, looked into")
    assert (await db.fairness.monitor("sex", minimum=10)).opened == []


async def test_four_fifths_is_no_flag_and_the_database_refuses_one(db: Session) -> None:
    await decided(db, "a", 10, 0)
    await decided(db, "b", 8, 2)
    assert (await db.fairness.monitor("sex", minimum=10)).opened == []
    flag = BiasFlag(
        attribute="sex",
        group_label="b",
        reference_label="a",
        decided=10,
        selected=8,
        reference_decided=10,
        reference_selected=10,
        minimum=10,
    )
    with pytest.raises(Invalid):
        await db.fairness.add(flag)


async def test_bad_questions(db: Session, tally: Tallystick, tenant: str) -> None:
    for attribute in ("", "sex; drop", 5):
        with pytest.raises(Invalid):
            await db.fairness.groups(attribute)  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        await db.fairness.groups("sex", since="yesterday")  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        await db.fairness.groups("sex", truth={"x": 1})  # type: ignore[dict-item]
    with pytest.raises(Invalid):
        await db.fairness.monitor("sex", minimum=0)
    async with tally.session(tenant, actor="clerk", permissions=()) as clerk:
        with pytest.raises(RoleMissing):
            await clerk.fairness.monitor("sex")
