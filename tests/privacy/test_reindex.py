"""Rotation of the keys of blind indexes, and search by closing characters."""

from __future__ import annotations

from typing import Any

import pytest
from tests.privacy.rights import Letter, person

from tallystick import Conflict, Duplicate, Invalid, LegalBasis, User, UserProfile
from tallystick.entity import spec_of
from tallystick.privacy import reindex, rotation
from tallystick.query import ends_with
from tallystick.session import Session


async def columns(db: Session, table: str, name: str) -> list[tuple[Any, Any]]:
    rows = await db.unit.call(
        f"SELECT {name}, {name}_next FROM tally.{table} WHERE tenant_id = $1 AND "
        f"coalesce({name}, {name}_next) IS NOT NULL ORDER BY id",
        (db.tenant_id,),
    )
    return [(row[0], row[1]) for row in rows]


async def test_every_index_of_every_entity_gets_a_new_key(office: Session):
    ada, bob = await person(office), await person(office, "Bob")
    letter = await office[Letter].add(Letter(author=ada.ref, about="my loan"))
    before = await office.users.get(ada.id)
    told: list[tuple[str, int]] = []
    done = await rotation.rotate_index(office, report=lambda index, rows: told.append((index, rows)))
    assert {one.generation for one in done} == {2}
    assert {(one.table, one.column): one.rows for one in done}["user_profile", "ssn_bidx_last4"] == 2
    assert ("letter.about_bidx", 1) in told
    for table, name in (("user_account", "email_bidx"), ("user_profile", "ssn_bidx_last4"), ("letter", "about_bidx")):
        for first, second in await columns(office, table, name):
            assert first is None
            assert second[:2] == b"\0\2"
    assert (await office.users.get(ada.id)).version == before.version
    found = await office.users.by_email("ADA@example.org")
    assert found is not None
    assert found.id == ada.id
    assert [x.id for x in await office[Letter].find(Letter.about == "my loan")] == [letter.id]
    assert await office[Letter].count(Letter.about != "my loan") == 0
    assert {p.user.id for p in await office[UserProfile].find(ends_with(UserProfile.ssn, "1120"))} == {ada.id, bob.id}
    with pytest.raises(Duplicate):
        await office.users.add(User(email="ada@example.org"))
    states = (await rotation.status(office)).indexes
    assert {(s.generation, s.phase) for s in states} == {(2, "settled")}
    # Processes have to hear of one rotation before there is another.
    assert all(one.recent for one in await rotation.rotate_index(office))
    with pytest.raises(Conflict):
        await rotation.rotate_index(office, "users.email")
    with pytest.raises(Invalid):
        await rotation.rotate_index(office, "user_account.first_name")


async def test_a_person_who_is_erased_meanwhile_gets_no_index(office: Session):
    await office.privacy.set_policy("lending", basis=LegalBasis.CONTRACT, reason="no minimum here")
    ada, bob = await person(office), await person(office, "Bob")
    await office[Letter].add(Letter(author=ada.ref, about="my loan"))
    await office[Letter].add(Letter(author=bob.ref, about="my house"))
    step = reindex._Rotation(office, spec_of(Letter), spec_of(Letter).fields["about"], 1, None)
    await step._step("begin")
    # Between the reading of a row and the writing of its index, which is then of a value that nobody may have.
    change, erased = step._change, []

    async def slowly(sql: str, args: Any, *, tell: bool = True) -> int:
        if not erased:
            erased.append(await office.privacy.erase(await office.privacy.request_erasure(ada)))
        return await change(sql, args, tell=tell)

    step._change = slowly  # type: ignore[method-assign]
    await step._fill(1)
    assert "lending" in erased[0].erased
    assert step.rows == 1
    # With both columns filled an erasure empties both.
    await office.privacy.erase(await office.privacy.request_erasure(bob))
    assert await columns(office, "letter", "about_bidx") == []
    assert await step._step("switch") == 2
    assert await step._step("settle") == 2
    assert await office[Letter].count(Letter.about == "my loan") == 0


async def test_closing_characters(office: Session):
    ada, bob = await person(office), await person(office, "Bob")
    await office.users.update(ada, phone="+1 (555) 010-0199")
    bob = await office.users.update(bob, phone="15")
    eve = await office.users.add(User(phone="0199"))
    found = await office.users.find(ends_with(User.phone, "0199"))
    assert {u.id for u in found} == {ada.id, eve.id}
    assert await office.users.find(User.Filter.parse({"phone_last4": "0199"})) == found
    assert await office.users.find(ends_with(User.phone, "0199"), User.phone == "+15550100199") == [found[0]]
    first = await office.users.page(ends_with(User.phone, "0199"), limit=1)
    await rotation.rotate_index(office, "users.phone")
    second = await office.users.page(ends_with(User.phone, "0199"), limit=1, after=first.next)
    assert [*first, *second] == found
    # It is too short for an index over four of its characters, and is found as a whole.
    assert (await office.users.one(User.phone == "15")).id == bob.id
    await office.users.update(eve, phone=None)
    assert [u.id for u in await office.users.find(ends_with(User.phone, "0199"))] == [ada.id]
    await office.privacy.erase(await office.privacy.request_erasure(ada))
    assert await office.users.find(ends_with(User.phone, "0199")) == []
    assert await columns(office, "user_account", "phone_bidx_last4") == []
    for wrong in ("199", "00199", "", "abcd", 199):
        with pytest.raises(Invalid):
            await office.users.find(ends_with(User.phone, wrong))  # type: ignore[arg-type]
    for other in (User.email, User.role, User.password_hash):
        with pytest.raises(Invalid):
            ends_with(other, "0199")  # type: ignore[arg-type]


async def test_a_sealed_row_looks_at_its_own_key_only_before_anybody_counted_the_keys(office: Session):
    """A planner without statistics walked every key of the tenant for each row: five thousand rows took a minute."""
    async with office.transaction():
        await office.users.add_many([User(first_name=f"P{n}") for n in range(200)])
        ((read,),) = await office.unit.call(
            "SELECT sum(pg_stat_get_xact_tuples_returned(i.indexrelid)) FROM pg_index i "
            "WHERE i.indrelid = to_regclass('tally.data_key')",
            (),
        )
    assert read < 200 * 10


async def test_values_from_before_the_index_get_one(office: Session):
    """What a field holds when it first declares ``Search`` is in neither column."""
    await office.privacy.set_policy("lending", basis=LegalBasis.CONTRACT, reason="no minimum here")
    ada, bob = await person(office), await person(office, "Bob")
    await office.unit.change(
        "UPDATE tally.user_account SET email_bidx = NULL, email_bidx_next = NULL WHERE tenant_id = $1",
        (office.tenant_id,),
    )
    eve = await person(office, "Eve")
    assert await office.users.count(User.email == "ada@example.org") == 0
    await office.privacy.erase(await office.privacy.request_erasure(bob))
    (done,) = await rotation.rotate_index(office, "users.email", batch=1)
    assert (done.generation, done.rows) == (2, 2)
    assert [second[:2] for first, second in await columns(office, "user_account", "email_bidx")] == [b"\0\2"] * 2
    for one, address in ((ada, "ada@example.org"), (eve, "eve@example.org")):
        found = await office.users.by_email(address)
        assert found is not None
        assert found.id == one.id
    with pytest.raises(Duplicate):
        await office.users.add(User(email="ada@example.org"))
