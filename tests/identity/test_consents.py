"""Consents: granted, taken back, kept for good, and asked for at the gate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tallystick import (
    Consent,
    ConsentMissing,
    Denied,
    Duplicate,
    Invalid,
    LegalBasis,
    NotFound,
    Purpose,
    RoleMissing,
    Tallystick,
    UserRole,
    UserStatus,
    uuid7,
)
from tallystick.entity import with_fields
from tallystick.schema.connect import acting_as_owner
from tallystick.session import Session
from tallystick.testing import KitServer, Make, Race, Sandbox

ADA = uuid7()
FORM = {"form": "f3", "channel": "branch"}


async def test_granted_asked_for_withdrawn_and_granted_again(db: Session, make: Make):
    ada = await make.user()
    with pytest.raises(ConsentMissing) as none:
        await db.consents.require(ada.id, Purpose.CREDIT_CHECK)
    assert "db.consents.grant" in str(none.value)
    first = await db.consents.grant(ada, Purpose.CREDIT_CHECK, policy_version="2026-1", evidence=FORM)
    assert (await db.consents.require(ada.ref, Purpose.CREDIT_CHECK)) == first
    assert first.evidence == FORM
    assert first.legal_basis is LegalBasis.CONSENT
    with pytest.raises(ConsentMissing):
        await db.consents.require(ada.id, Purpose.MARKETING)
    ended = await db.consents.withdraw(ada.id, Purpose.CREDIT_CHECK)
    assert ended.withdrawn_at is not None
    with pytest.raises(ConsentMissing):
        await db.consents.require(ada.id, Purpose.CREDIT_CHECK)
    with pytest.raises(NotFound):
        await db.consents.withdraw(ada, Purpose.CREDIT_CHECK)
    again = await db.consents.grant(ada, Purpose.CREDIT_CHECK, policy_version="2026-1")
    assert [c.id for c in await db.consents.given(ada)] == [first.id, again.id]
    assert (await db.consents.require(ada.id, Purpose.CREDIT_CHECK)).id == again.id


async def test_the_same_terms_twice_are_one_consent_and_new_terms_replace_it(db: Session, make: Make):
    ada = await make.user()
    one = await db.consents.grant(ada, Purpose.AI_ANALYSIS, policy_version="1")
    assert (await db.consents.grant(ada, Purpose.AI_ANALYSIS, policy_version="1")).id == one.id
    two = await db.consents.grant(ada, Purpose.AI_ANALYSIS, policy_version="2")
    three = await db.consents.grant(
        ada, Purpose.AI_ANALYSIS, policy_version="2", legal_basis=LegalBasis.LEGITIMATE_INTERESTS
    )
    await db.consents.grant(ada, Purpose.MARKETING, policy_version="2")
    history = await db.consents.given(ada, Purpose.AI_ANALYSIS)
    assert [c.id for c in history] == [one.id, two.id, three.id]
    # Without a gap and without an overlap.
    assert [c.withdrawn_at for c in history] == [two.granted_at, three.granted_at, None]


async def test_a_second_one_is_refused_by_the_database(db: Session, make: Make):
    ada = await make.user()
    one = await db.consents.grant(ada, Purpose.SHARING, policy_version="1")
    with pytest.raises(Duplicate):
        await db[Consent].add(
            Consent(
                user=ada.ref,
                purpose=Purpose.SHARING,
                legal_basis=LegalBasis.CONSENT,
                policy_version="2",
                granted_at=one.granted_at,
            )
        )


async def test_nothing_of_a_consent_changes_but_its_end_once(db: Session, make: Make):
    ada = await make.user()
    given = await db.consents.grant(ada, Purpose.SHARING, policy_version="1")
    for change in (
        {"policy_version": "2"},
        {"purpose": Purpose.MARKETING},
        {"granted_at": datetime(2020, 1, 1, tzinfo=UTC)},
    ):
        with pytest.raises(Invalid):
            await db[Consent].update(given, **change)
    with pytest.raises(Invalid):
        async with db.transaction():
            await db[Consent].update(given, withdrawn_at=given.granted_at - timedelta(days=1))
    ended = await db.consents.withdraw(ada, Purpose.SHARING)
    for moment in (None, db.now() + timedelta(days=1)):
        with pytest.raises(Denied):
            async with db.transaction():
                await db[Consent].update(ended, withdrawn_at=moment)
    with pytest.raises(Denied):
        async with db.transaction():
            await db[Consent].purge(ended, reason="tidy")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tally.consent SET policy_version = '9' WHERE tenant_id = $1",
        "UPDATE tally.consent SET evidence = '{}' WHERE tenant_id = $1",
        "UPDATE tally.consent SET withdrawn_at = NULL WHERE tenant_id = $1",
        "DELETE FROM tally.consent WHERE tenant_id = $1",
    ],
)
async def test_not_even_the_owner_rewrites_a_consent(
    race: Race, tally: Tallystick, tally_server: KitServer, db: Session, make: Make, change: str
):
    ada = await make.user()
    await db.consents.grant(ada, Purpose.SHARING, policy_version="1")
    await db.consents.withdraw(ada, Purpose.SHARING)
    database = str(tally.settings.database_url).rpartition("/")[2].partition("?")[0]
    conn = await asyncpg.connect(tally_server.url("admin", database))
    try:
        async with acting_as_owner(conn, tally_server.roles), conn.transaction():
            await conn.execute("SELECT set_config('tally.tenant', $1, true)", str(db.tenant_id))
            await conn.execute("SELECT set_config('tally.actor', 'owner', true)")
            with pytest.raises(asyncpg.PostgresError, match="written once"):
                async with conn.transaction():
                    await conn.execute(change, db.tenant_id)
    finally:
        await conn.close()


async def test_a_person_answers_for_themselves(db: Session, make: Make, sandbox: Sandbox, tenant: str):
    ada, eve = [await make.user(status=UserStatus.ACTIVE, role=UserRole.BORROWER) for _ in range(2)]
    suspended = await make.user(status=UserStatus.ACTIVE, role=UserRole.BORROWER)
    await db.users.update(suspended, status=UserStatus.SUSPENDED)
    async with sandbox.session(tenant, actor=f"user:{ada.id}", permissions=None) as mine:
        given = await mine.consents.grant(ada, Purpose.MARKETING, policy_version="1")
        assert given.created_by == f"user:{ada.id}"
    async with sandbox.session(tenant, actor=f"user:{eve.id}", permissions=None) as hers:
        for attempt in (
            hers.consents.grant(ada, Purpose.SHARING, policy_version="1"),
            hers.consents.withdraw(ada, Purpose.MARKETING),
            hers.consents.update(given, withdrawn_at=hers.now()),
            hers.consents.add(with_fields(given, id=uuid7(), purpose=Purpose.SHARING)),
        ):
            with pytest.raises(RoleMissing):
                await attempt
    for actor in ("job", "user:nobody", f"user:{uuid7()}"):
        async with sandbox.session(tenant, actor=actor, permissions=None) as other:
            with pytest.raises(RoleMissing):
                await other.consents.withdraw(ada, Purpose.MARKETING)
    async with sandbox.session(tenant, actor=f"user:{suspended.id}", permissions=None) as theirs:
        with pytest.raises(RoleMissing):
            await theirs.consents.grant(suspended, Purpose.SHARING, policy_version="1")
    async with sandbox.session(tenant, actor="desk", permissions=["consents.manage"]) as desk:
        await desk.consents.withdraw(ada, Purpose.MARKETING)


@pytest.mark.parametrize(
    ("user", "purpose", "options", "error"),
    [
        (None, Purpose.SHARING, {"policy_version": "1"}, Invalid),
        ("user:1", Purpose.SHARING, {"policy_version": "1"}, Invalid),
        (uuid7(), Purpose.SHARING, {"policy_version": "1"}, NotFound),
        (uuid7(), "sharing", {"policy_version": "1"}, Invalid),
        (ADA, Purpose.SHARING, {"policy_version": ""}, Invalid),
        (ADA, Purpose.SHARING, {"policy_version": "x" * 65}, Invalid),
        (ADA, Purpose.SHARING, {"policy_version": 1.5}, Invalid),
        (ADA, Purpose.SHARING, {"policy_version": "1", "legal_basis": "because"}, Invalid),
        (ADA, Purpose.SHARING, {"policy_version": "1", "evidence": {"x": float("nan")}}, Invalid),
    ],
)
async def test_bad_input_is_refused_by_name(
    db: Session, make: Make, user: Any, purpose: Any, options: Any, error: type
):
    await make.user(id=ADA)
    with pytest.raises(error):
        async with db.transaction():
            await db.consents.grant(user, purpose, **options)
    assert await db[Consent].count() == 0
