"""Proofs: asked for, received, judged by an enrolled verifier and nobody else, used once or revoked."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import pytest
from tests.proofs.support import (
    BN254,
    KEY,
    Believer,
    Circuit,
    Verifier,
    circuit,
    enrolled,
    received,
    request,
    shown,
    verified,
)

from tallystick import (
    Conflict,
    ConsentMissing,
    Denied,
    Duplicate,
    Invalid,
    InvalidTransition,
    NotFound,
    Proof,
    ProofEvent,
    ProofEventKind,
    ProofProtocol,
    ProofType,
    Purpose,
    RoleMissing,
    Signal,
    SignalRole,
    StillReferenced,
    Tallystick,
    TallystickError,
    Unavailable,
    VerificationStatus,
    VerifyingKey,
    one_of,
    uuid7,
)
from tallystick.domains.proofs.binding import context_of, scope_number
from tallystick.domains.proofs.signals import BLS12_381
from tallystick.domains.proofs.verifier import NoVerifier, Verdict
from tallystick.schema.verifiers import dismiss, enroll
from tallystick.session import Session
from tallystick.testing import Make, Sandbox

_S, _K = VerificationStatus, ProofEventKind
FIELDS = {
    "BLS12-381": BLS12_381,
    "BN254's base field": 21888242871839275222246405745257275088696311157297823662689037894645226208583,
    "BLS12-377": 8444461749428370424248824938781546531375899335154063827935233455917409239041,
    "Pallas": 0x40000000000000000000000000000000224698FC094CF91B992D30ED00000001,
    "secp256k1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    "Goldilocks": 2**64 - 2**32 + 1,
    "BabyBear": 15 * 2**27 + 1,
    "Stark": 2**251 + 17 * 2**192 + 1,
}
"""The primes of fields that proofs are made over, as their specifications print them."""


async def test_the_whole_life_of_a_proof(db: Session, tally: Tallystick, make: Make):
    verifier = await enrolled(tally)
    ada = await make.user()
    grant = await db.consents.grant(ada, Purpose.ZK_PROOF, policy_version="1")
    what = await circuit(db)
    asked = await request(db, what, user=ada)
    assert (asked.status, asked.consent, len(asked.challenge)) == (_S.REQUESTED, grant.ref, 32)
    given = (db.tenant_id, what, asked.challenge, asked.scope, asked.purpose, ada.id, asked.expected)
    assert asked.context == context_of(*given)
    assert not asked.expired(db.now())
    assert not asked.good(db.now())
    got = await db.proofs.receive(asked, b"good proof", shown(asked))
    assert (got.status, got.nullifier) == (_S.RECEIVED, (42).to_bytes(32, "big"))
    assert got.received_at is not None
    fine = await db.proofs.verify(got, verifier=verifier)
    assert fine.status is _S.VERIFIED
    assert fine.good(db.now())
    assert not fine.good(fine.expires_at)
    used = await db.proofs.consume(fine, reason="loan 17")
    assert used.status is _S.CONSUMED
    with pytest.raises(Conflict):
        await db.proofs.consume(fine, reason="loan 18")
    assert [(e.kind, e.reason, e.verifier) for e in await db.proofs.events(asked)] == [
        (_K.VERIFIED, None, "believer"),
        (_K.CONSUMED, "loan 17", None),
    ]
    claim = verifier.asked[0]  # type: ignore[attr-defined]
    assert (claim.circuit, claim.modulus, claim.public_signals[3]) == ("income-at-least", BN254, 50_000)


async def test_without_a_verifier_nothing_is_verified(db: Session):
    got = await received(db, await circuit(db))
    for verifier in (None, NoVerifier()):
        with pytest.raises(Unavailable):
            await db.proofs.verify(got, verifier=verifier)
    stranger = Believer("stranger")
    with pytest.raises(Unavailable):
        await db.proofs.verify(got, verifier=stranger)
    assert (await db.proofs.get(got.id)).status is _S.RECEIVED
    with pytest.raises(Unavailable):
        NoVerifier().attest(b"x")


async def test_the_verifier_of_the_application_judges(tally: Tallystick, tenant: str):
    verifier = await enrolled(tally)
    async with (
        Tallystick.open(settings=tally.settings, keys=tally.keys, verifier=verifier) as app,
        app.session(tenant, actor="test", permissions=["*"]) as db,
    ):
        got = await received(db, await circuit(db))
        assert (await db.proofs.verify(got)).status is _S.VERIFIED
        async with Sandbox(app) as sandbox, sandbox.session(tenant) as inside:
            assert inside.verifier is verifier
            with pytest.raises(Invalid):
                async with inside.transaction():
                    await inside.proofs.verify(got)


async def test_nobody_marks_a_proof_verified_by_hand(db: Session, tally: Tallystick, sandbox: Sandbox):
    verifier = await enrolled(tally)
    what = await circuit(db)
    got = await received(db, what)
    other = await verified(db, what, verifier, nullifier=7)
    (true,) = await db.proofs.events(other)
    with pytest.raises(Invalid):
        await db.proofs.update(got, status=_S.VERIFIED)
    for column, value in (
        ("status", "'verified'"),
        ("received_at", "now()"),
        ("expires_at", "'2999-01-01'"),
        ("scope", "'x'"),
    ):
        with pytest.raises(Denied):
            async with db.transaction():
                await db.unit.call(
                    f"UPDATE tally.zk_proof SET {column} = {value} WHERE tenant_id = $1 AND id = $2",
                    (db.tenant_id, got.id),
                )
    verdicts: list[dict[str, Any]] = [
        {"verifier": "believer", "attestation": b"\0" * 32},
        {"verifier": "believer", "attestation": b""},
        {"verifier": "believer", "attestation": true.attestation},
        {"verifier": "nobody", "attestation": true.attestation},
        {},
    ]
    for fields in verdicts:
        with pytest.raises((Denied, Unavailable, Invalid)):
            await db[ProofEvent].add(ProofEvent(proof=got.ref, kind=_K.VERIFIED, **fields))
    # The right name with another key.
    with pytest.raises(Denied):
        await db.proofs.verify(got, verifier=Believer("believer", bytes(range(2, 34))))
    for kind in (_K.CONSUMED, _K.REVOKED):
        with pytest.raises(Conflict):
            await db[ProofEvent].add(ProofEvent(proof=got.ref, kind=kind, reason="by hand"))
    assert (await db.proofs.get(got.id)).status is _S.RECEIVED
    assert await db[ProofEvent].count() == 1


async def test_an_attestation_is_of_one_proof_one_verdict_and_one_reason(db: Session, tally: Tallystick):
    verifier = await enrolled(tally)
    what = await circuit(db)
    got = await received(db, what, proof=b"bad proof")

    class Tamper(Believer):
        def __init__(self) -> None:
            super().__init__("believer", KEY)
            honest = self.attest
            self.attest = lambda said: honest(said.replace(b"rejected", b"verified"))

    with pytest.raises(Denied):
        await db.proofs.verify(got, verifier=Tamper())
    found = await db.proofs.verify(got, verifier=verifier)
    (event,) = await db.proofs.events(found)
    assert (found.status, event.reason) == (_S.REJECTED, "the pairing does not hold")
    with pytest.raises(Conflict):
        await db.proofs.verify(found, verifier=verifier)
    again = ProofEvent(proof=got.ref, kind=_K.VERIFIED, verifier="believer", attestation=event.attestation)
    with pytest.raises(Conflict):
        await db[ProofEvent].add(again)


async def test_a_check_that_could_not_be_made_can_be_tried_again(db: Session, tally: Tallystick):
    verifier = await enrolled(tally)
    what = await circuit(db)
    got = await received(db, what, proof=b"broken")
    for _ in range(2):
        got = await db.proofs.verify(got, verifier=verifier)
        assert got.status is _S.ERROR
    with pytest.raises(Conflict):
        await db.proofs.consume(got, reason="loan 17")

    class Mended(Believer):
        async def verify(self, claim: Any) -> Verdict:
            return Verdict(holds=True)

    found = await db.proofs.verify(got, verifier=Mended("believer"))
    assert found.status is _S.VERIFIED
    kinds = [e.kind for e in await db.proofs.events(found)]
    assert kinds == [_K.ERROR, _K.ERROR, _K.VERIFIED]

    class Vague(Believer):
        async def verify(self, claim: Any) -> Any:
            return True

    vague = await db.proofs.verify(await received(db, what, 8), verifier=Vague("believer"))
    assert vague.status is _S.ERROR


async def test_a_verifier_that_panics_or_cannot_sign_decides_nothing(db: Session, tally: Tallystick):
    honest = await enrolled(tally)
    got = await received(db, await circuit(db))

    class Panic(BaseException):
        """What a native library raises: no Exception."""

    class Panics(Believer):
        async def verify(self, claim: Any) -> Any:
            raise Panic("income 50000")

    failed = await db.proofs.verify(got, verifier=Panics("believer"))
    (event,) = await db.proofs.events(failed)
    assert (failed.status, event.reason) == (_S.ERROR, "the check could not be made (Panic)")

    class Speechless(Believer):
        def __init__(self) -> None:
            super().__init__("believer")
            self.attest = self.fail

        def fail(self, statement: bytes) -> bytes:
            raise RuntimeError("no key")

    with pytest.raises(Unavailable):
        await db.proofs.verify(got, verifier=Speechless())
    bad: list[Any] = [object(), "believer", Believer]
    for wrong in bad:
        with pytest.raises(Invalid) as refused:
            await db.proofs.verify(got, verifier=wrong)
        assert refused.value.field == "verifier"

    class Talkative(Believer):
        async def verify(self, claim: Any) -> Any:
            return Verdict(holds=False, reason="a\0b\n" + "x" * 600)

    told = await db.proofs.verify(got, verifier=Talkative("believer"))
    reason = (await db.proofs.events(told))[-1].reason
    assert told.status is _S.REJECTED
    assert reason is not None
    assert (reason[:4], len(reason)) == ("a b ", 500)
    assert len(await db.proofs.events(got)) == 2
    other = await received(db, await circuit(db, "another"))
    assert (await db.proofs.verify(other, verifier=honest)).status is _S.VERIFIED


async def test_what_was_written_past_the_operations_is_not_verified(db: Session, tally: Tallystick):
    """Whoever may write rows could leave the nullifier out, or take another: one proof would be good many times."""
    verifier = await enrolled(tally)
    what = await circuit(db)
    await verified(db, what, verifier)
    one = (42).to_bytes(32, "big")
    forged: list[dict[str, Any]] = [
        {"nullifier": None},
        {"nullifier": (43).to_bytes(32, "big")},
        {"nullifier": one, "threshold": "1"},
        {"nullifier": one, "threshold": str(50_000 + BN254)},
        {"nullifier": one, "threshold": "050000"},
        {"nullifier": one, "threshold": "a,b"},
        {"nullifier": one, "context": "7"},
        {"nullifier": one, "scope": str(scope_number("another", BN254))},
    ]
    for wrong in forged:
        asked = await request(db, what)
        signals = shown(asked)
        signals[1] = wrong.get("scope", signals[1])
        signals[2] = wrong.get("context", signals[2])
        signals[3] = wrong.get("threshold", signals[3])
        await db.proofs.update(asked, proof=b"good proof", public_signals=signals, nullifier=wrong["nullifier"])
        found = await db.proofs.verify(asked, verifier=verifier)
        (event,) = await db.proofs.events(asked)
        assert (found.status, event.reason) == (_S.REJECTED, "it does not show what its request asked for")
    assert len(verifier.asked) == 1  # type: ignore[attr-defined]

    # A request with the context of another one, so that the proof of that one would be good again.
    first = await request(db, what)
    twin = Proof(
        **{
            name: getattr(first, name)
            for name in (
                "circuit",
                "key",
                "modulus",
                "purpose",
                "scope",
                "context",
                "expected",
                "answer_by",
                "expires_at",
            )
        },
        challenge=bytes(32),
    )
    made = await db.proofs.add(twin)
    await db.proofs.receive(made, b"good proof", shown(first, 77))
    assert (await db.proofs.verify(made, verifier=verifier)).status is _S.REJECTED


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tally.zk_proof SET status = 'consumed' WHERE tenant_id = $1",
        "UPDATE tally.zk_proof_event SET kind = 'verified' WHERE tenant_id = $1",
        "UPDATE tally.zk_circuit SET modulus = modulus WHERE tenant_id = $1",
        "UPDATE tally.zk_verifying_key SET document = document WHERE tenant_id = $1",
        "DELETE FROM tally.zk_proof_event WHERE tenant_id = $1",
        "DELETE FROM tally.zk_circuit WHERE tenant_id = $1",
        "INSERT INTO tally.zk_proof (tenant_id, id, status) SELECT $1, gen_random_uuid(), 'verified'",
        "INSERT INTO tally.zk_proof (tenant_id, id, received_at) SELECT $1, gen_random_uuid(), now()",
        "INSERT INTO tally.zk_proof_event (tenant_id, id, proof_id, kind, verifier, attestation) SELECT $1, "
        "gen_random_uuid(), id, 'verified', 'believer', sha256('x') FROM tally.zk_proof WHERE tenant_id = $1",
    ],
)
async def test_sql_by_hand_moves_no_proof(db: Session, tally: Tallystick, statement: str):
    await enrolled(tally)
    got = await received(db, await circuit(db))
    with pytest.raises(Denied):
        async with db.transaction():
            await db.unit.call(statement, (db.tenant_id,))
    assert (await db.proofs.get(got.id)).status is _S.RECEIVED
    assert await db.proofs.events(got) == []


async def test_another_tenant_reaches_no_proof(db: Session, tally: Tallystick, sandbox: Sandbox):
    verifier = await enrolled(tally)
    what = await circuit(db)
    asked, fine = await request(db, what), await verified(db, what, verifier)
    slug = f"test-{uuid7().hex}"
    await sandbox.tally.tenants.create(slug, name="Another")
    async with sandbox.session(slug, actor="other", permissions=["*"]) as other:
        await circuit(other)
        for call in (
            lambda: other.proofs.request(what, scope="s", purpose="p"),
            lambda: other.proofs.receive(asked, b"good proof", shown(asked)),
            lambda: other.proofs.receive(asked.id, b"good proof", shown(asked)),
            lambda: other.proofs.verify(fine, verifier=verifier),
            lambda: other.proofs.consume(fine, reason="theirs"),
            lambda: other.proofs.revoke(fine.id, reason="theirs"),
        ):
            with pytest.raises(NotFound):
                await call()
        assert await other.proofs.events(fine) == []
        # The same nullifier and scope are free there.
        theirs = await db.proofs.get(fine.id)
        mine = await verified(other, await other.circuits.one(), verifier)
        assert mine.nullifier == theirs.nullifier
    assert (await db.proofs.get(fine.id)).status is _S.VERIFIED


async def test_a_dismissed_verifier_judges_no_more(db: Session, tally: Tallystick):
    verifier = await enrolled(tally, "passing")
    what = await circuit(db)
    await verified(db, what, verifier)
    await dismiss(tally.admin_url, "passing", roles=tally.settings.roles)
    with pytest.raises(Unavailable):
        await db.proofs.verify(await received(db, what, 8), verifier=verifier)
    with pytest.raises(NotFound):
        await dismiss(tally.admin_url, "passing", roles=tally.settings.roles)
    for name, key in (("Bad Name", KEY), ("", KEY), ("fine", b"short"), ("fine", b"\0" * 32)):
        with pytest.raises(Invalid):
            await enroll(tally.admin_url, name, key, roles=tally.settings.roles)


async def test_the_application_cannot_read_the_keys(db: Session):
    for statement in (
        "SELECT * FROM tally_sec.proof_verifier WHERE $1::uuid IS NOT NULL",
        "INSERT INTO tally_sec.proof_verifier SELECT 'x', 'x', 'x' WHERE $1::uuid IS NOT NULL",
    ):
        with pytest.raises(Denied):
            async with db.transaction():
                await db.unit.call(statement, (db.tenant_id,))


async def test_a_nullifier_is_used_once_in_its_scope(db: Session, tally: Tallystick):
    verifier = await enrolled(tally)
    what, another = await circuit(db), await circuit(db, "age-over")
    first, second = await received(db, what), await received(db, what)
    # Handing a proof in takes nothing away from whoever the nullifier belongs to.
    assert (await db.proofs.verify(first, verifier=verifier)).status is _S.VERIFIED
    assert (await db.proofs.verify(second, verifier=verifier)).status is _S.REJECTED
    (event,) = await db.proofs.events(second)
    assert event.reason == "the nullifier was used in this scope before"
    await verified(db, what, verifier, scope="another scope")
    await verified(db, another, verifier)
    await db.proofs.revoke(first, reason="the document was stolen")
    assert (await db.proofs.verify(await received(db, what), verifier=verifier)).status is _S.REJECTED
    # An upgrade of the circuit does not make old nullifiers new.
    await db.circuits.add_key(what, b"newer", ProofProtocol.GROTH16, version=2)
    newer = await received(db, what)
    assert newer.key != first.key
    assert (await db.proofs.verify(newer, verifier=verifier)).status is _S.REJECTED


async def test_the_database_refuses_a_nullifier_from_the_modulus_on(db: Session):
    """Case 108, past ``receive``: a row that is written by hand."""
    what = await circuit(db)
    for number in (BN254, BN254 + 42, 2**256 - 1):
        asked = await request(db, what)
        with pytest.raises(Invalid):
            await db.proofs.update(asked, proof=b"p", public_signals=shown(asked), nullifier=number.to_bytes(32, "big"))
        with pytest.raises(Invalid):
            await db.proofs.update(asked, proof=b"p", public_signals=shown(asked), nullifier=b"\1")
    big = await db.circuits.register(
        "bls", ProofType.OTHER, signals=[Signal("n", SignalRole.NULLIFIER)], modulus=BLS12_381
    )
    await db.circuits.add_key(big, b"vk", ProofProtocol.PLONK)
    fits = await db.proofs.request(big, scope="s", purpose="p")
    assert (await db.proofs.receive(fits, b"p", [str(BN254 + 42)])).nullifier == (BN254 + 42).to_bytes(32, "big")


async def test_a_request_is_answered_once_and_in_time(db: Session, tally: Tallystick):
    what = await circuit(db)
    asked = await request(db, what)
    await db.proofs.receive(asked, b"good proof", shown(asked))
    with pytest.raises(Conflict):
        await db.proofs.receive(asked, b"good proof", shown(asked))
    held = await db.proofs.get(asked.id)
    for changes in ({"proof": b"another"}, {"nullifier": None}, {"public_signals": ["1"]}):
        with pytest.raises(Conflict):
            async with db.transaction():
                await db.proofs.update(held, **changes)
    late = await request(db, what, answer_within=timedelta(microseconds=1), good_for=timedelta(microseconds=1))
    with pytest.raises(Conflict):
        await db.proofs.receive(late, b"good proof", shown(late))
    with pytest.raises(Conflict):
        async with db.transaction():
            await db.proofs.update(late, proof=b"p", public_signals=shown(late))
    assert late.expired(db.now())
    assert await db.proofs.purge_unanswered() == 1
    assert await db.proofs.count() == 1
    with pytest.raises(NotFound):
        await db.proofs.receive(late, b"good proof", shown(late))


async def _short_lived(db: Session, what: Circuit, verifier: Verifier) -> tuple[Proof, Proof]:
    """One that holds and one that was handed in, good for as short a time as this machine needs to come that far."""
    for seconds in (1, 4, 16):
        short = {name: timedelta(seconds=seconds) for name in ("answer_within", "good_for")}
        with contextlib.suppress(Conflict):
            one = await verified(db, what, verifier, seconds, **short)
            two = await received(db, what, seconds + 1, **short)
            if one.good(db.now()):
                return one, two
    raise AssertionError("sixteen seconds are not enough")


async def test_expiry_is_judged_when_somebody_looks(db: Session, tally: Tallystick):
    verifier = await enrolled(tally)
    what = await circuit(db)
    one, two = await _short_lived(db, what, verifier)
    await db.unit.call(
        "SELECT pg_sleep(greatest(0, extract(epoch FROM $1::timestamptz - clock_timestamp()) + 0.01))",
        (two.expires_at,),
    )
    assert not one.good(db.now())
    assert (await db.proofs.get(one.id)).status is _S.VERIFIED
    with pytest.raises(Conflict):
        await db.proofs.consume(one, reason="late")
    with pytest.raises(Conflict):
        await db[ProofEvent].add(ProofEvent(proof=one.ref, kind=_K.CONSUMED, reason="by hand, late"))
    with pytest.raises(Conflict):
        await db.proofs.verify(two, verifier=verifier)
    assert (await db.proofs.revoke(one, reason="swept")).status is _S.REVOKED


async def test_signals_are_what_the_server_asked_for(db: Session):
    what = await circuit(db)
    asked = await request(db, what)
    right = shown(asked)
    wrongs: list[Any] = [
        right[:3],
        [*right, "1"],
        "".join(right),
        None,
        [right[0], str(scope_number("another", BN254)), *right[2:]],
        [*right[:2], "7", right[3]],
        [*right[:3], "49999"],
        [*right[:3], str(50_000 + BN254)],
    ]
    wrongs += [[one, *right[1:]] for one in ("", "042", " 42", "+42", "-1", "4_2", "4\uff12", "0x2a", "1e3", 42, None)]
    for wrong in wrongs:
        with pytest.raises(Invalid):
            await db.proofs.receive(asked, b"good proof", wrong)
    for proof in (b"", "text", b"x" * 1_000_001):
        with pytest.raises(Invalid):
            await db.proofs.receive(asked, proof, right)  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        await db.proofs.receive(asked, b"good proof", right, nullifier=43)
    assert (await db.proofs.get(asked.id)).status is _S.REQUESTED
    bare = await db.circuits.register("bare", ProofType.OTHER)
    await db.circuits.add_key(bare, b"bare", ProofProtocol.STARK)
    for number in (-1, BN254, True, 1.0):
        again = await db.proofs.request(bare, scope="s", purpose="p")
        with pytest.raises(Invalid):
            await db.proofs.receive(again, b"p", [], nullifier=number)  # type: ignore[arg-type]
    assert (await db.proofs.receive(again, b"p", [], nullifier=5)).nullifier == (5).to_bytes(32, "big")


async def test_a_request_about_somebody_takes_their_consent(db: Session, tally: Tallystick, make: Make):
    what, ada, bob = await circuit(db), await make.user(), await make.user()
    with pytest.raises(ConsentMissing):
        await request(db, what, user=ada)
    await db.consents.grant(ada, Purpose.ZK_PROOF, policy_version="1")
    theirs = await db.consents.grant(bob, Purpose.ZK_PROOF, policy_version="1")
    asked = await request(db, what, user=ada)
    forged = Proof(
        **{
            name: getattr(asked, name)
            for name in ("circuit", "key", "modulus", "user", "purpose", "scope", "context", "answer_by", "expires_at")
        },
        consent=theirs.ref,
        challenge=bytes(32),
    )
    with pytest.raises(ConsentMissing):
        await db.proofs.add(forged)
    await db.consents.withdraw(ada, Purpose.ZK_PROOF)
    with pytest.raises(ConsentMissing):
        await db.proofs.receive(asked, b"good proof", shown(asked))
    with pytest.raises(ConsentMissing):
        async with db.transaction():
            await db.proofs.update(asked, proof=b"p", public_signals=["1"])


async def test_circuits_and_keys(db: Session, sandbox: Sandbox, tenant: str):
    what = await circuit(db)
    assert what.prime == BN254
    with pytest.raises(Duplicate):
        await circuit(db)
    key = await db.circuits.newest_key(what)
    assert key is not None
    assert await db.circuits.key(key.sha256) == key
    with pytest.raises(Duplicate):
        await db.circuits.add_key(what, key.document, ProofProtocol.GROTH16, version=3)
    with pytest.raises((Denied, Invalid)):
        async with db.transaction():
            await db[VerifyingKey].update(key, document=b"another")
    with pytest.raises(Invalid):
        await db[VerifyingKey].add(
            VerifyingKey(
                circuit=what.ref, circuit_version=9, protocol=ProofProtocol.PLONK, document=b"x", sha256=bytes(32)
            )
        )
    asked = await request(db, what)
    retired = await db.circuits.retire(key)
    assert await db.circuits.retire(retired) == retired
    with pytest.raises(NotFound):
        await request(db, what)
    with pytest.raises(Denied):
        async with db.transaction():
            await db.unit.call(
                "UPDATE tally.zk_verifying_key SET retired_at = NULL WHERE tenant_id = $1", (db.tenant_id,)
            )
    forged = Proof(
        **{
            name: getattr(asked, name)
            for name in ("circuit", "key", "modulus", "purpose", "scope", "context", "answer_by", "expires_at")
        },
        challenge=bytes(32),
    )
    with pytest.raises(Conflict):
        await db.proofs.add(forged)
    await db.proofs.receive(asked, b"good proof", shown(asked))
    async with sandbox.session(tenant, actor="clerk", permissions=()) as clerk:
        for call in (
            lambda: clerk.circuits.register("x", ProofType.AGE),
            lambda: clerk.circuits.add_key(what, b"y", ProofProtocol.GROTH16),
            lambda: clerk.circuits.retire(key),
            lambda: clerk.proofs.revoke(asked, reason="x"),
            lambda: clerk.proofs.add(forged),
            lambda: clerk[Proof].add(forged),
            lambda: clerk[VerifyingKey].add(key),
            lambda: clerk[ProofEvent].add(ProofEvent(proof=asked.ref, kind=_K.REVOKED, reason="x")),
        ):
            with pytest.raises(RoleMissing):
                await call()
    for wrong in (
        [Signal("a"), Signal("a")],
        [Signal("a", SignalRole.NULLIFIER), Signal("b", SignalRole.NULLIFIER)],
        [Signal("Bad Name")],
        ["a"],
    ):
        with pytest.raises(Invalid):
            await db.circuits.register("other", ProofType.AGE, signals=wrong)  # type: ignore[arg-type]
    for modulus in (0, 2, 4, -7, 2**255, BN254 - 2, 561, 2**256 - 1, 2**256, 97.0):
        with pytest.raises(Invalid):
            await db.circuits.register("other", ProofType.AGE, modulus=modulus)  # type: ignore[arg-type]
    bad: Any = None
    for refused in (
        lambda: db.circuits.add_key(what, b"", ProofProtocol.PLONK),
        lambda: db.circuits.add_key(bad, b"vk", ProofProtocol.PLONK),
        lambda: db.circuits.add_key("income", b"vk", ProofProtocol.PLONK),  # type: ignore[arg-type]
        lambda: db.circuits.newest_key(bad),
        lambda: db.circuits.retire(bad),
        lambda: db.circuits.register("other", ProofType.AGE, signals=7),  # type: ignore[arg-type]
        lambda: db.circuits.register("other", ProofType.AGE, signals=[Signal("a", "nullifier")]),  # type: ignore[arg-type]
    ):
        with pytest.raises(Invalid):
            await refused()
    for name, modulus in FIELDS.items():
        made = await db.circuits.register(
            name, ProofType.OTHER, signals=[Signal("n", SignalRole.NULLIFIER)], modulus=modulus
        )
        await db.circuits.add_key(made, name.encode(), ProofProtocol.HALO2)
        for number in (0, modulus - 1):
            open_ = await db.proofs.request(made, scope="s", purpose="p")
            assert (await db.proofs.receive(open_, b"p", [str(number)])).nullifier == number.to_bytes(32, "big")
        for number in (modulus, modulus + 1, 2 * modulus - 1):
            open_ = await db.proofs.request(made, scope="s", purpose="p")
            with pytest.raises(Invalid):
                await db.proofs.receive(open_, b"p", [str(number)])


async def test_bad_requests_are_refused(db: Session):
    what = await circuit(db)
    for wrong in (
        {"scope": ""},
        {"scope": "x" * 201},
        {"scope": "a\nb"},
        {"purpose": 7},
        {"answer_within": timedelta(0)},
        {"good_for": timedelta(days=9999)},
        {"good_for": 60},
        {"expected": [1]},
        {"expected": "threshold"},
        {"expected": {"threshold": True}},
        {"expected": {"nobody": 1}},
        {"expected": {"nullifier": 1}},
        {"expected": {"threshold": -1}},
        {"expected": {"threshold": BN254}},
        {"expected": {"threshold": 1.5}},
        {"user": "ada"},
    ):
        with pytest.raises(Invalid):
            await request(db, what, **wrong)
    with pytest.raises(NotFound):
        await db.proofs.request("no such circuit", scope="s", purpose="p")
    bad: Any = 7
    for call in (
        lambda: db.proofs.request(bad, scope="s", purpose="p"),
        lambda: db.proofs.receive(bad, b"p", []),
        lambda: db.proofs.verify(bad, verifier=Believer("believer")),
        lambda: db.proofs.consume(bad, reason="x"),
        lambda: db.proofs.consume(uuid7(), reason=" "),
        lambda: db.proofs.events(bad),
    ):
        with pytest.raises(Invalid):
            await call()
    with pytest.raises(NotFound):
        await db.proofs.consume(uuid7(), reason="x")
    assert await db.proofs.count() == 0


async def test_what_was_judged_is_never_removed(db: Session, tally: Tallystick):
    verifier = await enrolled(tally)
    what = await circuit(db)
    fine = await verified(db, what, verifier)
    with pytest.raises(StillReferenced):
        async with db.transaction():
            await db.proofs.purge(fine, reason="hide it")
    with pytest.raises(TallystickError):
        async with db.transaction():
            await db.proofs.purge_where(one_of(Proof.status, [_S.VERIFIED]), reason="hide it")
    with pytest.raises((InvalidTransition, Denied, Conflict)):
        async with db.transaction():
            await db.unit.call(
                "UPDATE tally.zk_proof SET proof = NULL, public_signals = NULL, nullifier = NULL WHERE tenant_id = $1",
                (db.tenant_id,),
            )


async def test_a_repeated_consumption_is_answered_by_its_key(db: Session, tally: Tallystick):
    verifier = await enrolled(tally)
    fine = await verified(db, await circuit(db), verifier)
    used = await db.proofs.consume(fine, reason="loan 17", key="k")
    assert await db.proofs.consume(fine, reason="loan 17", key="k") == used
    with pytest.raises(Conflict):
        await db.proofs.consume(fine, reason="loan 17", key="another")
    with pytest.raises(Conflict):
        await db.proofs.consume(fine, reason="loan 18", key="k")
