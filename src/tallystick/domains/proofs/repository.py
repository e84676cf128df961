"""Proofs: ask for one, take it in, have it judged, use it once."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallystick.domains.guarded import Guarded, alter, drop_where, put
from tallystick.domains.identity.consents import Purpose
from tallystick.domains.identity.users import UserLike, user_id
from tallystick.domains.named import id_of
from tallystick.domains.proofs.binding import check_shown, context_of, nullifier_of
from tallystick.domains.proofs.circuits import MANAGE, Circuit
from tallystick.domains.proofs.judging import judge
from tallystick.domains.proofs.proofs import Proof, ProofEvent, ProofEventKind, VerificationStatus
from tallystick.domains.proofs.signals import check_expected
from tallystick.errors import Conflict, Invalid, NotFound
from tallystick.fields import Ref
from tallystick.query import at_most, one_of

if TYPE_CHECKING:
    from tallystick.domains.proofs.verifier import Verifier

_S, _K = VerificationStatus, ProofEventKind
ANSWER_WITHIN, GOOD_FOR = timedelta(minutes=10), timedelta(hours=24)
"""How long a request is open, and its proof good, when nothing else is said."""
_LONGEST = timedelta(days=3650)
_MOST_BYTES = 1_000_000


class Proofs(Guarded[Proof]):
    """Proofs and the requests for them. Their status is moved by the database alone, whoever asks."""

    permission = MANAGE
    instead = "db.proofs.request(), receive(), verify(), consume() and revoke()"

    async def request(
        self,
        circuit: Circuit | str,
        *,
        scope: str,
        purpose: str,
        user: UserLike | None = None,
        expected: Mapping[str, int | str] | None = None,
        answer_within: timedelta = ANSWER_WITHIN,
        good_for: timedelta = GOOD_FOR,
    ) -> Proof:
        """Ask for one proof. The challenge and the context that binds the proof to it are made here, never outside.

        A request about a user takes their consent to ``Purpose.ZK_PROOF``. ``expected`` says what signals have to be,
        by name; ``scope`` is in what one person may prove once. Raises ``ConsentMissing``, ``NotFound`` for an unknown
        circuit or one without a key, ``Invalid``.
        """
        db = self.db
        found = await db.circuits.one(Circuit.name == circuit) if isinstance(circuit, str) else circuit
        if found.__class__ is not Circuit:
            raise Invalid("A circuit is named by itself or its name.", field="circuit", entity="Proof")
        for name, span in (("answer_within", answer_within), ("good_for", good_for)):
            if not isinstance(span, timedelta) or not timedelta(0) < span <= _LONGEST:
                raise Invalid(f"{name} is a timedelta above zero, up to ten years.", field=name, entity="Proof")
        for name, text in (("scope", scope), ("purpose", purpose)):
            if not isinstance(text, str) or not 1 <= len(text) <= 200 or not text.isprintable():
                raise Invalid(f"A {name} is 1 to 200 printable characters.", field=name, entity="Proof")
        wanted = check_expected(expected, found.signals, found.prime)
        who = None if user is None else user_id(user)
        challenge = secrets.token_bytes(32)
        now = db.now()
        async with db.transaction():
            consent = None if who is None else await db.consents.require(who, Purpose.ZK_PROOF)
            key = await db.circuits.newest_key(found)
            if key is None:
                raise NotFound(
                    "The circuit has no verifying key that is in use.",
                    entity="VerifyingKey",
                    remedy="Register one: db.circuits.add_key(circuit, document, protocol).",
                )
            made = Proof(
                circuit=found.ref,
                key=key.ref,
                modulus=found.modulus,
                user=None if who is None else Ref(who),
                consent=None if consent is None else consent.ref,
                purpose=purpose,
                scope=scope,
                challenge=challenge,
                context=context_of(db.tenant_id, found, challenge, scope, purpose, who, wanted),
                expected=wanted,
                answer_by=now + answer_within,
                expires_at=now + max(answer_within, good_for),
            )
            return await put(self, made)

    async def receive(
        self, request: Proof | UUID, proof: bytes, public_signals: Sequence[str], *, nullifier: int | None = None
    ) -> Proof:
        """Take in the proof that answers a request, once; it is checked for form and not yet for truth.

        Signals are decimal text, each below the circuit's modulus, in the circuit's order; those that the server fixed
        have to be what it fixed. ``nullifier`` is for circuits that show none among their signals. Raises ``Invalid``,
        ``Conflict`` for a request that was answered or is over, ``NotFound``, ``ConsentMissing``.
        """
        if proof.__class__ is not bytes or not 1 <= len(proof) <= _MOST_BYTES:
            raise Invalid("A proof is 1 to 1,000,000 bytes.", field="proof", entity="Proof")
        db = self.db
        async with db.transaction():
            found = await self.lock(id_of(request, Proof, "request"))
            if found.status is not _S.REQUESTED:
                raise Conflict("The request was answered already.", entity="Proof", rule="status", remedy="Ask again.")
            if found.expired(db.now()):
                raise Conflict("The request is over.", entity="Proof", rule="answer_by", remedy="Ask again.")
            circuit = await db.circuits.get(found.circuit.id)
            shown = check_shown(found, circuit, public_signals)
            taken = nullifier_of(circuit, shown, nullifier)
            await alter(self, found, proof=proof, public_signals=[str(n) for n in shown], nullifier=taken)
            return await self.get(found.id)

    async def verify(self, proof: Proof | UUID, *, verifier: Verifier | None = None) -> Proof:
        """Have a received proof judged by the verifier that is installed, or the one that is given.

        The check itself runs outside any transaction. What it finds is attested by the verifier, and the database
        takes it from nobody else. A proof whose nullifier was used in its scope before is rejected. When the check
        could not be made the proof is in ``error`` and may be tried again. Raises ``Unavailable`` without a verifier or
        when it cannot sign, ``Conflict`` for a proof that is not waiting for a verdict, ``Denied`` for an attestation
        that does not fit, ``Invalid``.
        """
        return await judge(self.db, id_of(proof, Proof, "proof"), verifier)

    async def consume(self, proof: Proof | UUID, *, reason: str, key: str | None = None) -> Proof:
        """Use a verified proof, for the one time that it can be used.

        A repetition with its ``key`` is answered with what was done (that needs the ledger domain, which remembers
        keys). Raises ``Conflict`` for a proof that is not verified, was used or revoked, or has expired.
        """
        from tallystick.domains.idempotency import idempotent

        id, why = id_of(proof, Proof, "proof"), _reason(reason)
        async with idempotent(self.db, "proofs.consume", key, (id, why)) as once:
            if once.replayed:
                return await self.get(id)
            once.results = (id,)
            return await self._end(id, _K.CONSUMED, why)

    async def revoke(self, proof: Proof | UUID, *, reason: str) -> Proof:
        """Take a verified proof back before it was used; its nullifier stays taken.

        Raises ``Conflict`` for a proof that is not verified, ``RoleMissing`` without "proofs.manage".
        """
        await self.db.require(MANAGE)
        id, why = id_of(proof, Proof, "proof"), _reason(reason)
        async with self.db.transaction():
            return await self._end(id, _K.REVOKED, why)

    async def events(self, proof: Proof | UUID) -> list[ProofEvent]:
        """What happened to a proof since it was received, in order."""
        return await self.db[ProofEvent].find(
            ProofEvent.proof == Ref(id_of(proof, Proof, "proof")), order=(ProofEvent.created_at, ProofEvent.id)
        )

    async def purge_unanswered(self) -> int:
        """Remove for good requests that were never answered and are over; answers how many."""
        over = at_most(Proof.answer_by, self.db.now())
        return await drop_where(self, one_of(Proof.status, [_S.REQUESTED]), over, reason="never answered")

    async def _end(self, id: UUID, kind: ProofEventKind, reason: str) -> Proof:
        found = await self.lock(id)
        if found.status is not _S.VERIFIED:
            raise Conflict(f"The proof is {found.status.value}.", entity="Proof", rule="status")
        if kind is _K.CONSUMED and found.expired(self.db.now()):
            raise Conflict("The proof has expired.", entity="Proof", rule="expires_at", remedy="Ask for a new one.")
        await put(self.db[ProofEvent], ProofEvent(proof=found.ref, kind=kind, reason=reason))
        return await self.get(id)


def _reason(given: Any) -> str:
    if not isinstance(given, str) or not given.strip():
        raise Invalid("It takes a reason.", field="reason", remedy="Say what it was used for: reason='loan 17'.")
    return given.strip()
