"""Decisions with their grounds: reasons, attributions, notices."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.underwriting.support import decision, scoring

from tallystick import (
    ApplicationStatus,
    Conflict,
    DecisionKind,
    Denied,
    Duplicate,
    Invalid,
    KeyReused,
    Outcome,
    RoleMissing,
    Tallystick,
)
from tallystick.domains.underwriting.decisions import DecisionReason
from tallystick.domains.underwriting.notices import NOTICE_DAYS, NoticeChannel
from tallystick.domains.underwriting.reasons import GROUPS, DenialGroup, ReasonCode, check_reasons, hmda_denial_codes
from tallystick.session import Session
from tallystick.testing import Make

_R = ReasonCode
DECLINED = Outcome.DECLINED


async def test_a_decline_has_its_reasons_in_order_and_owes_a_notice(db: Session, make: Make) -> None:
    application = await scoring(db, make)
    reasons = [_R.DELINQUENT_OBLIGATIONS, _R.BANKRUPTCY, _R.INCOME_INSUFFICIENT]
    done = await db.applications.decide(application.id, decision(application, DECLINED, reasons=reasons))
    assert done.status is ApplicationStatus.DECLINED
    (made,) = await db.decisions.find()
    assert made.reasons == reasons
    rows = await db[DecisionReason].find(order=DecisionReason.rank)
    assert [(r.rank, r.code) for r in rows] == list(enumerate(reasons, 1))
    assert [r.group for r in rows][:2] == [DenialGroup.CREDIT_HISTORY] * 2
    (notice,) = await db.notices.find()
    assert (notice.decision, notice.due_on - notice.counted_from) == (made.ref, NOTICE_DAYS)
    assert await db.notices.due() == []
    assert await db.notices.due(db.today() + timedelta(days=30)) == [notice]
    sent = await db.notices.sent(notice, NoticeChannel.MAIL, bureau="A bureau")
    assert sent.sent_at is not None
    assert await db.notices.due(db.today() + timedelta(days=30)) == []
    with pytest.raises(Conflict):
        await db.notices.sent(notice, NoticeChannel.MAIL)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"reasons": []},
        {"reasons": [_R.BANKRUPTCY, _R.BANKRUPTCY]},
        {"reasons": [_R.BANKRUPTCY, _R.GARNISHMENT, _R.FORECLOSURE, _R.NO_CREDIT_FILE, _R.RECENT_INQUIRIES]},
        {"reasons": [_R.OTHER]},
        {"reasons": [_R.BANKRUPTCY], "other_reason": "and more"},
    ],
)
async def test_a_decline_without_proper_reasons_is_refused_here_and_by_the_database(
    db: Session, make: Make, given: dict[str, Any]
) -> None:
    application = await scoring(db, make)
    wrong = decision(application, DECLINED, **given)
    with pytest.raises(Invalid):
        await db.applications.decide(application.id, wrong)
    with pytest.raises((Invalid, Duplicate)):
        await db.decisions.add(wrong)
    assert await db.decisions.count() == 0
    assert (await db.applications.get(application.id)).status is ApplicationStatus.SCORING


async def test_an_approval_has_no_reasons_and_owes_no_notice(db: Session, make: Make) -> None:
    application = await scoring(db, make)
    with pytest.raises(Invalid):
        await db.applications.decide(application.id, decision(application, reasons=[_R.BANKRUPTCY]))
    await db.applications.decide(application.id, decision(application))
    assert await db.notices.count() == 0


async def test_the_database_writes_reason_rows_and_nobody_else(db: Session, make: Make) -> None:
    application = await scoring(db, make)
    await db.applications.decide(application.id, decision(application, DECLINED, reasons=[_R.BANKRUPTCY]))
    (made,) = await db.decisions.find()
    with pytest.raises(Denied):
        await db[DecisionReason].add(DecisionReason(decision=made.ref, rank=2, code=_R.GARNISHMENT))


@pytest.mark.parametrize(
    ("shap", "output", "fine"),
    [
        ({"a": "1.5", "b": "2.5"}, "4.0", True),
        ({"a": 1.5, "b": 2.5}, "4.0000009", True),
        ({"a": 1.5, "b": 2.5}, "4.000001", False),
        ({"a": 1.5, "b": 2.4}, "4.0", False),
        ({}, "0", True),
        ({"a": "many"}, "4.0", False),
        ({"a": 4, "b": None}, "4.0", False),
        ({"a": "NaN"}, "4.0", False),
        ({"a": "Infinity", "b": "-Infinity"}, "4.0", False),
        ({"a": float("inf")}, "4.0", False),
        ({"a": {"value": 4}}, "4.0", False),
        ({"a": True}, "1.0", False),
        ({"a": "1e200000"}, "4.0", False),
        ({}, "4.0", False),
        ({"a": 0.1, "b": 0.2}, "0.3", True),
    ],
)
async def test_attributions_add_up_to_the_output(
    db: Session, make: Make, shap: dict[str, Any], output: str, fine: bool
) -> None:
    application = await scoring(db, make)
    given = decision(
        application,
        kind=DecisionKind.MODEL,
        model_version="m1",
        base_value=Decimal(0),
        output_value=Decimal(output),
        shap=shap,
    )
    if fine:
        await db.applications.decide(application.id, given)
    else:
        with pytest.raises(Invalid):
            await db.applications.decide(application.id, given)
    assert await db.decisions.count() == int(fine)


async def test_a_decision_repeated_with_its_key_is_one_decision(db: Session, make: Make) -> None:
    application = await scoring(db, make)
    given = decision(application)
    first, again = [await db.applications.decide(application.id, given, key="decide-1") for _ in range(2)]
    assert first == again
    assert await db.decisions.count() == 1
    with pytest.raises(KeyReused):
        await db.applications.decide(application.id, decision(application, Outcome.REVIEW), key="decide-1")


async def test_a_key_is_for_one_decision_with_all_its_grounds(db: Session, make: Make) -> None:
    application = await scoring(db, make)
    model = {"kind": DecisionKind.MODEL, "model_version": "m1", "base_value": Decimal(0), "output_value": Decimal(4)}
    given = decision(application, shap={"a": 1.5, "b": 2.5}, risk_factors=["a"], **model)
    await db.applications.decide(application, given, key="d-1")
    for other in ({"shap": {"a": 2.5, "b": 1.5}}, {"shap": None}, {"confidence": Decimal("0.5")}):
        with pytest.raises(KeyReused):
            await db.applications.decide(
                application, decision(application, **({"shap": given.shap} | model | other)), key="d-1"
            )


async def test_attributions_without_their_base_or_output_explain_nothing(db: Session, make: Make) -> None:
    application = await scoring(db, make)
    for given in ({"base_value": Decimal(0)}, {"output_value": Decimal(4)}, {}):
        with pytest.raises(Invalid):
            await db.applications.decide(application, decision(application, shap={"a": 4}, **given))
    assert await db.decisions.count() == 0


async def test_factors_of_any_shape_are_kept(db: Session, make: Make) -> None:
    application = await scoring(db, make)
    factors = ["late payments", {"name": "income", "weight": 0.25}]
    await db.applications.decide(application.ref, decision(application, risk_factors=factors))
    assert (await db.decisions.find())[0].risk_factors == factors


def test_reasons_have_an_order() -> None:
    for wrong in ({_R.BANKRUPTCY}, {_R.BANKRUPTCY: 1}, "bankruptcy", None, [None], ["no such reason"]):
        with pytest.raises(Invalid):
            check_reasons(wrong)  # type: ignore[arg-type]
    assert check_reasons(r for r in ("bankruptcy", "garnishment")) == [_R.BANKRUPTCY, _R.GARNISHMENT]


@pytest.mark.parametrize(
    ("reasons", "codes"),
    [
        (None, [10]),
        ([_R.DELINQUENT_OBLIGATIONS, _R.BANKRUPTCY], [3]),
        (
            [_R.INCOME_INSUFFICIENT, _R.EMPLOYMENT_LENGTH, _R.OBLIGATIONS_EXCESSIVE, _R.COLLATERAL_INSUFFICIENT],
            [1, 2, 4],
        ),
        ([_R.INCOME_UNVERIFIABLE, _R.APPLICATION_INCOMPLETE], [6, 7]),
        ([_R.RESIDENCE_TEMPORARY], [9]),
        ([_R.OTHER, _R.GARNISHMENT], [9, 3]),
    ],
)
def test_codes_of_a_hmda_file(reasons: list[ReasonCode] | None, codes: list[int]) -> None:
    assert hmda_denial_codes(reasons) == codes
    assert hmda_denial_codes(reasons, exempt=True) == [1111]


def test_every_reason_has_a_group_and_every_group_its_number() -> None:
    assert set(GROUPS) == set(ReasonCode)
    assert len(ReasonCode) == 24  # form C-1
    assert [g.number for g in DenialGroup] == list(range(1, 10))


async def test_decisions_by_hand_take_the_permission(db: Session, make: Make, tally: Tallystick, tenant: str) -> None:
    application = await scoring(db, make)
    async with tally.session(tenant, actor="clerk", permissions=["applications.review"]) as clerk:
        with pytest.raises(RoleMissing):
            await clerk.decisions.add(decision(application))
        with pytest.raises(RoleMissing):
            await clerk.applications.decide(application.id, decision(application))
