"""Erasure: what goes, what stays and until when, what holds it, and what a crash or a backup cannot undo."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from tests.privacy.rights import Letter, Pledge, application, notice, person

from tallystick import (
    Conflict,
    ConsentMissing,
    Erased,
    Invalid,
    LegalBasis,
    NotFound,
    OnHold,
    Purpose,
    Ref,
    RoleMissing,
    Unsupported,
    User,
    UserStatus,
    secret,
    uuid7,
)
from tallystick.app import Tallystick
from tallystick.domains.identity.erasures import (
    ErasureGround,
    ErasureRequest,
    ErasureStatus,
    ErasureStep,
    RefusalGround,
    StepStatus,
)
from tallystick.domains.identity.holds import RestrictionGround
from tallystick.domains.identity.profiles import UserProfile
from tallystick.domains.rights.erasure import LedgerLine
from tallystick.domains.rights.masking import mask_into
from tallystick.domains.rights.policies import later
from tallystick.domains.rights.replay import replay_erasures, replay_tenant
from tallystick.privacy.cells import ERASED
from tallystick.privacy.keys import LocalKeys
from tallystick.schema.connect import acting_as_owner
from tallystick.session import Session


async def test_a_person_is_erased_and_the_answer_says_when_it_is_final(office: Session):
    ada, bob = await person(office), await person(office, "Bob")
    for user in (ada, bob):
        await office.consents.grant(user, Purpose.AI_ANALYSIS, policy_version="1")
    asked = await office.privacy.request_erasure(ada, ground=ErasureGround.CONSENT_WITHDRAWN)
    assert (await office.privacy.request_erasure(ada)).id == asked.id
    done = await office.privacy.erase(asked)
    assert done.kept == ()
    assert {"identity", "lending", "community"} <= set(done.erased)
    assert (done.keys, done.indexes, done.final_epoch) == (1, 2, 1)
    assert done.final == "when key epoch 1 ends"
    gone = await office.users.get(ada.id)
    assert (gone.email, gone.first_name, gone.phone, gone.status) == (None, None, None, UserStatus.ERASED)
    profile = await office.profiles.of_user(ada)
    assert profile is not None
    assert (profile.legal_name, profile.address) == (None, None)
    with pytest.raises(Erased):
        await office.profiles.reveal(profile.id, UserProfile.ssn, reason="a test")
    # Nothing can be found by what they were called, and the other is there as before.
    assert await office.users.by_email("ada@example.org") is None
    assert [p.user.id for p in await office.profiles.with_ssn("078-05-1120")] == [bob.id]
    assert (await office.users.get(bob.id)).first_name == "Bob"
    # Nothing is done with what is left of her behind the gate.
    with pytest.raises(ConsentMissing):
        await office.consents.require(ada, Purpose.AI_ANALYSIS)
    with pytest.raises(Erased):
        await office.consents.grant(ada, Purpose.AI_ANALYSIS, policy_version="2")
    await office.consents.require(bob, Purpose.AI_ANALYSIS)
    with pytest.raises(Erased):
        await office.users.update(gone, first_name="Again")
    with pytest.raises(Erased):
        await application(office, ada)
    with pytest.raises(Conflict):
        await office.privacy.erase(asked)
    with pytest.raises(Erased):
        await office.privacy.request_erasure(ada)
    kept = await office[ErasureRequest].get(asked.id)
    assert (kept.status, kept.final_epoch) == (ErasureStatus.EXECUTED, 1)


async def test_what_the_law_wants_is_kept_with_its_day_and_goes_then(office: Session, monkeypatch: pytest.MonkeyPatch):
    ada = await person(office)
    await application(office, ada)
    await office[Letter].add(Letter(author=ada.ref, about="my loan", leaflet="buy!"))
    asked = await office.privacy.request_erasure(ada)
    done = await office.privacy.erase(asked)
    assert {"identity", "marketing", "community"} <= set(done.erased)
    (kept,) = done.kept
    assert (kept.data_class, kept.until) == ("lending", later(office.now().date(), 25))
    assert "1002.12" in kept.citation
    (letter,) = await office[Letter].find()
    assert (letter.about, letter.leaflet) == ("my loan", None)
    assert (await office[ErasureRequest].get(asked.id)).status is ErasureStatus.PARTIAL
    assert (await office.users.get(ada.id)).status is UserStatus.ERASED
    # Nothing happens before the day, everything on it.
    again = await office.privacy.erase(asked)
    assert (again.erased, again.final) == ((), done.final)
    clock = office._app.clock
    day = office.now() + timedelta(days=800)
    monkeypatch.setattr(office._app, "clock", _Clock(day))
    lines = await office.privacy.explain()
    assert [(x.data_class, x.persons) for x in lines if x.action == "erase"] == [("lending", 1)]
    assert sum([b.persons async for b in office.privacy.sweep()]) == 1
    monkeypatch.setattr(office._app, "clock", clock)
    (letter,) = await office[Letter].find()
    assert letter.about == ERASED
    assert await office[Letter].count(Letter.about == "my loan") == 0
    assert (await office[ErasureRequest].get(asked.id)).status is ErasureStatus.EXECUTED
    steps = await office[ErasureStep].find(ErasureStep.request == asked.ref)
    assert {s.status for s in steps} == {StepStatus.ERASED}


class _Clock:
    def __init__(self, now: Any) -> None:
        self._now = now

    def now(self) -> Any:
        return self._now


async def test_rows_from_before_they_named_anybody_are_not_forgotten(office: Session):
    # An application without an account has a key of its own, which is what its row names.
    alone = await application(office, None)
    assert alone.full_legal_name == "Ada Lovelace"
    ada = await person(office)
    await office.privacy.erase(await office.privacy.request_erasure(ada))
    assert (await office.applications.get(alone.id)).full_legal_name == "Ada Lovelace"


async def test_indexes_of_rows_that_are_written_once_are_nulled_and_their_guard_stands(office: Session):
    await office.privacy.set_policy("lending", basis=LegalBasis.CONTRACT, reason="no minimum here")
    ada = await person(office)
    letter = await office[Letter].add(Letter(author=ada.ref, about="my loan"))
    app = office._app

    def index_of() -> Any:
        return office.unit.call("SELECT about_bidx FROM tally.letter WHERE tenant_id = $1", (office.tenant_id,))

    assert (await index_of())[0][0] is not None
    connection = await asyncpg.connect(app.admin_url)
    try:
        async with acting_as_owner(connection, app.settings.roles):
            await connection.execute("SELECT set_config('tally.tenant', $1, false)", str(office.tenant_id))

            async def refused(change: str) -> None:
                with pytest.raises(asyncpg.PostgresError, match="written once"):
                    async with connection.transaction():
                        await connection.execute(f"UPDATE tally.letter SET {change}")

            await refused("about_bidx = NULL")
            await office.privacy.erase(await office.privacy.request_erasure(ada))
            assert (await index_of())[0][0] is None
            await refused("about_bidx = NULL, about = about || '\\x00'")
            await refused("about_bidx = '\\x00'")
    finally:
        await connection.close()
    assert (await office[Letter].get(letter.id)).about == ERASED


async def test_a_legal_hold_stands_in_the_way_until_it_is_released(office: Session):
    ada = await person(office)
    asked = await office.privacy.request_erasure(ada)
    one = await office.privacy.hold(ada, matter="2026-114")
    assert (await office.privacy.hold(ada, matter="2026-114")).id == one.id
    two = await office.privacy.hold(ada, matter="2026-200")
    assert (await office[ErasureRequest].get(asked.id)).status is ErasureStatus.ON_HOLD
    with pytest.raises(OnHold) as held:
        await office.privacy.erase(asked)
    assert "release" in held.value.remedy
    await office.privacy.release(one)
    with pytest.raises(OnHold):
        await office.privacy.erase(asked)
    assert (await office.users.get(ada.id)).first_name == "Ada"
    await office.privacy.release(two)
    await office.privacy.release(two)
    assert (await office[ErasureRequest].get(asked.id)).status is ErasureStatus.REQUESTED
    assert "identity" in (await office.privacy.erase(asked)).erased
    with pytest.raises(Erased):
        await office.privacy.hold(ada, matter="2026-300")


async def test_a_request_is_refused_on_a_ground(office: Session):
    ada = await person(office)
    asked = await office.privacy.request_erasure(ada)
    refused = await office.privacy.refuse_erasure(asked, RefusalGround.LEGAL_CLAIMS)
    assert refused.status is ErasureStatus.REFUSED
    with pytest.raises(Conflict):
        await office.privacy.erase(asked)
    with pytest.raises(Invalid):
        await office.privacy.refuse_erasure(asked, "because")  # type: ignore[arg-type]
    assert (await office.privacy.request_erasure(ada)).id != asked.id


async def test_a_restricted_person_is_not_processed_behind_the_gate(office: Session):
    ada = await person(office)
    await office.consents.grant(ada, Purpose.CREDIT_CHECK, policy_version="1")
    await office.consents.require(ada, Purpose.CREDIT_CHECK)
    one = await office.privacy.restrict(ada, RestrictionGround.ACCURACY_CONTESTED)
    assert (await office.privacy.restrict(ada, RestrictionGround.UNLAWFUL)).id == one.id
    with pytest.raises(OnHold):
        await office.consents.require(ada, Purpose.CREDIT_CHECK)
    assert (await office.privacy.restriction(ada)) is not None
    await office.privacy.lift(ada)
    await office.consents.require(ada, Purpose.CREDIT_CHECK)
    with pytest.raises(NotFound):
        await office.privacy.lift(ada)


async def test_who_may(house: Tallystick, office: Session):
    ada = await person(office)
    await office.users.update(ada, status=UserStatus.ACTIVE)
    async with house.session(office.tenant, actor=f"user:{ada.id}") as db:
        asked = await db.privacy.request_erasure(ada)
        for refused in (
            db.privacy.erase(asked),
            db.privacy.hold(ada, matter="1"),
            db.privacy.restrict(ada, RestrictionGround.UNLAWFUL),
            db.privacy.set_policy("lending", basis=LegalBasis.CONTRACT, reason="mine"),
            db.privacy.refuse_erasure(asked, RefusalGround.UNFOUNDED),
            db.privacy.explain(),
        ):
            with pytest.raises(RoleMissing):
                await refused
    async with house.session(office.tenant, actor="nobody", permissions=()) as db:
        with pytest.raises(RoleMissing):
            await db.privacy.request_erasure(ada)
    async with office.transaction():
        with pytest.raises(Invalid):
            await office.privacy.erase(asked)


async def test_the_ledger_has_the_line_before_the_database_has_the_commit(
    office: Session, monkeypatch: pytest.MonkeyPatch
):
    ada = await person(office)
    asked = await office.privacy.request_erasure(ada)
    provider = office.sealer.keyring().provider

    def dies(*_: object) -> None:
        note(*_)  # type: ignore[arg-type]
        raise RuntimeError("the machine stops here")

    note = provider.note_erasure
    monkeypatch.setattr(type(provider), "note_erasure", lambda self, *a: dies(*a))
    with pytest.raises(RuntimeError):
        await office.privacy.erase(asked)
    monkeypatch.undo()
    assert (await office.users.get(ada.id)).first_name == "Ada"
    ((index,),) = await office.unit.call(
        "SELECT ssn_bidx FROM tally.user_profile WHERE tenant_id = $1", (office.tenant_id,)
    )
    assert len(provider.erasures(office.tenant_id)) == 1
    found = await replay_tenant(office)
    assert (found.lines, found.again, found.keys) == (1, 1, 1)
    assert (await office.users.get(ada.id)).first_name is None
    again = await replay_tenant(office)
    assert (again.again, again.keys) == (0, 0)
    # Where only some tables were restored, their indexes are back without any key.
    await office.unit.change(
        "UPDATE tally.user_profile SET ssn_bidx = $2 WHERE tenant_id = $1 RETURNING id", (office.tenant_id, index)
    )
    assert await office.profiles.with_ssn("078-05-1120") != []
    assert (await replay_tenant(office)).again == 1
    assert await office.profiles.with_ssn("078-05-1120") == []
    # What the database never heard of is still to be decided there, and finds nothing left to do.
    done = await office.privacy.erase(asked)
    assert done.keys == 0
    # A request that it never heard of is open again, with all that was erased for it by and by.
    bob, request = await person(office, "Bob"), uuid7()
    await application(office, bob)
    for name in ("identity", "marketing"):
        line = LedgerLine(at=office.now(), person=bob.id, subjects=[bob.id], classes=[name], request=request)
        provider.note_erasure(office.tenant_id, msgspec.json.encode(line))
    assert (await replay_tenant(office)).reopened == 1
    steps = await office[ErasureStep].find(ErasureStep.request == Ref(request))
    assert {s.data_class: s.status for s in steps} == dict.fromkeys(("identity", "marketing"), StepStatus.ERASED)


async def test_a_closed_tenants_erasures_are_replayed_too(
    house: Tallystick, office: Session, monkeypatch: pytest.MonkeyPatch
):
    ada = await person(office)
    asked = await office.privacy.request_erasure(ada)
    provider, note = office.sealer.keyring().provider, LocalKeys.note_erasure

    def dies(keys: LocalKeys, tenant: UUID, line: bytes) -> None:
        note(keys, tenant, line)
        raise RuntimeError("the machine stops here")

    monkeypatch.setattr(type(provider), "note_erasure", dies)
    with pytest.raises(RuntimeError):
        await office.privacy.erase(asked)
    monkeypatch.undo()
    await house.tenants.update(office, is_active=False)
    (found,) = [r for r in await replay_erasures(house) if r.tenant == office.tenant.slug]
    assert (found.lines, found.again, found.keys) == (1, 1, 1)
    assert (await office.users.get(ada.id)).first_name is None


async def test_nothing_is_written_about_an_erased_persons_rows_either(office: Session):
    # A notice has the key of its application, which there may not be yet when its applicant is erased.
    await office.privacy.set_policy("lending", basis=LegalBasis.CONTRACT, reason="no minimum here")
    ada = await person(office)
    made = await application(office, ada)
    await office.privacy.erase(await office.privacy.request_erasure(ada))
    with pytest.raises(Erased):
        await notice(office, made)


async def test_nobody_is_erased_by_halves(house: Tallystick, office: Session, tmp_path: Path):
    # An application that knows fewer entities than the database has neither their minimums nor their indexes.
    ada = await person(office)
    await application(office, ada)
    asked = await office.privacy.request_erasure(ada)
    async with Tallystick.open(settings=house.settings, keys=house.keys, domains=["identity"]) as less:
        async with less.session(office.tenant.slug, actor="t", permissions=("*",), reason="a test") as db:
            for refused in (
                db.privacy.erase(asked.id),
                db.privacy.explain(),
                anext(db.privacy.sweep()),
                replay_tenant(db),
                db.privacy.export(ada.id, tmp_path / "half", reason="a test"),
                db.privacy.export_tenant(tmp_path / "half", reason="a test"),
                mask_into(db, None, None, slug="x"),  # type: ignore[arg-type]
            ):
                with pytest.raises(Unsupported, match="application"):
                    await refused
    assert (await office.users.get(ada.id)).first_name == "Ada"
    assert not (tmp_path / "half").exists()


async def test_keys_without_a_folder_erase_nothing(db: Session):
    ada = await db.users.add(User(first_name="Ada"))
    asked = await db.privacy.request_erasure(ada)

    with pytest.raises(Unsupported, match="folder"):
        await db.privacy.erase(asked)
    assert (await db.users.get(ada.id)).first_name == "Ada"


async def test_joint_rows_lose_only_the_half_of_the_person(office: Session):
    ada, bob = await person(office), await person(office, "Bob")
    halves = [
        await office[Pledge].add(Pledge(who=u.ref, bond="7", passport=secret(p)))
        for u, p in ((ada, "C01X"), (bob, "C02Y"))
    ]
    await office.privacy.erase(await office.privacy.request_erasure(ada))
    with pytest.raises(Erased):
        await office[Pledge].reveal(halves[0].id, Pledge.passport, reason="a test")
    assert await office[Pledge].reveal(halves[1].id, Pledge.passport, reason="a test") == "C02Y"
    assert await office[Pledge].count(Pledge.bond == "7") == 2
