"""Profiles: one a user, sealed where they are personal, found by number through the blind index."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from tallystick import (
    Duplicate,
    EmploymentStatus,
    HomeOwnership,
    Invalid,
    UnknownReference,
    UserProfile,
    secret,
    usd,
    uuid7,
)
from tallystick.fields import Ref
from tallystick.session import Session
from tallystick.testing import Make


async def test_a_profile_holds_the_person_and_hides_them(db: Session, make: Make):
    ada = await make.user()
    made = await db.profiles.add(
        UserProfile(
            user=ada.ref,
            legal_name="Ada Okafor",
            birth_date=date(1990, 2, 3),
            ssn=secret("666-12-3456"),
            address={"city": "Lagos"},
            annual_income=usd("41000"),
            employment_status=EmploymentStatus.SELF_EMPLOYED,
            employment_months=30,
            home_ownership=HomeOwnership.RENT,
            debt_to_income=Decimal("0.36"),
            privacy_settings={"show_in_directory": False},
        )
    )
    found = await db.profiles.of_user(ada)
    assert found is not None
    assert found.birth_date == date(1990, 2, 3)
    assert found.privacy_settings == {"show_in_directory": False}
    assert "Okafor" not in repr(found)
    assert found.ssn is not None
    assert found.ssn.mask == "••••3456"
    assert await db.profiles.reveal(made.id, UserProfile.ssn, reason="KYC case 9") == "666-12-3456"
    raw = (await db.unit.call("SELECT legal_name, ssn FROM tally.user_profile WHERE tenant_id = $1", (db.tenant_id,)))[
        0
    ]
    assert b"Okafor" not in bytes(raw[0])
    assert b"3456" not in bytes(raw[1])


async def test_one_person_twice_is_found_by_the_number(db: Session, make: Make):
    for number in ("666-12-3456", "666123456", "666-99-0000"):
        await db.profiles.add(UserProfile(user=(await make.user()).ref, ssn=secret(number)))
    assert len(await db.profiles.with_ssn("666 12 3456")) == 2
    assert await db.profiles.with_ssn("000-00-0000") == []


async def test_a_user_has_one_profile_and_a_profile_a_user(db: Session, make: Make):
    ada = await make.user()
    assert await db.profiles.of_user(ada.id) is None
    made = await db.profiles.add(UserProfile(user=ada.ref))
    with pytest.raises(Invalid):
        await db.profiles.update(made, user=(await make.user()).ref)
    with pytest.raises(Duplicate):
        async with db.transaction():
            await db.profiles.add(UserProfile(user=ada.ref))
    with pytest.raises(UnknownReference):
        async with db.transaction():
            await db.profiles.add(UserProfile(user=Ref(uuid7())))


@pytest.mark.parametrize(
    "wrong",
    [
        {"annual_income": usd("-1")},
        {"annual_income": 41000.0},
        {"employment_months": -1},
        {"debt_to_income": Decimal("-0.1")},
        {"debt_to_income": 0.36},
        {"privacy_settings": {"x": "yes"}},
        {"home_ownership": "tent"},
        {"ssn": "666-12-3456"},
    ],
)
async def test_a_wrong_value_is_refused(db: Session, make: Make, wrong: dict[str, object]):
    ada = await make.user()
    with pytest.raises(Invalid):
        await db.profiles.add(UserProfile(user=ada.ref, **wrong))  # type: ignore[arg-type]
