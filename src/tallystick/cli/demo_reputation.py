"""The demo's story of reputation: shared work, scores behind a consent, fading, a proof that waits for its judge."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tallystick.cli.demo_tries import WORKERS, Tries, at_once, won

if TYPE_CHECKING:
    from datetime import datetime

    from tallystick.app import Tallystick
    from tallystick.cli.output import Output
    from tallystick.domains.identity.consents import Consent
    from tallystick.domains.identity.users import User
    from tallystick.domains.reputation.beta import ReputationPolicy
    from tallystick.session import Session

INPUTS = 48
_HALF_LIFE = 30


@dataclass(slots=True, kw_only=True)
class Reputed(Tries):
    """What the story shows; all of it was read from the database."""

    standings: list[tuple[int, int]] = field(default_factory=list)


async def repute(tally: Tallystick, slug: str) -> Reputed:
    """Sixteen workers at one queue, sixteen scores of one set, a withdrawal, half-lives, a proof that nobody judged."""
    from tallystick.domains.identity.consents import Purpose
    from tallystick.domains.identity.users import User, UserStatus

    story = Reputed()
    async with tally.session(slug, actor="demo", permissions=["*"]) as db:
        ada = await db.users.add(User(first_name="Ada", status=UserStatus.ACTIVE))
        grant = await db.consents.grant(ada, Purpose.CREDIT_CHECK, policy_version="2026-1")
        inputs = await _work(tally, db, story, slug, ada)
        await _score(tally, db, story, slug, ada, grant, inputs)
        await _fade(db, story, ada)
        await _prove(tally, db, story, slug)
    return story


async def _work(tally: Tallystick, db: Session, story: Reputed, slug: str, ada: User) -> list[Any]:
    from tallystick.domains.reputation.inputs import BehaviorInput, InputSource, InputType

    begun = db.now() - timedelta(days=9)
    stored = await db.inputs.add_many(
        [
            BehaviorInput(
                user=ada.ref,
                type=list(InputType)[n % 4],
                source=InputSource.BLOCKCHAIN,
                external_id=f"demo-{n}",
                payload={"value": n},
                occurred_at=begun + timedelta(hours=n),
            )
            for n in range(INPUTS)
        ]
    )

    async def work(s: Session, _: int) -> list[str]:
        mine = []
        while claimed := [c async for c in s.inputs.claim(limit=4)]:
            for item in claimed:
                async with item:
                    mine.append(item.value.external_id)
        return mine

    shares = await at_once(tally, slug, work)
    done = Counter(name for share in shares if isinstance(share, list) for name in share)
    twice = sum(n > 1 for n in done.values())
    found = await db.inputs.analytics(user=ada)
    story.tell(
        f"{WORKERS} workers take {INPUTS} inputs from one queue",
        f"{found.processed} done, {twice} of them twice, {found.unprocessed} left",
        len(done) == found.processed == INPUTS and not twice,
    )
    return stored


async def _score(  # noqa: PLR0917
    tally: Tallystick, db: Session, story: Reputed, slug: str, ada: User, grant: Consent, inputs: list[Any]
) -> None:
    from tallystick.domains.identity.consents import Purpose
    from tallystick.domains.reputation.scores import Score
    from tallystick.errors import ConsentMissing

    async def score(s: Session, _: int) -> Any:
        return await s.scores.add(Score(user=ada.ref, value=712, model="m7"), consent=grant, inputs=inputs)

    kept = won(await at_once(tally, slug, score))
    stored = await db.scores.count(Score.user == ada.ref)
    story.tell(
        f"{WORKERS} workers score these inputs with one model",
        f"{stored} score stands: {kept[0].value} of 1000" if kept else "none stands",
        len(kept) == stored == 1,
    )
    await db.consents.withdraw(ada, Purpose.CREDIT_CHECK)
    try:
        await db.scores.add(Score(user=ada.ref, value=990, model="m8"), consent=grant)
        answer, good = "scored all the same", False
    except ConsentMissing as refused:
        answer, good = f"refused: {refused.problem}", True
    story.tell("score again, after the person took the consent back", answer, good)


async def _fade(db: Session, story: Reputed, ada: User) -> None:
    from tallystick.domains.reputation.beta import ReputationPolicy

    policy = ReputationPolicy(half_life_days=Decimal(_HALF_LIFE))
    begun = db.now()
    for _ in range(9):
        await db.reputation.observe(ada, good=True, at=begun)
    single = await db.reputation.standing(ada, as_of=begun, policy=policy)
    twin = await _twin(db, begun, policy)
    story.tell(
        "9 good experiences one by one, and as one batch",
        f"{single.score} and {twin}",
        single.score == twin,
    )
    for days in (0, _HALF_LIFE, 2 * _HALF_LIFE, 12 * _HALF_LIFE):
        found = await db.reputation.standing(ada, as_of=begun + timedelta(days=days), policy=policy)
        story.standings.append((days, found.score))


async def _twin(db: Session, begun: datetime, policy: ReputationPolicy) -> int:
    """The score of somebody with whom the same was experienced in a batch."""
    from tallystick.domains.identity.users import User, UserStatus

    kofi = await db.users.add(User(first_name="Kofi", status=UserStatus.ACTIVE))
    await db.reputation.observe(kofi, good=True, count=9, at=begun)
    return (await db.reputation.standing(kofi, as_of=begun, policy=policy)).score


async def _prove(tally: Tallystick, db: Session, story: Reputed, slug: str) -> None:
    from tallystick.domains.proofs.circuits import ProofProtocol, ProofType
    from tallystick.domains.proofs.proofs import ProofEvent, ProofEventKind, VerificationStatus
    from tallystick.domains.proofs.signals import BN254, Signal, SignalRole

    circuit = await db.circuits.register(
        "demo: income at least", ProofType.INCOME, signals=[Signal("nullifier", SignalRole.NULLIFIER)]
    )
    await db.circuits.add_key(circuit, b'{"vk_alpha_1": []}', ProofProtocol.GROTH16)
    asked = await db.proofs.request(circuit, scope="demo", purpose="loan application")

    await story.refused(
        "a nullifier of 7 + the circuit's modulus",
        lambda: db.proofs.receive(asked, b"proof", [str(7 + BN254)]),
    )

    async def answer(s: Session, _: int) -> Any:
        return await s.proofs.receive(asked.id, b"proof", ["7"])

    taken = len(won(await at_once(tally, slug, answer)))
    tried = f"{WORKERS} answers to one request for a proof"
    story.tell(tried, f"{taken} is taken in", taken == 1)
    await story.refused("have it judged where no verifier is installed", lambda: db.proofs.verify(asked.id))
    by_hand = ProofEvent(proof=asked.ref, kind=ProofEventKind.VERIFIED, verifier="me", attestation=bytes(32))
    await story.refused("mark it verified by hand", lambda: db[ProofEvent].add(by_hand))
    now = (await db.proofs.get(asked.id)).status
    if now is not VerificationStatus.RECEIVED:
        story.tell("the proof afterwards", now.value, False)


def document(story: Reputed) -> dict[str, Any]:
    """The story for programs."""
    return {
        "told": story.document(),
        "half_life_days": _HALF_LIFE,
        "standings": [{"days": days, "score": score} for days, score in story.standings],
        "held": story.held,
    }


def show(out: Output, story: Reputed) -> None:
    """The story for people."""
    story.show(out)
    series = ", ".join(f"{score} after {days} days" if days else f"{score} now" for days, score in story.standings)
    out.line(f"With a half-life of {_HALF_LIFE} days the reputation is {series}: the unknown stand at 500.")
