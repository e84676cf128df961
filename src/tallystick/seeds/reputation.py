"""What a few people did, what models made of it, how well they are thought of, and proofs that were asked for.

Moments are counted back from the present one; everything else is the same each time. No proof is verified: that takes
a verifier.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tallystick.domains.identity.consents import Purpose
from tallystick.domains.identity.users import User, UserRole, UserStatus
from tallystick.domains.proofs.circuits import ProofProtocol, ProofType
from tallystick.domains.proofs.signals import Signal, SignalRole
from tallystick.domains.reputation.analyses import AIAnalysis
from tallystick.domains.reputation.inputs import BehaviorInput, InputSource, InputType
from tallystick.domains.reputation.records import ScoringPeriod
from tallystick.domains.reputation.scores import Score, ScoringCategory
from tallystick.domains.reputation.sessions import BehaviorSession, SessionType
from tallystick.query import prefix
from tallystick.seeds import REPUTATIONS, Planted
from tallystick.seeds.people import FAMILY, FEMALE, MALE
from tallystick.seeds.users import address

if TYPE_CHECKING:
    from tallystick.session import Session

INPUTS = 12
_KEY: Final = "seed:"
_CIRCUIT: Final = "income at least"
_DAYS: Final = 60
Told = Callable[[int], None]


async def plant(db: Session, told: Told | None = None) -> Planted:
    """Plant people with their inputs, scores and reputation, unless they are there already."""
    slug = db.tenant.slug
    if await db.inputs.exists(prefix(BehaviorInput.external_id, _KEY)):
        return Planted(seed="reputation", tenant=slug, added=0, present=REPUTATIONS)
    async with db.transaction():
        begun = db.now() - timedelta(days=_DAYS)
        people = await db.users.add_many([_person(number, slug) for number in range(REPUTATIONS)])
        for number, person in enumerate(people):
            # One generator a person: number 7 is the same whether ten are made or a thousand.
            chance = random.Random(f"{slug}/reputation/{number}")  # noqa: S311  data, no secret
            await _behave(db, person, begun, chance)
            await _judge(db, person, begun, chance)
            if told is not None:
                told(1)
        await _prove(db, people)
    return Planted(seed="reputation", tenant=slug, added=REPUTATIONS, present=0)


def _person(number: int, slug: str) -> User:
    first, last = (MALE if number % 2 else FEMALE)[number], FAMILY[-1 - number]
    return User(
        email=address(first, f"{last}r{number}", slug),
        first_name=first,
        last_name=last,
        role=UserRole.BORROWER,
        status=UserStatus.ACTIVE,
        is_verified=True,
    )


async def _behave(db: Session, person: User, begun: datetime, chance: random.Random) -> None:
    visit = await db.behavior.add(
        BehaviorSession(user=person.ref, type=chance.choice(list(SessionType)), started_at=begun)
    )
    grant = await db.consents.grant(person, Purpose.CREDIT_CHECK, policy_version="2026-1")
    inputs = [
        await db.inputs.receive(
            BehaviorInput(
                user=person.ref,
                session=visit.ref if n < INPUTS // 2 else None,
                type=chance.choice(list(InputType)),
                source=chance.choice(list(InputSource)),
                external_id=f"{_KEY}{n}",
                payload={"value": chance.randrange(1000)},
                occurred_at=begun + timedelta(days=n * 4, minutes=chance.randrange(1000)),
            )
        )
        for n in range(INPUTS)
    ]
    worked = inputs[: INPUTS * 2 // 3]
    await db.inputs.mark_processed(worked)
    await db.scores.add(
        Score(
            user=person.ref,
            value=480 + chance.randrange(420),
            model="seed-1",
            confidence=Decimal(70 + chance.randrange(25)) / 100,
        ),
        consent=grant,
        inputs=worked,
    )
    await db.behavior.end(visit.id)


async def _judge(db: Session, person: User, begun: datetime, chance: random.Random) -> None:
    reliable = chance.randrange(55, 97)
    for week in range(8):
        at = begun + timedelta(weeks=week, hours=9)
        for category in (ScoringCategory.OVERALL, ScoringCategory.REPAYMENT):
            good = chance.randrange(100) < reliable
            await db.reputation.observe(person, category, good=good, count=1 + chance.randrange(4), at=at)
        await db.reputation.publish(person, period=ScoringPeriod.WEEKLY, at=at + timedelta(hours=1))
    grant = await db.consents.grant(person, Purpose.AI_ANALYSIS, policy_version="2026-1")
    await db.analyses.add(
        AIAnalysis(
            user=person.ref,
            model="seed-1",
            trust_score=_fraction(chance),
            openness=_fraction(chance),
            conscientiousness=_fraction(chance),
            extraversion=_fraction(chance),
            agreeableness=_fraction(chance),
            neuroticism=_fraction(chance),
        ),
        consent=grant,
    )


async def _prove(db: Session, people: list[User]) -> None:
    circuit = await db.circuits.register(
        _CIRCUIT, ProofType.INCOME, signals=[Signal("nullifier", SignalRole.NULLIFIER), Signal("threshold")]
    )
    await db.circuits.add_key(circuit, b'{"made up": "no proof holds under it"}', ProofProtocol.GROTH16)
    for number, person in enumerate(people[:3]):
        await db.consents.grant(person, Purpose.ZK_PROOF, policy_version="2026-1")
        asked = await db.proofs.request(
            circuit,
            scope="seed",
            purpose="loan application",
            user=person,
            expected={"threshold": 30_000},
            answer_within=timedelta(days=7),
            good_for=timedelta(days=30),
        )
        if number == 0:
            await db.proofs.receive(asked, b"made up", ["4711", "30000"])


def _fraction(chance: random.Random) -> Decimal:
    return Decimal(20 + chance.randrange(75)) / 100
