"""Reference cases of G and H that speak of reputation and proofs: 95, 97, 107, 108, and others of their kinds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from tests.proofs.support import BN254, circuit, request, shown
from tests.reputation.support import agreed

from tallystick import Beta, Invalid, ReputationEvidence, ReputationPolicy, Score, decayed
from tallystick.domains.reputation.beta import decayed_count
from tallystick.session import Session
from tallystick.testing import Make

DAY = datetime(2026, 3, 2, tzinfo=UTC)
MONTH = timedelta(days=30)
NEAR = Decimal("1e-8")


def test_case_95_half_life():
    assert decayed(Decimal(100), MONTH, MONTH) == 50
    assert decayed(Decimal(100), 2 * MONTH, MONTH) == 25
    assert (decayed_count(40, MONTH, MONTH), decayed_count(10, MONTH, MONTH)) == (20, 5)
    # Rounded and not cut off: half of 5 is 3, three quarters of a half-life leave 100 at 59.46.
    assert decayed_count(5, MONTH, MONTH) == 3
    assert decayed_count(3, MONTH, MONTH) == 2
    assert decayed_count(100, timedelta(days=22, hours=12), MONTH) == 59
    assert decayed_count(100, timedelta(days=15), MONTH) == 71
    assert abs(decayed(Decimal(100), timedelta(days=15), MONTH) - Decimal("70.71067811865475244")) < NEAR
    assert decayed(Decimal(100), timedelta(0), MONTH) == 100


@pytest.mark.parametrize("batch", ["4f 3s", "3s 3o", "4s 2u", "1f 4s 1o 3u", "1s", "7s", "2f 2s 2f", "50s 50f"])
@pytest.mark.parametrize("forgetting", ["1", "0.999", "0.95", "0.5"])
@pytest.mark.parametrize("weight", ["1", "0.25", "3"])
def test_case_97_a_batch_is_single_updates(batch: str, forgetting: str, weight: str):
    """s is a success and every other letter a failure, in the order in which a batch takes them."""
    factor, w = Decimal(forgetting), Decimal(weight)
    at_once = one_by_one = Beta(Decimal(1000), Decimal(0))
    for part in batch.split():
        count, good = int(part[:-1]), part[-1] == "s"
        at_once = at_once.after(good=good, count=count, weight=w, forgetting=factor)
        for _ in range(count):
            one_by_one = one_by_one.after(good=good, weight=w, forgetting=factor)
    assert abs(at_once.alpha - one_by_one.alpha) < NEAR
    assert abs(at_once.beta - one_by_one.beta) < NEAR


@pytest.mark.parametrize(("n", "forgetting"), [(1, "0.95"), (7, "0.95"), (40, "0.5"), (10, "1")])
def test_case_97_formula(n: int, forgetting: str):
    start, factor, w = Beta(Decimal(3), Decimal(2)), Decimal(forgetting), Decimal("1.5")
    found = start.after(good=True, count=n, weight=w, forgetting=factor)
    exact = Fraction(forgetting)
    kept = exact**n
    gained = Fraction("1.5") * (n if exact == 1 else (1 - kept) / (1 - exact))
    assert abs(Fraction(found.alpha) - (kept * 3 + gained)) < Fraction(1, 10**40)
    assert abs(Fraction(found.beta) - kept * 2) < Fraction(1, 10**40)


async def test_case_97_in_the_database(db: Session, make: Make):
    one, many = await make.user(), await make.user()
    policy = ReputationPolicy(forgetting=Decimal("0.97"), half_life_days=Decimal(30))
    for good, count in ((False, 4), (True, 3), (True, 3), (False, 3)):
        await db.reputation.observe(one, good=good, count=count, at=DAY)
        await db[ReputationEvidence].add_many(
            [ReputationEvidence(user=many.ref, good=good, observed_at=DAY) for _ in range(count)]
        )
    later = DAY + timedelta(days=11)
    a = await db.reputation.standing(one, as_of=later, policy=policy)
    b = await db.reputation.standing(many, as_of=later, policy=policy)
    assert a.evidence_count == b.evidence_count == 13
    assert abs(a.beta.alpha - b.beta.alpha) < NEAR
    assert abs(a.beta.beta - b.beta.beta) < NEAR


async def test_case_107_attributions_add_up(db: Session, make: Make):
    ada, consent = await agreed(db, make)

    def explained(*parts: str, base: str = "0.0", output: str = "4.0") -> Score:
        return Score(
            user=ada.ref,
            value=700,
            model="m7",
            base_value=Decimal(base),
            output_value=Decimal(output),
            shap={f"f{n}": Decimal(p) for n, p in enumerate(parts)},
        )

    kept = await db.scores.add(explained("1.5", "2.0", "0.5"), consent=consent)
    assert (await db.scores.get(kept.id)).shap == {"f0": Decimal("1.5"), "f1": Decimal("2.0"), "f2": Decimal("0.5")}
    await db.scores.add(explained("3.9999995"), consent=consent)
    await db.scores.add(explained("-1", "3", base="2"), consent=consent)
    for wrong in (explained("1.5", "2.0"), explained("3.999999"), explained(), explained("4", base="0.1")):
        with pytest.raises(Invalid):
            await db.scores.add(wrong, consent=consent)


async def test_case_108_a_nullifier_is_below_the_modulus(db: Session):
    what = await circuit(db)
    for number in (0, 1, 42, BN254 - 1):
        asked = await request(db, what)
        got = await db.proofs.receive(asked, b"proof", shown(asked, number))
        assert got.nullifier == number.to_bytes(32, "big")
    for number in (BN254, BN254 + 1, 42 + BN254, 2 * BN254 + 42, 2**256 - 1, 2**256 + 42):
        asked = await request(db, what)
        with pytest.raises(Invalid) as refused:
            await db.proofs.receive(asked, b"proof", shown(asked, number))
        assert refused.value.field == "public_signals"
