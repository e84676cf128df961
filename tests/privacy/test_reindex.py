"""Rotation of the keys of blind indexes, and search by closing characters."""

from __future__ import annotations

from typing import Any

import pytest
from tests.privacy.rights import Letter, person

from tallystick import Conflict, Duplicate, Invalid, User, UserProfile
from tallystick.privacy import rotation
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
