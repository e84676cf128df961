"""A proof and what happened to it: asked for by the server, received, judged by a verifier, used once or revoked."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from tallystick.domains.guarded import Guarded
from tallystick.domains.identity.consents import Consent
from tallystick.domains.identity.users import User
from tallystick.domains.proofs.circuits import MANAGE, Circuit, VerifyingKey
from tallystick.entity import Entity
from tallystick.fields import Length, Maintained, Once, Ref
from tallystick.rules import Check, Foreign, Guard, Index, Readable, Rules, Transitions, Unique, append_only


class VerificationStatus(StrEnum):
    """Where a proof is in its life. Only the database moves it; ``error`` means that it may be tried again.

    That a proof has expired is no status: it is judged whenever somebody looks.
    """

    REQUESTED = "requested"
    RECEIVED = "received"
    VERIFIED = "verified"
    REJECTED = "rejected"
    ERROR = "error"
    CONSUMED = "consumed"
    REVOKED = "revoked"


_S = VerificationStatus


class Proof(Entity):
    """A request for one proof, and the proof that answers it.

    The server chooses everything but the proof: ``scope`` (in which one person may prove once), ``challenge``,
    ``context`` (which binds the proof to this request) and what it expects signals to be. It takes an answer until
    ``answer_by``; the proof is good until ``expires_at``.
    """

    circuit: Annotated[Ref[Circuit], Once()]
    key: Annotated[Ref[VerifyingKey], Once()]
    modulus: Annotated[bytes, Once()]
    user: Annotated[Ref[User], Once()] | None = None
    consent: Annotated[Ref[Consent], Once()] | None = None
    purpose: Annotated[str, Length(200, min=1), Once()]
    scope: Annotated[str, Length(200, min=1), Once()]
    challenge: Annotated[bytes, Once()]
    context: Annotated[bytes, Once()]
    expected: Annotated[dict[str, str], Once()] = msgspec.field(default_factory=dict)
    answer_by: Annotated[datetime, Once()]
    expires_at: Annotated[datetime, Once()]
    status: Annotated[VerificationStatus, Maintained()] = VerificationStatus.REQUESTED
    proof: bytes | None = None
    public_signals: list[str] | None = None
    nullifier: bytes | None = None
    received_at: Annotated[datetime, Maintained()] | None = None

    rules = Rules(
        Unique("challenge"),
        # A proof that was only handed in takes no nullifier away from whoever it belongs to.
        Unique("circuit", "scope", "nullifier", where="status in ('verified', 'consumed', 'revoked')"),
        Index("user", "created_at", query="a user's proofs, newest first"),
        Index("status", "expires_at", query="proofs of a status: those to judge, those that expire"),
        Foreign("circuit", "modulus", to=Circuit, of=("id", "modulus")),
        Foreign("key", "circuit", to=VerifyingKey, of=("id", "circuit_id")),
        Check("challenge", "octet_length(challenge) = 32 and octet_length(context) = 32 and context < modulus"),
        Check("nullifier", "nullifier is null or (octet_length(nullifier) = 32 and nullifier < modulus)"),
        Check("proof_size", "proof is null or octet_length(proof) between 1 and 1000000"),
        Check("consent", "user_id is null or consent_id is not null"),
        Check("received", "(proof is null) = (received_at is null) and (proof is null) = (public_signals is null)"),
        Check("nullifier_of_proof", "nullifier is null or proof is not null"),
        Check("order", "answer_by <= expires_at"),
        Transitions(
            "status",
            {
                _S.REQUESTED: [_S.RECEIVED],
                _S.RECEIVED: [_S.VERIFIED, _S.REJECTED, _S.ERROR],
                _S.ERROR: [_S.VERIFIED, _S.REJECTED],
                _S.VERIFIED: [_S.CONSUMED, _S.REVOKED],
            },
            initial=[_S.REQUESTED],
        ),
        Guard("tally_asked", "BEFORE INSERT", "tally.proof_asked('zk_proof')"),
        Guard("tally_received", "BEFORE UPDATE", "tally.proof_received('zk_proof')"),
        table="zk_proof",
        retain="proofs",
        readable={
            "modulus": Readable.DIGEST,
            "purpose": Readable.CODE,
            "scope": Readable.CODE,
            "challenge": Readable.DIGEST,
            "context": Readable.DIGEST,
            "expected": Readable.TERMS,
            "proof": Readable.DIGEST,
            "public_signals": Readable.BY_ID,
            "nullifier": Readable.DIGEST,
        },
    )

    def expired(self, at: datetime) -> bool:
        """Whether the proof is no longer good at a moment, or the request no longer open."""
        return at >= (self.answer_by if self.status is _S.REQUESTED else self.expires_at)

    def good(self, at: datetime) -> bool:
        """Whether the proof is verified, neither used nor revoked, and has not expired."""
        return self.status is _S.VERIFIED and not self.expired(at)


class ProofEventKind(StrEnum):
    """What happened to a proof after it was received."""

    VERIFIED = "verified"
    REJECTED = "rejected"
    ERROR = "error"
    CONSUMED = "consumed"
    REVOKED = "revoked"


class ProofEvent(Entity):
    """One thing that happened to a received proof. Adding it is what moves the proof's status.

    A verdict carries the ``attestation`` of the verifier that reached it, which the database checks with that
    verifier's key; nobody without the key can add one.
    """

    proof: Ref[Proof]
    kind: ProofEventKind
    reason: Annotated[str, Length(500, min=1)] | None = None
    verifier: Annotated[str, Length(64, min=1)] | None = None
    attestation: bytes | None = None

    rules = Rules(
        append_only(),
        Index("proof", "created_at", query="what happened to a proof"),
        Unique("proof", where="kind in ('consumed', 'revoked')"),
        Check("reason", "kind = 'verified' or reason is not null"),
        Check("verdict", "(kind in ('consumed', 'revoked')) = (verifier is null)"),
        Check("attestation", "(verifier is null) = (attestation is null)"),
        Guard("tally_proof_event", "AFTER INSERT", "tally.proof_event('zk_proof_event')"),
        table="zk_proof_event",
        retain="proofs",
        readable={"reason": Readable.NOTE, "verifier": Readable.CODE, "attestation": Readable.DIGEST},
    )


class ProofEvents(Guarded[ProofEvent]):
    """What happened to proofs."""

    permission = MANAGE
    instead = "db.proofs.verify(), consume() and revoke()"
