"""The verdict on a received proof: cheap checks, the verifier's own, its attestation, one event."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

from tallystick.domains.guarded import put
from tallystick.domains.proofs.binding import bound
from tallystick.domains.proofs.circuits import Circuit, VerifyingKey
from tallystick.domains.proofs.proofs import Proof, ProofEvent, ProofEventKind, VerificationStatus
from tallystick.domains.proofs.signals import number
from tallystick.domains.proofs.verifier import Claim, Verdict, Verifier, check_verifier, no_verifier, statement
from tallystick.errors import Conflict, Duplicate, Invalid, TallystickError, Unavailable
from tallystick.fields import Ref

if TYPE_CHECKING:
    from tallystick.session import Session

_WAITING = (VerificationStatus.RECEIVED, VerificationStatus.ERROR)
_K = ProofEventKind
UNASKED = "it does not show what its request asked for"
USED = "the nullifier was used in this scope before"


async def judge(db: Session, id: UUID, given: Verifier | None) -> Proof:
    """See ``Proofs.verify``."""
    if given is None and db.verifier is None:
        raise no_verifier()
    verifier = check_verifier(db.verifier if given is None else given)
    if db.unit.depth:
        raise Invalid("A proof is not checked in a transaction.", remedy="Call verify() outside: a check takes time.")
    found = await db.proofs.get(id)
    _check_waiting(db, found)
    key = await db[VerifyingKey].get(found.key.id)
    circuit = await db.circuits.get(found.circuit.id)
    if bound(db.tenant_id, found, circuit):
        kind, reason = await _ask(verifier, _claim(db, found, key, circuit))
    else:
        kind, reason = _K.REJECTED, UNASKED
    try:
        return await _write(db, found, key, verifier, kind, reason)
    except Duplicate:
        # Only a verified proof takes its nullifier, so this one came second.
        return await _write(db, found, key, verifier, _K.REJECTED, USED)


async def _ask(verifier: Verifier, claim: Claim) -> tuple[ProofEventKind, str | None]:
    try:
        verdict = await verifier.verify(claim)
    except (Unavailable, asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit):
        # Nothing was checked and nobody would sign that: the proof stays as it is.
        raise
    except BaseException as error:  # What panics in native code is no Exception.
        return _K.ERROR, f"the check could not be made ({type(error).__name__})"
    if verdict.__class__ is not Verdict or verdict.holds.__class__ is not bool:
        return _K.ERROR, "the verifier gave no verdict"
    reason = None if verdict.reason is None else _printable(verdict.reason)
    if verdict.holds:
        return _K.VERIFIED, reason
    return _K.REJECTED, reason or "the proof does not hold"


def _printable(reason: object) -> str | None:
    text = "".join(c if c.isprintable() else " " for c in str(reason))
    return text.strip()[:500].strip() or None


async def _write(  # noqa: PLR0917
    db: Session, proof: Proof, key: VerifyingKey, verifier: Verifier, kind: ProofEventKind, reason: str | None
) -> Proof:
    said = statement(db.tenant_id, proof, key.sha256, kind.value, reason)
    try:
        signed = verifier.attest(said)
    except TallystickError:
        raise
    except Exception as error:
        raise Unavailable(
            f"The verifier could not sign its verdict ({type(error).__name__}).",
            remedy="Nothing was written; mend its attest() and verify again.",
        ) from None
    async with db.transaction():
        _check_waiting(db, await db.proofs.lock(proof.id))
        event = ProofEvent(proof=Ref(proof.id), kind=kind, reason=reason, verifier=verifier.name, attestation=signed)
        await put(db[ProofEvent], event)
    return await db.proofs.get(proof.id)


def _check_waiting(db: Session, proof: Proof) -> None:
    if proof.status not in _WAITING:
        raise Conflict(f"The proof is {proof.status.value} and waits for no verdict.", entity="Proof", rule="status")
    if proof.expired(db.now()):
        raise Conflict("The proof has expired.", entity="Proof", rule="expires_at", remedy="Ask for a new one.")


def _claim(db: Session, proof: Proof, key: VerifyingKey, circuit: Circuit) -> Claim:
    assert proof.proof is not None
    assert proof.public_signals is not None
    return Claim(
        tenant=db.tenant_id,
        proof_id=proof.id,
        circuit=circuit.name,
        circuit_version=key.circuit_version,
        protocol=key.protocol,
        modulus=circuit.prime,
        key=key.document,
        proof=proof.proof,
        public_signals=tuple(number(text, circuit.prime) for text in proof.public_signals),
    )
