"""A circuit, requests of it, and a verifier that believes what begins with "good"."""

from __future__ import annotations

from typing import Any

from tallystick import (
    Attestor,
    Circuit,
    Proof,
    ProofProtocol,
    ProofType,
    Signal,
    SignalRole,
    Tallystick,
    Verdict,
    VerificationStatus,
    Verifier,
)
from tallystick.domains.proofs.binding import scope_number
from tallystick.domains.proofs.signals import BN254
from tallystick.domains.proofs.verifier import Claim
from tallystick.schema.verifiers import enroll
from tallystick.session import Session

KEY = bytes(range(1, 33))
SIGNALS = [
    Signal("nullifier", SignalRole.NULLIFIER),
    Signal("scope", SignalRole.SCOPE),
    Signal("context", SignalRole.CONTEXT),
    Signal("threshold"),
]

__all__ = ["BN254", "KEY", "SIGNALS", "Believer", "circuit", "enrolled", "received", "request", "shown", "verified"]


class Believer:
    """Stands in for a pairing check, which comes with the verifiers: good proofs hold, broken ones raise."""

    def __init__(self, name: str, key: bytes = KEY) -> None:
        self.name = name
        self.attest = Attestor(key).attest
        self.asked: list[Claim] = []

    async def verify(self, claim: Claim) -> Verdict:
        self.asked.append(claim)
        if claim.proof.startswith(b"broken"):
            raise RuntimeError("the pairing library fell over")
        good = claim.proof.startswith(b"good")
        return Verdict(holds=good, reason=None if good else "the pairing does not hold")


async def enrolled(tally: Tallystick, name: str = "believer") -> Verifier:
    """The verifier, whose key the database knows."""
    await enroll(tally.admin_url, name, KEY, roles=tally.settings.roles)
    return Believer(name)


async def circuit(db: Session, name: str = "income-at-least") -> Circuit:
    """A circuit with a key."""
    made = await db.circuits.register(name, ProofType.INCOME, signals=SIGNALS)
    await db.circuits.add_key(made, b'{"vk": "' + name.encode() + b'"}', ProofProtocol.GROTH16, ceremony="test setup")
    return made


async def request(db: Session, what: Circuit, **given: Any) -> Proof:
    """A request for a proof of an income."""
    wanted: dict[str, Any] = {"scope": "loan-2026", "purpose": "loan application", "expected": {"threshold": 50_000}}
    return await db.proofs.request(what, **(wanted | given))


def shown(asked: Proof, nullifier: int = 42) -> list[str]:
    """The public signals of a proof that answers a request."""
    prime = int.from_bytes(asked.modulus, "big")
    context = int.from_bytes(asked.context, "big")
    return [str(nullifier), str(scope_number(asked.scope, prime)), str(context), asked.expected["threshold"]]


async def received(
    db: Session, what: Circuit, nullifier: int = 42, proof: bytes = b"good proof", **given: Any
) -> Proof:
    """A proof that was handed in."""
    asked = await request(db, what, **given)
    return await db.proofs.receive(asked, proof, shown(asked, nullifier))


async def verified(db: Session, what: Circuit, verifier: Verifier, nullifier: int = 42, **given: Any) -> Proof:
    """A proof that holds."""
    found = await db.proofs.verify(await received(db, what, nullifier, **given), verifier=verifier)
    assert found.status is VerificationStatus.VERIFIED
    return found
