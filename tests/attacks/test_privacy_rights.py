"""Erasure against what would bring a person back: backups, shared rows, classes, the audit log; consent in use.

Named after the rows of the table of attacks on encryption (E8, E10, E11), and of logs, logins and consent.
"""

from __future__ import annotations

import asyncio
import os
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.lending.support import active, audit, product
from tests.privacy.rights import ENTITIES, Letter, Pledge, application, person

from tallystick import (
    AIAnalysis,
    ConsentMissing,
    Erased,
    LegalBasis,
    OnHold,
    Purpose,
    Serialization,
    Tampered,
    UserStatus,
    Wallet,
    secret,
)
from tallystick.app import Tallystick
from tallystick.domains.identity.holds import RestrictionGround
from tallystick.domains.identity.profiles import UserProfile
from tallystick.domains.lending.loans import Loan
from tallystick.domains.reputation import analyses
from tallystick.domains.rights.replay import replay_erasures
from tallystick.privacy import rotation
from tallystick.privacy.cells import ERASED
from tallystick.privacy.keys import LocalKeys
from tallystick.session import Session
from tallystick.settings import Settings
from tallystick.testing import KitServer


def opened(server: KitServer, database: str, keys: Any) -> Tallystick:
    settings = Settings.load(
        {},
        database_url=server.url("app", database),
        admin_url=server.url("admin", database),
        role_prefix=server.roles.prefix,
        pool_max=4,
    )
    return Tallystick.open(settings=settings, entities=ENTITIES, keys=keys)


async def test_e8_a_restored_backup_resurrects_nobody(tally_server: KitServer, tmp_path: Path):
    template = await tally_server.template(None, ENTITIES, ())
    database = await tally_server.clone(template, "_e8")
    root, folder, slug = os.urandom(32), tmp_path / "keys", f"e8-{uuid4().hex}"
    async with opened(tally_server, database, LocalKeys(root, folder=folder)) as tally:
        await tally.tenants.create(slug, name="A tenant")
        async with tally.session(slug, actor="t", permissions=("*",)) as db:
            ada, bob = await person(db), await person(db, "Bob")
            await application(db, ada)
    backup = await tally_server.clone(database, "_e8_backup")
    second = await tally_server.clone(database, "_e8_second")
    async with opened(tally_server, database, LocalKeys(root, folder=folder)) as tally:
        async with tally.session(slug, actor="t", permissions=("*",)) as db:
            done = await db.privacy.erase(await db.privacy.request_erasure(ada))
            assert done.final == "when key epoch 1 ends"
            assert [k.data_class for k in done.kept] == ["lending"]
            tenant = db.tenant_id
    await tally_server.drop(database)

    # The restored database has the key that was destroyed; the ledger is outside it, and is replayed first.
    async with opened(tally_server, backup, LocalKeys(root, folder=folder)) as tally:
        async with tally.session(slug, actor="t", permissions=("*",)) as db:
            assert (await db.users.get(ada.id)).first_name == "Ada", "which is why it must not be opened before"
        (found,) = [r for r in await replay_erasures(tally) if r.tenant == slug]
        assert (found.lines, found.again, found.keys, found.reopened) == (1, 1, 1, 1)
        async with tally.session(slug, actor="t", permissions=("*",)) as db:
            gone = await db.users.get(ada.id)
            assert (gone.first_name, gone.status) == (None, UserStatus.ERASED)
            assert await db.users.by_email("ada@example.org") is None
            assert (await db.users.get(bob.id)).first_name == "Bob"
            # What she asked for and had to wait is not forgotten with the backup, and nothing is erased twice.
            asked = await db.privacy.request_erasure(ada)
            again = await db.privacy.erase(asked)
            assert (again.request, again.erased, again.final) == (done.request, (), done.final)
            assert [k.data_class for k in again.kept] == ["lending"]
            await rotation.rotate(db)
            assert (await rotation.rewrap(db)).left == 0
            await rotation.destroy_epoch(db, 1)
            assert (await db.users.get(bob.id)).first_name == "Bob"
        assert [(r.again, r.reopened) for r in await replay_erasures(tally) if r.tenant == slug] == [(0, 0)]
    await tally_server.drop(backup)

    # The epoch has ended: another backup of then is unreadable although nobody replays anything.
    async with opened(tally_server, second, LocalKeys(root, folder=folder)) as tally:
        async with tally.session(slug, actor="t", permissions=("*",)) as db:
            assert (await db.users.get(ada.id)).first_name is None
        ledger = folder / str(tenant) / "erasures.jsonl"
        assert b"Ada" not in ledger.read_bytes()
        ledger.write_bytes(ledger.read_bytes() + b'{"v":2}\n')
        with pytest.raises(Tampered):
            await replay_erasures(tally)
    await tally_server.drop(second)


async def test_e10_one_of_two_joint_borrowers_is_erased(office: Session):
    ada, bob = await person(office), await person(office, "Bob")
    for user, passport in ((ada, "C01X00T47"), (bob, "L8988901C")):
        await office[Pledge].add(Pledge(who=user.ref, bond="joint", passport=secret(passport)))
    await office.privacy.erase(await office.privacy.request_erasure(ada))
    hers, his = await office[Pledge].find(Pledge.bond == "joint")
    assert (hers.who.id, his.who.id) == (ada.id, bob.id)
    with pytest.raises(Erased):
        await office[Pledge].reveal(hers.id, Pledge.passport, reason="a test")
    assert await office[Pledge].reveal(his.id, Pledge.passport, reason="a test") == "L8988901C"
    assert [p.id for p in await office[Pledge].find(Pledge.passport == "L8988901C")] == [his.id]
    assert await office[Pledge].find(Pledge.passport == "C01X00T47") == []


@pytest.mark.parametrize(
    ("basis", "months", "hold", "kept"),
    [
        (LegalBasis.LEGAL_OBLIGATION, 25, False, True),
        (LegalBasis.CONTRACT, 0, False, False),
        (LegalBasis.LEGAL_OBLIGATION, 0, True, True),
    ],
)
async def test_e11_classes_go_when_their_policy_lets_them(
    office: Session, basis: LegalBasis, months: int, hold: bool, kept: bool
):
    await office.privacy.set_policy(
        "lending", basis=basis, reason="as decided", citation="a law", minimum_months=months, hold=hold
    )
    ada = await person(office)
    made = await application(office, ada)
    letter = await office[Letter].add(Letter(author=ada.ref, about="my loan", leaflet="buy!"))
    done = await office.privacy.erase(await office.privacy.request_erasure(ada))
    assert [k.data_class for k in done.kept] == (["lending"] if kept else [])
    assert all((k.until is None) is hold for k in done.kept)
    assert (await office[Letter].get(letter.id)).leaflet is None
    assert (await office[Letter].get(letter.id)).about == ("my loan" if kept else ERASED)
    assert (await office.applications.get(made.id)).full_legal_name == ("Ada Lovelace" if kept else ERASED)
    assert (await office.users.get(ada.id)).first_name is None


async def test_erasure_moves_no_money_and_breaks_no_proof(house: Tallystick, office: Session):
    ada = await person(office)
    await active(office, await product(office), borrower=ada)
    profile = await office.profiles.of_user(ada)
    assert profile is not None
    async with asyncio.timeout(120):
        while (await house.audit.seal()).unsealed:  # noqa: ASYNC110  another transaction on the server
            await asyncio.sleep(0.1)
    entries = [e for e in (await office.audit.entries(UserProfile)).items if e.key == str(profile.id)]
    before = [await house.audit.prove(office.tenant_id, e) for e in entries]
    loans, trial = await office[Loan].find(), await office.ledger.trial_balance()
    assert (await office.profiles.history(profile.id))[0].entity.legal_name == "Ada Lovelace"  # type: ignore[union-attr]

    done = await office.privacy.erase(await office.privacy.request_erasure(ada))
    assert [k.data_class for k in done.kept] == ["lending"]

    assert await office[Loan].find() == loans
    assert await office.ledger.trial_balance() == trial
    await audit(office)
    async with asyncio.timeout(120):
        while (await house.audit.seal()).unsealed:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    after = [await house.audit.prove(office.tenant_id, e) for e in entries]
    assert before
    assert all(p.holds for p in (*before, *after))
    assert [p.leaf for p in before] == [p.leaf for p in after]
    for version in await office.profiles.history(profile.id):
        assert version.entity is not None
        assert (version.entity.legal_name, version.entity.address) == (None, None)
    for version in await office.users.history(ada.id):
        assert version.entity is not None
        assert (version.entity.email, version.entity.first_name, version.entity.phone) == (None, None, None)
    bodies = " ".join(e.body for e in (await office.audit.entries(limit=500)).items)
    assert "Lovelace" not in bodies
    assert "_bidx" not in bodies


async def test_consent_withdrawn_while_it_is_being_used(house: Tallystick, office: Session):
    ada = await person(office)
    await office.consents.grant(ada, Purpose.CREDIT_CHECK, policy_version="1")
    inside = asyncio.Event()
    order: list[str] = []

    async def use() -> None:
        async with house.session(office.tenant, actor="user", permissions=("*",)) as db, db.transaction():
            await db.consents.require(ada.id, Purpose.CREDIT_CHECK)
            inside.set()
            await asyncio.sleep(0.1)
            await db.wallets.add(Wallet(user=ada.ref, chain_id=1, address=bytes(20)))
            order.append("used")

    async def withdraw() -> None:
        await inside.wait()
        async with house.session(office.tenant, actor="taker", permissions=("*",)) as db:
            await db.consents.withdraw(ada, Purpose.CREDIT_CHECK)
            order.append("withdrawn")

    async with asyncio.timeout(20):
        await asyncio.gather(use(), withdraw())
    assert order == ["used", "withdrawn"]
    with pytest.raises(ConsentMissing):
        await office.consents.require(ada.id, Purpose.CREDIT_CHECK)


async def test_who_analyses_and_who_restricts_wait_for_each_other_in_one_order(
    house: Tallystick, office: Session, monkeypatch: pytest.MonkeyPatch
):
    ada = await person(office)
    given = await office.consents.grant(ada, Purpose.AI_ANALYSIS, policy_version="1")
    inside, agreed = asyncio.Event(), analyses.agreed

    async def slow(*args: Any) -> Any:
        found = await agreed(*args)
        inside.set()
        await asyncio.sleep(0.1)
        return found

    monkeypatch.setattr(analyses, "agreed", slow)
    half = dict.fromkeys(
        ("trust_score", "openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism"), Decimal("0.5")
    )

    async def restrict() -> None:
        await inside.wait()
        async with house.session(office.tenant, actor="officer", permissions=("*",)) as db:
            await db.privacy.restrict(ada, RestrictionGround.UNLAWFUL)

    async with asyncio.timeout(20):
        await asyncio.gather(
            office.analyses.add(AIAnalysis(user=ada.ref, model="m", **half), consent=given),  # type: ignore[arg-type]
            restrict(),
        )
    # What was made before is not used meanwhile either.
    assert await office.analyses.current(ada) is None
    await office.privacy.lift(ada)
    assert await office.analyses.current(ada) is not None


async def test_a_restriction_waits_for_what_is_behind_the_gate(house: Tallystick, office: Session):
    ada = await person(office)
    await office.consents.grant(ada, Purpose.CREDIT_CHECK, policy_version="1")
    inside, order = asyncio.Event(), list[str]()

    async def use() -> None:
        async with house.session(office.tenant, actor="user", permissions=("*",)) as db, db.transaction():
            await db.consents.require(ada.id, Purpose.CREDIT_CHECK)
            inside.set()
            await asyncio.sleep(0.1)
            order.append("used")

    async def restrict() -> None:
        await inside.wait()
        async with house.session(office.tenant, actor="officer", permissions=("*",)) as db:
            await db.privacy.restrict(ada, RestrictionGround.OBJECTION_PENDING)
            order.append("restricted")

    async with asyncio.timeout(20):
        await asyncio.gather(use(), restrict())
    assert order == ["used", "restricted"]
    with pytest.raises(OnHold):
        await office.consents.require(ada.id, Purpose.CREDIT_CHECK)
    # A transaction with a snapshot from before it cannot see it, and is not let through for that.
    await office.privacy.lift(ada)
    with pytest.raises(Serialization):
        async with house.session(office.tenant, actor="user") as db, db.transaction("repeatable read"):
            assert await db.privacy.restriction(ada) is None
            await office.privacy.restrict(ada, RestrictionGround.OBJECTION_PENDING)
            await db.consents.require(ada.id, Purpose.CREDIT_CHECK)
