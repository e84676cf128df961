"""Verifiers: who checks proofs, and the attestation by which the database knows that it was them."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import msgspec

from tallystick.domains.proofs.circuits import ProofProtocol
from tallystick.errors import Invalid, Unavailable
from tallystick.privacy.tenant_key import checked

if TYPE_CHECKING:
    from tallystick.domains.proofs.proofs import Proof


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a verifier is asked: whether this proof of these public signals holds under this key."""

    tenant: UUID
    proof_id: UUID
    circuit: str
    circuit_version: int
    protocol: ProofProtocol
    modulus: int
    key: bytes
    proof: bytes
    public_signals: tuple[int, ...]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a verifier found: the proof holds, or it does not and why. A check that could not be made is an error."""

    holds: bool
    reason: str | None = None


class Verifier(Protocol):
    """Checks proofs and signs what it found. ``name`` is the one it was enrolled under with ``enroll``."""

    @property
    def name(self) -> str:
        """The name under which the database knows its key."""
        ...

    async def verify(self, claim: Claim) -> Verdict:
        """Check one proof. Raise to say that it could not be checked: the proof can be tried again."""
        ...

    def attest(self, statement: bytes) -> bytes:
        """HMAC-SHA-256 of a statement under the verifier's key; see ``Attestor``."""
        ...


class Attestor:
    """Signs verdicts with the key that a verifier was enrolled with; the ``attest`` of a verifier of your own."""

    __slots__ = ("attest",)

    def __init__(self, key: bytes) -> None:
        checked(key)

        # A closure, so that the key is no attribute that a printer, a logger or a pickler would meet.
        def attest(statement: bytes) -> bytes:
            return hmac.new(key, statement, hashlib.sha256).digest()

        self.attest = attest


class NoVerifier:
    """Stands where no verifier is installed: it checks nothing and says so."""

    name = "none"

    async def verify(self, claim: Claim) -> Verdict:
        """Raise ``Unavailable``."""
        raise no_verifier()

    def attest(self, statement: bytes) -> bytes:
        """Raise ``Unavailable``."""
        raise no_verifier()


def check_verifier(given: Any) -> Verifier:
    """The verifier itself. Raises ``Invalid`` for what has not a name, a ``verify`` and an ``attest``."""
    able = callable(getattr(given, "verify", None)) and callable(getattr(given, "attest", None))
    if not able or not isinstance(getattr(given, "name", None), str):
        raise Invalid(
            "A verifier has a name, verify(claim) and attest(statement).",
            field="verifier",
            remedy="See tallystick.Verifier; attest is Attestor(key).attest.",
        )
    found: Verifier = given
    return found


def no_verifier() -> Unavailable:
    """The error of a proof that nobody here can check."""
    return Unavailable(
        "No verifier of proofs is installed.",
        remedy="Enroll one with tallystick.schema.verifiers.enroll(...), and open with verifier=.",
    )


def statement(tenant: UUID, proof: Proof, key_hash: bytes, kind: str, reason: str | None) -> bytes:
    """What a verifier signs: the proof, the key, the signals, the nullifier and the verdict, each exactly once.

    The database puts the same text together from its own rows, so a signature fits nothing but what was checked.
    """
    signals = ",".join(proof.public_signals or [])
    parts = (
        "tallystick verdict 1",
        str(tenant),
        str(proof.id),
        key_hash.hex(),
        hashlib.sha256(proof.proof or b"").hexdigest(),
        hashlib.sha256(signals.encode()).hexdigest(),
        "" if proof.nullifier is None else proof.nullifier.hex(),
        kind,
        reason or "",
    )
    return "|".join(parts).encode()
