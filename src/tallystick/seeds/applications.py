"""A generator of plausible loan applications with decisions; the same number and seed make the same applications.

Approval here depends on income, debt and history only. Groups still differ a little, as they do in a real book: the
young have thinner histories, which is what a fairness report is there to show.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tallystick.domains.underwriting.applications import Application, ApplicationStatus, EmploymentStatus
from tallystick.domains.underwriting.boarding import Boarded, board
from tallystick.domains.underwriting.decisions import Decision, DecisionKind, Outcome
from tallystick.entity import with_fields
from tallystick.money import Money
from tallystick.privacy.sealed import secret
from tallystick.query import prefix
from tallystick.seeds import Planted, Told, people, scorecard
from tallystick.seeds.tenants import asset_of
from tallystick.seeds.users import address

if TYPE_CHECKING:
    from tallystick.session import Session

KEY: Final = "seed:"
"""What the idempotency keys of planted applications begin with."""
_DAYS: Final = 90
_PURPOSES: Final = (
    ("working capital", 24),
    ("school fees", 16),
    ("home repair", 16),
    ("vehicle", 14),
    ("medical", 10),
    ("equipment", 12),
    ("debt consolidation", 8),
)
_EMPLOYMENT: Final = (
    (EmploymentStatus.EMPLOYED, 58),
    (EmploymentStatus.SELF_EMPLOYED, 22),
    (EmploymentStatus.RETIRED, 7),
    (EmploymentStatus.STUDENT, 6),
    (EmploymentStatus.UNEMPLOYED, 5),
    (EmploymentStatus.OTHER, 2),
)
_OPEN: Final = (
    ApplicationStatus.SUBMITTED,
    ApplicationStatus.VERIFYING,
    ApplicationStatus.INCOMPLETE,
    ApplicationStatus.WITHDRAWN,
)


async def plant(db: Session, count: int, told: Told | None = None) -> Planted:
    """Store the generated applications that the tenant does not have, all or none."""
    slug = db.tenant.slug
    async with db.transaction():
        there = {
            application.idempotency_key
            async for application in db.applications.stream(prefix(Application.idempotency_key, KEY))
        }
        made = generate(count, slug=slug, asset=asset_of(slug), now=db.now())
        added = await board(db, [one for one in made if one.application.idempotency_key not in there], told)
    return Planted(seed="applications", tenant=slug, added=added, present=count - added)


def generate(count: int, *, slug: str, asset: str, now: datetime, seed: int = 1) -> Iterator[Boarded]:
    """``count`` applications of the ninety days before ``now``; ``slug`` and ``seed`` choose which.

    Ids are new each time; everything else depends on the arguments only. Amounts are whole units of ``asset``.
    """
    for number in range(1, count + 1):
        # One generator an application: number 7 is the same whether ten are made or a thousand.
        yield _make(random.Random(f"{slug}/{seed}/{number}"), number, slug, asset, now)  # noqa: S311  data, no secret


def _make(chance: random.Random, number: int, slug: str, asset: str, now: datetime) -> Boarded:
    sex = chance.choice(("female", "male"))
    age = 18 + min(chance.randrange(55), chance.randrange(62))
    first = chance.choice(people.FEMALE if sex == "female" else people.MALE)
    last = chance.choice(people.FAMILY)
    city, country = chance.choice(people.CITIES)
    facts = _facts(chance, age)
    submitted = now - timedelta(minutes=chance.randrange(2 * 1440, _DAYS * 1440))
    application = Application(
        full_legal_name=f"{first} {last}",
        ssn=secret(f"666-{chance.randrange(1, 100):02}-{number % 10_000:04}"),
        annual_income=Money.of(facts.yearly_income // 100, asset),
        employment_status=facts.employment,
        requested_amount=Money.of(facts.requested // 100, asset),
        requested_months=facts.months,
        purpose=_weighted(chance, _PURPOSES),
        credit_score=secret(850 - chance.randrange(40) - max(0, 300 - facts.history_months)),
        email=address(first, f"{last}{number}", slug),
        phone=f"+1 202 555 01{number % 100:02}",
        address={"city": city, "country": country},
        monitoring=_monitoring(chance, sex, age),
        submitted_at=submitted,
        idempotency_key=f"{KEY}{number:05}",
    )
    if chance.randrange(100) < 9:
        return Boarded(application=application, status=chance.choice(_OPEN))
    return _decided(chance, application, facts, submitted)


def _facts(chance: random.Random, age: int) -> scorecard.Facts:
    employment = _weighted(chance, _EMPLOYMENT)
    if age < 24 and chance.randrange(3) == 0:
        employment = EmploymentStatus.STUDENT
    income = 9_000 + sum(chance.randrange(14_000) for _ in range(4))
    if employment in (EmploymentStatus.UNEMPLOYED, EmploymentStatus.STUDENT):
        income //= 3
    history = min((age - 18) * 12, chance.randrange(24, 300))
    return scorecard.Facts(
        employment=employment,
        yearly_income=income * 100,
        requested=(5 + min(chance.randrange(160), chance.randrange(220))) * 10_000,
        months=chance.choice((6, 12, 12, 18, 24, 24, 36, 48)),
        history_months=history,
        late_payments=max(0, chance.randrange(9) - 6),
    )


def _monitoring(chance: random.Random, sex: str, age: int) -> dict[str, str]:
    """What applicants told for fairness monitoring; one in sixteen would rather not say."""
    found = {"sex": sex, "age_band": "25 and under" if age <= 25 else "over 25"}
    return {name: value for name, value in found.items() if chance.randrange(16)}


def _decided(chance: random.Random, application: Application, facts: scorecard.Facts, at: datetime) -> Boarded:
    points = scorecard.points(facts)
    risk = scorecard.score(facts, points)
    decided_at = at + timedelta(minutes=chance.randrange(1, 2 * 1440))
    model: dict[str, Any] = {
        "application": application.ref,
        "kind": DecisionKind.MODEL,
        "risk_score": risk,
        "fraud_probability": Decimal(chance.randrange(1, 60_000)) / 1_000_000,
        "identity_match": Decimal(chance.randrange(900_000, 1_000_001)) / 1_000_000,
        "confidence": Decimal(min(990_000, 550_000 + abs(risk - scorecard.APPROVE_BELOW) * 2_000)) / 1_000_000,
        "model_version": scorecard.VERSION,
        "base_value": Decimal(scorecard.BASE),
        "output_value": Decimal(scorecard.BASE + sum(points.values())),
        "shap": dict(points),
        "risk_factors": [name for name, value in sorted(points.items(), key=lambda p: -p[1]) if value > 0],
        "processing_time_ms": chance.randrange(35, 900),
    }
    if scorecard.APPROVE_BELOW <= risk < scorecard.REVIEW_BELOW:
        review = Decision(outcome=Outcome.REVIEW, is_final=False, **model)
        if chance.randrange(100) < 35:
            return Boarded(application=application, status=ApplicationStatus.REVIEW, decisions=(review,))
        approved = chance.randrange(100) < 55
        manual = Decision(
            application=application.ref,
            kind=DecisionKind.MANUAL,
            outcome=Outcome.APPROVED if approved else Outcome.DECLINED,
            risk_score=risk,
            reasons=None if approved else scorecard.reasons(points),
        )
        return _final(application, approved, decided_at, (review, manual))
    approved = risk < scorecard.APPROVE_BELOW
    outcome = Outcome.APPROVED if approved else Outcome.DECLINED
    reasons = None if approved else scorecard.reasons(points)
    return _final(application, approved, decided_at, (Decision(outcome=outcome, reasons=reasons, **model),))


def _final(application: Application, approved: bool, at: datetime, decisions: tuple[Decision, ...]) -> Boarded:
    return Boarded(
        application=with_fields(application, decided_at=at),
        status=ApplicationStatus.APPROVED if approved else ApplicationStatus.DECLINED,
        decisions=decisions,
    )


def _weighted(chance: random.Random, options: tuple[tuple[Any, int], ...]) -> Any:
    return chance.choices([o for o, _ in options], weights=[w for _, w in options])[0]
