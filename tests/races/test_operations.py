"""Sixteen callers of one operation: quotas, decisions, idempotency keys, tenants."""

from __future__ import annotations

from uuid import uuid4

from tallystick import (
    Application,
    ApplicationStatus,
    Conflict,
    Decision,
    DecisionKind,
    Duplicate,
    Outcome,
    QuotaExceeded,
    StaleVersion,
    Tallystick,
)
from tallystick.domains.underwriting.reasons import ReasonCode
from tallystick.session import Session
from tallystick.testing import Make, Race

N = 16


async def test_a_quota_is_used_to_its_limit_and_no_further(race: Race, db: Session, tally: Tallystick):
    await tally.tenants.update(db, max_users=10, max_devices=10)
    result = await race(N, lambda s: s.consume("users"))
    assert result.winners == 10
    assert result.kinds == {QuotaExceeded}
    assert sorted(result.results) == list(range(1, 11))
    result = await race(N, lambda s: s.consume("devices", 3))
    assert result.winners == 3
    assert sorted(result.results) == [3, 6, 9]


async def test_applications_beyond_the_month_are_not_stored(race: Race, db: Session, tally: Tallystick, make: Make):
    await tally.tenants.update(db, max_applications_per_month=5)
    result = await race(N, lambda s: s.applications.submit(make.build(Application)))
    assert result.winners == 5
    assert result.kinds == {QuotaExceeded}
    assert await db.applications.count() == 5
    assert await db.applications.count(Application.status == ApplicationStatus.SUBMITTED) == 5


async def test_an_idempotency_key_submits_once_and_counts_once(race: Race, db: Session, make: Make):
    result = await race(N, lambda s: s.applications.submit(make.build(Application, idempotency_key="key")))
    assert result.winners == 1
    assert result.kinds == {Duplicate}
    assert await db.applications.count() == 1
    assert await db.consume("applications") == 2


async def _in_review(db: Session, make: Make) -> Application:
    application = await make(Application)
    for status in (
        ApplicationStatus.SUBMITTED,
        ApplicationStatus.VERIFYING,
        ApplicationStatus.SCORING,
        ApplicationStatus.REVIEW,
    ):
        application = await db.applications.update(application, status=status)
    return application


async def test_an_application_is_decided_once(race: Race, db: Session, make: Make):
    application = await _in_review(db, make)
    why = {Outcome.APPROVED: None, Outcome.DECLINED: [ReasonCode.INCOME_INSUFFICIENT]}

    async def decide(s: Session, i: int) -> Application:
        outcome = list(why)[i % 2]
        return await s.applications.decide(
            application.id,
            Decision(application=application.ref, kind=DecisionKind.MANUAL, outcome=outcome, reasons=why[outcome]),
        )

    result = await race(N, decide)
    assert result.winners == 1
    assert result.kinds == {Conflict}
    (decision,) = await db.decisions.find(Decision.application == application.ref)
    stored = await db.applications.get(application.id)
    assert stored.status.value == decision.outcome.value
    assert stored.decided_at is not None


async def test_opinions_are_numbered_without_gaps(race: Race, db: Session, make: Make):
    application = await _in_review(db, make)

    async def opine(s: Session, i: int) -> Application:
        return await s.applications.decide(
            application.id,
            Decision(
                application=application.ref,
                kind=DecisionKind.MODEL,
                model_version=str(i),
                outcome=Outcome.REVIEW,
                is_final=False,
            ),
        )

    assert (await race(N, opine)).errors == []
    decisions = await db.decisions.find(Decision.application == application.ref, order=Decision.seq)
    assert [d.seq for d in decisions] == list(range(1, N + 1))


async def test_a_tenant_is_made_once(race: Race, tally: Tallystick):
    slug = f"contested-{uuid4().hex}"
    result = await race(N, lambda s, i: s._app.tenants.create(slug, name=f"racer {i}"))
    assert result.winners == 1
    assert result.kinds == {Duplicate}
    assert (await tally.tenants.resolve(slug)).id == result.results[0].id


async def test_a_tenant_with_a_bad_option_is_not_half_made(race: Race, tally: Tallystick):
    domain = f"{uuid4().hex}.example"
    slugs = [f"contested-{uuid4().hex}" for _ in range(N)]
    result = await race(N, lambda s, i: s._app.tenants.create(slugs[i], name="x", domain=domain))
    assert result.winners == 1
    assert result.kinds == {Duplicate}
    known = {slug async for _, slug, _ in tally.tenants.all()}
    assert len(known & set(slugs)) == 1


async def test_settings_of_a_tenant_do_not_overwrite_each_other(race: Race, db: Session, tally: Tallystick):
    version = (await db.tenant_record()).version
    result = await race(N, lambda s, i: s._app.tenants.update(s, name=f"racer {i}", version=version))
    assert result.winners == 1
    assert result.kinds == {StaleVersion}
    fields = ["name", "max_users", "max_devices", "time_zone"]
    values = ["New name", 7, 8, "Africa/Nairobi"]
    result = await race(4, lambda s, i: s._app.tenants.update(s, **{fields[i]: values[i]}))
    assert result.errors == []
    record = await db.tenant_record()
    assert [getattr(record, f) for f in fields] == values
