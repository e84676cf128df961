"""What binds a proof to its request: the context, the scope, and the signals that are not the prover's choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tallystick.domains.proofs.signals import Signal, SignalRole, nullifier_bytes, number
from tallystick.errors import Invalid

if TYPE_CHECKING:
    from tallystick.domains.proofs.circuits import Circuit
    from tallystick.domains.proofs.proofs import Proof


def context_of(  # noqa: PLR0917
    tenant: UUID,
    circuit: Circuit,
    challenge: bytes,
    scope: str,
    purpose: str,
    user: UUID | None,
    expected: Mapping[str, str],
) -> bytes:
    """What binds a proof to its request: the SHA-256 of everything that was asked, modulo the circuit's prime."""
    asked = (str(tenant), str(circuit.id), challenge.hex(), scope, purpose, str(user), dict(expected))
    digest = sha256(b"tallystick proof request 1\0" + msgspec.json.encode(asked, order="sorted")).digest()
    return (int.from_bytes(digest, "big") % circuit.prime).to_bytes(32, "big")


def scope_number(scope: str, prime: int) -> int:
    """A scope as the number that a circuit takes: the SHA-256 of its text, modulo the prime."""
    digest = sha256(b"tallystick proof scope 1\0" + scope.encode()).digest()
    return int.from_bytes(digest, "big") % prime


def check_shown(request: Proof, circuit: Circuit, given: Sequence[str]) -> list[int]:
    """The public signals as numbers. Raises ``Invalid`` unless each is what the server expects, where it does."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence) or len(given) != len(circuit.signals):
        raise Invalid(f"The circuit has {len(circuit.signals)} public signals.", field="public_signals", entity="Proof")
    shown = [number(text, circuit.prime) for text in given]
    fixed = {
        SignalRole.SCOPE: str(scope_number(request.scope, circuit.prime)),
        SignalRole.CONTEXT: str(int.from_bytes(request.context, "big")),
    }
    for signal, value in zip(circuit.signals, shown, strict=True):
        wanted = fixed.get(signal.role, request.expected.get(signal.name))
        if wanted is not None and str(value) != wanted:
            raise Invalid(
                f"The signal {signal.name} is not what was asked for.",
                field="public_signals",
                entity="Proof",
                remedy="Prove the request as it was made; its values are not the prover's choice.",
            )
    return shown


def nullifier_of(circuit: Circuit, shown: Sequence[int], given: int | None) -> bytes | None:
    """The nullifier of a proof: the one among its signals, or the given one of a circuit that shows none there.

    Raises ``Invalid`` when both are there and differ.
    """
    at = _place(circuit.signals, SignalRole.NULLIFIER)
    if at is not None and given is not None and given != shown[at]:
        raise Invalid("The nullifier is not the one among the signals.", field="nullifier", entity="Proof")
    value = given if at is None else shown[at]
    return None if value is None else nullifier_bytes(value, circuit.prime)


def bound(tenant: UUID, proof: Proof, circuit: Circuit) -> bool:
    """Whether a received proof shows what its request asked for, and takes the nullifier that it shows.

    Whoever may write rows by hand can go past ``request`` and ``receive``, but not past this, which is asked before a
    verdict is signed.
    """
    who = None if proof.user is None else proof.user.id
    asked = context_of(tenant, circuit, proof.challenge, proof.scope, proof.purpose, who, proof.expected)
    try:
        shown = check_shown(proof, circuit, proof.public_signals or [])
        given = None if proof.nullifier is None else int.from_bytes(proof.nullifier, "big")
        return proof.context == asked and proof.nullifier == nullifier_of(circuit, shown, given)
    except Invalid:
        return False


def _place(signals: Sequence[Signal], role: SignalRole) -> int | None:
    return next((n for n, s in enumerate(signals) if s.role is role), None)
