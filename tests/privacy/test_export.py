"""Exports: whole, signed, without anybody else's data; and a tenant that leaves."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.lending.support import active, product
from tests.privacy.rights import ENTITIES, Pledge, application, notice, person

from tallystick import (
    Denied,
    FixedClock,
    Invalid,
    NotFound,
    Purpose,
    QuotaExceeded,
    RoleMissing,
    Serialization,
    Tampered,
    Unsupported,
    User,
    UserStatus,
    secret,
)
from tallystick.app import Tallystick
from tallystick.domains.identity.disclosures import Disclosure
from tallystick.domains.identity.profiles import UserProfile
from tallystick.domains.rights.export import EXPORTS_A_DAY, check_export
from tallystick.domains.rights.gather import SOMEBODY, _document
from tallystick.domains.rights.replay import replay_erasures
from tallystick.session import Session


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{table}.jsonl").read_text().splitlines()]


async def test_a_persons_export_holds_theirs_and_nobody_elses(office: Session, tmp_path: Path):
    ada, bob = await person(office), await person(office, "Bob")
    made = await application(office, ada)
    for one, score in ((made, 617), (await application(office, bob), 618)):
        await notice(office, one, score)
    what = await product(office)
    loan = await active(office, what, borrower=await office.users.update(ada, status=UserStatus.ACTIVE))
    await active(office, what, borrower=await office.users.update(bob, status=UserStatus.ACTIVE))
    await office.consents.grant(ada, Purpose.MARKETING, policy_version="7")
    await office[Pledge].add(Pledge(who=bob.ref, bond="joint", passport=secret("L8988901C")))
    profile = await office.profiles.of_user(ada)
    assert profile is not None
    await office.profiles.reveal(profile.id, UserProfile.ssn, reason="KYC case 91")
    target = tmp_path / "export"
    done = await office.privacy.export(ada, target, reason="her request of 3 May")
    assert check_export(target) == done
    assert (done.person, done.tenant) == (ada.id, office.tenant_id)
    (user,) = rows(target, "user_account")
    assert (user["email"], user["first_name"]) == ("ada@example.org", "Ada")
    assert not {"password_hash", "mfa_secret", "tenant_id"} & set(user)
    assert [r["ssn"] for r in rows(target, "user_profile")] == ["078-05-1120"]
    assert [r["id"] for r in rows(target, "application")] == [str(made.id)]
    assert [r["id"] for r in rows(target, "loan")] == [str(loan.id)]
    assert {r["loan"] for r in rows(target, "loan_installment")} == {str(loan.id)}
    assert [r["credit_score"] for r in rows(target, "adverse_action_notice")] == [617]
    assert [r["purpose"] for r in rows(target, "consent")] == ["marketing"]
    (shown,) = rows(target, "disclosure")
    assert (shown["field"], shown["reason"], shown["by"]) == ("ssn", "KYC case 91", "somebody")
    everything = "".join(p.read_text() for p in target.iterdir())
    assert "Bob" not in everything
    assert str(bob.id) not in everything
    assert "L8988901C" not in everything
    # What was opened for it is disclosed too, and the export itself is in the log.
    reasons = [d.reason for d in await office[Disclosure].find()]
    assert reasons.count("export: her request of 3 May") == 3
    (event,) = (await office.audit.entries("user_account", key=ada.id, ops=["E"])).items
    assert event.event is not None
    assert event.event["type"] == "privacy.exported"
    assert {p.stat().st_mode & 0o777 for p in target.iterdir()} == {0o600}


async def test_a_shared_row_shows_only_the_half_of_the_person(office: Session):
    ada, bob = await person(office), await person(office, "Bob")
    pledge = await office[Pledge].add(Pledge(who=bob.ref, bond="joint", passport=secret("L8988901C")))
    shown = _document(office[Pledge].spec, pledge, {}, ada.id)
    assert shown["who"] == SOMEBODY
    assert "passport" not in shown


@pytest.mark.parametrize("harm", ["edit", "dropped line", "remove", "folder", "add", "manifest", "signature", "signer"])
async def test_an_export_that_was_changed_is_told(office: Session, tmp_path: Path, harm: str):
    ada, target, key = await person(office), tmp_path / "export", Ed25519PrivateKey.generate()
    await office.privacy.export(ada, target, reason="a test", key=key)
    public = key.public_key().public_bytes_raw()
    assert check_export(target, public).rows > 0
    if harm == "edit":
        file = target / "user_account.jsonl"
        file.write_text(file.read_text().replace("Ada", "Eve"))
    elif harm == "dropped line":
        (target / "user_profile.jsonl").write_text("")
    elif harm == "folder":
        (target / "user_profile.jsonl").unlink()
        (target / "user_profile.jsonl").mkdir()
    elif harm == "remove":
        (target / "user_profile.jsonl").unlink()
    elif harm == "add":
        (target / "more.jsonl").write_text("{}\n")
    elif harm == "manifest":
        file = target / "manifest.json"
        file.write_text(file.read_text().replace("a test", "b test"))
    elif harm == "signature":
        (target / "manifest.sig").write_text("00" * 64)
    else:
        public = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(Tampered):
        check_export(target, public)


async def test_bad_input_and_who_may(house: Tallystick, office: Session, tmp_path: Path):
    ada = await person(office)
    ada = await office.users.update(ada, status=UserStatus.ACTIVE)
    with pytest.raises(Invalid):
        await office.privacy.export(ada, tmp_path / "x", reason=" ")
    with pytest.raises(Invalid, match="there already"):
        await office.privacy.export(ada, tmp_path, reason="a test")
    with pytest.raises(NotFound):
        await office.privacy.export(uuid4(), tmp_path / "x", reason="a test")
    with pytest.raises(Invalid):
        check_export(tmp_path / "nothing")
    async with house.session(office.tenant, actor=f"user:{ada.id}") as db:
        assert (await db.privacy.export(ada, tmp_path / "own", reason="my own")).person == ada.id
        bob = await person(office, "Bob")
        with pytest.raises(RoleMissing):
            await db.privacy.export(bob, tmp_path / "x", reason="curious")
        with pytest.raises(RoleMissing):
            await db.privacy.export_tenant(tmp_path / "x", reason="curious")
    assert [p.name for p in tmp_path.iterdir()] == ["own"]  # noqa: ASYNC240


async def test_a_persons_data_is_exported_three_times_a_day(house: Tallystick, office: Session, tmp_path: Path):
    ada, bob = await person(office), await person(office, "Bob")
    ada = await office.users.update(ada, status=UserStatus.ACTIVE)
    async with house.session(office.tenant, actor=f"user:{ada.id}") as db:
        for n in range(EXPORTS_A_DAY):
            await db.privacy.export(ada, tmp_path / f"{n}", reason="my own")
        with pytest.raises(QuotaExceeded) as refused:
            await db.privacy.export(ada, tmp_path / "more", reason="my own")
        assert (refused.value.metric, refused.value.limit) == ("exports", EXPORTS_A_DAY)
        until = refused.value.until
        assert until is not None
        assert timedelta(0) < until - office.now() <= timedelta(days=1)
        with pytest.raises(RoleMissing):
            await db.privacy.export(ada, tmp_path / "more", reason="my own", over_limit=True)
    assert not (tmp_path / "more").exists()
    # Others are not concerned, an operator may, and on the next day anybody.
    await office.privacy.export(bob, tmp_path / "bob", reason="his own")
    await office.privacy.export(ada, tmp_path / "lifted", reason="ticket 91", over_limit=True)
    entries = (await office.audit.entries("user_account", key=ada.id, ops=["E"])).items
    assert [(e.event or {})["data"].get("over_limit") for e in entries].count(True) == 1
    async with Tallystick.open(
        settings=house.settings, entities=ENTITIES, keys=house.keys, clock=FixedClock(until)
    ) as tomorrow:
        async with tomorrow.session(office.tenant.slug, actor=f"user:{ada.id}") as db:
            await db.privacy.export(ada, tmp_path / "tomorrow", reason="my own")


async def test_an_erased_persons_export_has_what_is_left(office: Session, tmp_path: Path):
    ada = await person(office)
    await office.privacy.erase(await office.privacy.request_erasure(ada))
    await office.privacy.export(ada, tmp_path / "e", reason="after")
    (user,) = rows(tmp_path / "e", "user_account")
    assert (user["email"], user["status"]) == (None, "erased")
    assert [r["ssn"] for r in rows(tmp_path / "e", "user_profile")] == [None]
    assert len(rows(tmp_path / "e", "erasure_request")) == 1


async def test_a_tenant_leaves_with_everything_and_leaves_nothing_readable(
    house: Tallystick, office: Session, tmp_path: Path
):
    ada, bob = await person(office), await person(office, "Bob")
    await application(office, ada)
    await office.privacy.erase(await office.privacy.request_erasure(bob))
    with pytest.raises(Invalid, match="slug"):
        await office.privacy.offboard(tmp_path / "all", confirm="yes", reason="contract ended")
    done = await office.privacy.offboard(tmp_path / "all", confirm=office.tenant.slug, reason="contract ended")
    assert done.epochs == (1, 2)
    assert check_export(tmp_path / "all").person is None
    assert [r["first_name"] for r in rows(tmp_path / "all", "user_account")] == ["Ada", None]
    assert [r["full_legal_name"] for r in rows(tmp_path / "all", "application")] == ["Ada Lovelace"]
    assert (await office.users.get(ada.id)).first_name is None
    house.tenants._known.clear()
    with pytest.raises(Denied):
        async with house.session(office.tenant.slug, actor="t"):
            pass
    # A replay reaches it all the same, has nothing to do there, and begins no epoch again.
    (found,) = [r for r in await replay_erasures(house) if r.tenant == office.tenant.slug]
    assert (found.lines, found.again, found.reopened) == (1, 0, 0)
    assert all(office.sealer.keyring().provider.epochs(office.tenant_id).values())


async def test_a_tenant_that_was_leaving_when_it_stopped_leaves_when_it_is_run_again(
    house: Tallystick, office: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ada = await person(office)
    provider = office.sealer.keyring().provider
    ends = provider.end_epoch

    def dies(_self: object, tenant: UUID, epoch: int) -> None:
        if epoch > 1:
            raise RuntimeError("the machine stops here")
        ends(tenant, epoch)

    monkeypatch.setattr(type(provider), "end_epoch", dies)
    with pytest.raises(RuntimeError):
        await office.privacy.offboard(tmp_path / "one", confirm=office.tenant.slug, reason="contract ended")
    monkeypatch.undo()
    assert [r["first_name"] for r in rows(tmp_path / "one", "user_account")] == ["Ada"]
    house.tenants._known.clear()
    async with house.session(office.tenant.slug, actor="again", permissions=("*",)) as db:
        done = await db.privacy.offboard(tmp_path / "two", confirm=office.tenant.slug, reason="contract ended")
        assert done.epochs == (2, 3)
        assert all(ended for ended in provider.epochs(db.tenant_id).values())
        # Whoever has a session still has nothing to seal with, in a new epoch neither.
        with pytest.raises(Serialization):
            await db.users.add(User(first_name="Eve"))
        assert (await db.users.get(ada.id)).first_name is None
    house.tenants._known.clear()
    with pytest.raises(Denied):
        async with house.session(office.tenant.slug, actor="t"):
            pass


async def test_keys_without_a_folder_do_not_offboard(db: Session, tmp_path: Path):
    await db.users.add(User(first_name="Ada"))
    with pytest.raises(Unsupported):
        await db.privacy.offboard(
            tmp_path / "all", confirm=db.tenant.slug, reason="contract ended", key=Ed25519PrivateKey.generate()
        )
    assert not (tmp_path / "all").exists()
