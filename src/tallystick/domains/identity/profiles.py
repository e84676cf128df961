"""Profiles: what is known of the person behind an account, kept apart from it because few need it."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from tallystick.domains.identity.users import User, UserLike, user_id
from tallystick.entity import Entity
from tallystick.fields import Fraction, Length, Mask, Once, Personal, Ref, Search
from tallystick.money import Money
from tallystick.privacy.sealed import Secret
from tallystick.repository import Repository
from tallystick.rules import Check, Readable, Rules, Unique


class EmploymentStatus(StrEnum):
    """How a person earns."""

    EMPLOYED = "employed"
    SELF_EMPLOYED = "self_employed"
    UNEMPLOYED = "unemployed"
    RETIRED = "retired"
    STUDENT = "student"
    OTHER = "other"


class HomeOwnership(StrEnum):
    """How a person lives."""

    OWN = "own"
    MORTGAGE = "mortgage"
    RENT = "rent"
    OTHER = "other"


class UserProfile(Entity):
    """The person behind an account; one for each user.

    ``ssn`` is found by its blind index alone. ``annual_income`` is before tax; ``employment_months`` is how long the
    present employment lasts; ``debt_to_income`` is monthly debt payments over monthly income, 0.36 is 36 %.
    ``privacy_settings`` are the person's own choices, by name.
    """

    user: Annotated[Ref[User], Once()]
    legal_name: Annotated[Personal[str], Length(255, min=1)] | None = None
    birth_date: Personal[date] | None = None
    ssn: Annotated[Secret[str], Search("digits", last=4), Mask(4)] | None = None
    address: Personal[dict[str, Any]] | None = None
    annual_income: Money | None = None
    employment_status: EmploymentStatus | None = None
    employment_months: int | None = None
    home_ownership: HomeOwnership | None = None
    debt_to_income: Fraction | None = None
    privacy_settings: dict[str, bool] = msgspec.field(default_factory=dict)

    rules = Rules(
        Unique("user"),
        Check("income", "annual_income is null or annual_income >= 0"),
        Check("employment_months", "employment_months is null or employment_months between 0 and 1200"),
        Check("debt_to_income", "debt_to_income is null or debt_to_income >= 0"),
        retain="identity",
        subject="user",
        readable={"privacy_settings": Readable.BY_ID},
    )


class Profiles(Repository[UserProfile]):
    """The users' profiles."""

    async def of_user(self, user: UserLike) -> UserProfile | None:
        """The profile of a user."""
        found = await self.find(UserProfile.user == Ref(user_id(user)), limit=1)
        return found[0] if found else None

    async def with_ssn(self, ssn: str) -> list[UserProfile]:
        """Every profile with this number, whatever its punctuation: more than one is the same person twice."""
        return await self.find(UserProfile.ssn == ssn, order=UserProfile.created_at)
