"""An application whose keys are in a folder, so that something can be erased for good."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Annotated, Any
from uuid import uuid4

import pytest

from tallystick import (
    EmploymentStatus,
    Entity,
    NoticeBasis,
    Personal,
    Ref,
    Rules,
    Search,
    Secret,
    User,
    append_only,
    secret,
    usd,
)
from tallystick.app import Tallystick
from tallystick.audit.seal_key import create_seal_key
from tallystick.domains.catalog import chosen
from tallystick.domains.identity.profiles import UserProfile
from tallystick.domains.underwriting.applications import Application
from tallystick.domains.underwriting.notices import AdverseActionNotice
from tallystick.fields import Mask, Once, Retain
from tallystick.privacy.keys import LocalKeys
from tallystick.session import Session
from tallystick.settings import Settings
from tallystick.testing import KitServer
from tallystick.testing.factories import Make


class Letter(Entity):
    """What a person wrote; never changed. The copy for marketing has a class of its own."""

    author: Annotated[Ref[User], Once()]
    about: Annotated[Personal[str], Search("exact")]
    leaflet: Annotated[Personal[str], Retain("marketing")] | None = None

    rules = Rules(append_only(), retain="lending", subject="author")


class Pledge(Entity):
    """One half of a joint promise: each borrower's half is their own data."""

    who: Annotated[Ref[User], Once()]
    bond: Annotated[str, Once()]
    passport: Annotated[Secret[str], Search("exact"), Mask(2)]

    rules = Rules(retain="identity", subject="who")


ENTITIES = (Letter, Pledge)
DAY = date(2026, 11, 2)
NOTICE: dict[str, Any] = {
    "basis": NoticeBasis.INCOMPLETE,
    "needed": "a payslip",
    "decided_on": DAY,
    "counted_from": DAY,
    "due_on": DAY + timedelta(days=30),
}
"""What the checks of a notice tie together."""


@pytest.fixture(scope="session")
async def house(tally_server: KitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tallystick]:
    outside = tmp_path_factory.mktemp("outside")
    template = await tally_server.template(None, ENTITIES, ())
    database = await tally_server.clone(template, f"_rights_{uuid4().hex[:6]}")
    settings = Settings.load(
        {},
        database_url=tally_server.url("app", database),
        admin_url=tally_server.url("admin", database),
        seal_url=tally_server.url("seal", database),
        role_prefix=tally_server.roles.prefix,
        seal_key_file=outside / "seal.key",
        anchor_dir=outside / "anchors",
        pool_max=20,
    )
    create_seal_key(outside / "seal.key")
    keys = LocalKeys(os.urandom(32), folder=outside / "keys")
    async with Tallystick.open(settings=settings, entities=ENTITIES, keys=keys, domains=chosen(None)) as made:
        yield made


@pytest.fixture
async def office(house: Tallystick) -> AsyncIterator[Session]:
    """A session of a new tenant that may do everything, and commits."""
    slug = f"rights-{uuid4().hex}"
    await house.tenants.create(slug, name="A tenant")
    async with house.session(slug, actor="office", permissions=("*",), reason="a test") as db:
        yield db


async def person(db: Session, name: str = "Ada") -> User:
    """A user with a profile."""
    user = await db.users.add(User(email=f"{name.lower()}@example.org", first_name=name, phone="+49 30 1234567"))
    await db.profiles.add(
        UserProfile(
            user=user.ref, legal_name=f"{name} Lovelace", ssn=secret("078-05-1120"), address={"street": "Ring 1"}
        )
    )
    return user


async def notice(db: Session, about: Application, score: int = 617) -> AdverseActionNotice:
    """What an applicant was told; its score has a key of the application's."""
    given = NOTICE | {"application": about.ref, "credit_score": secret(score)}
    return await Make(db)(AdverseActionNotice, **given)


async def application(db: Session, user: User | None, **more: Any) -> Application:
    """A loan application of a user."""
    return await db.applications.add(
        Application(
            applicant=None if user is None else user.ref,
            full_legal_name="Ada Lovelace",
            ssn=secret("078-05-1120"),
            annual_income=usd("50000"),
            employment_status=EmploymentStatus.EMPLOYED,
            email="ada@example.org",
            **more,
        )
    )
