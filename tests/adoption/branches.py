"""A lender with branches: columns, states and custom fields of its own on built-in entities that have rows."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
import pytest
from tests.entities import ALL
from tests.schema.support import Database, make_database

from tallystick import (
    Application,
    ApplicationStatus,
    Check,
    Custom,
    Entity,
    Index,
    Json,
    Length,
    Loan,
    Mask,
    Money,
    OwnAsset,
    Personal,
    PersonalCustom,
    Readable,
    Ref,
    Rules,
    Search,
    Secret,
    Session,
    Statuses,
    Tallystick,
    Transitions,
    Unique,
    User,
    UserStatus,
    added,
)
from tallystick.clock import SystemClock
from tallystick.domains.catalog import DOMAINS
from tallystick.privacy.keys import LocalKeys
from tallystick.schema.migrate import migrate, revision
from tallystick.settings import Settings
from tallystick.testing import KitServer

ON_LEAVE = added(UserStatus, "on_leave")
FRAUD_CHECK = added(ApplicationStatus, "fraud_check")


class Branch(Entity):
    """A branch of the lender."""

    code: Annotated[str, Length(20, min=1)]

    rules = Rules(Unique("code"), retain="operations", readable={"code": Readable.CODE})


class BranchUser(User):
    """A user account with its branch."""

    desk: Annotated[str, Length(40)] | None = None
    branch: Ref[Branch] | None = None
    tier: int = 1
    since: date = date(2020, 1, 1)
    ceiling: Annotated[Money, OwnAsset()] | None = None
    iban: Annotated[Secret[str], Search("exact"), Mask(4)] | None = None
    nickname: Annotated[Personal[str], Search("name")] | None = None
    custom: Annotated[Custom, Json(promote={"region": str})] = msgspec.field(default_factory=dict)
    custom_personal: PersonalCustom | None = None

    rules = Rules(
        Index("desk", query="accounts of a desk"),
        Index("custom_region", query="accounts of a region"),
        Unique("iban"),
        Check("tier", "tier between 1 and 5"),
        Statuses(
            "status",
            {
                UserStatus.ACTIVE: [ON_LEAVE],
                ON_LEAVE: [UserStatus.ACTIVE, UserStatus.CLOSED],
            },
        ),
        extends=User,
        readable={"desk": Readable.CODE},
    )


class Collection(StrEnum):
    """How far collecting is."""

    NONE = "none"
    CALLED = "called"
    VISITED = "visited"


class BranchLoan(Loan):
    """A loan with what the collectors do."""

    collection: Collection = Collection.NONE
    collector: Ref[User] | None = None
    warmth: int = -5

    rules = Rules(
        Transitions(
            "collection",
            {Collection.NONE: [Collection.CALLED], Collection.CALLED: [Collection.VISITED, Collection.NONE]},
            initial=[Collection.NONE],
        ),
        extends=Loan,
    )


class BranchApplication(Application):
    """An application that passes a fraud check."""

    rules = Rules(
        Statuses(
            "status",
            {
                ApplicationStatus.VERIFYING: [FRAUD_CHECK],
                FRAUD_CHECK: [ApplicationStatus.SCORING, ApplicationStatus.VERIFYING],
            },
        ),
        extends=Application,
    )


ENTITIES = (Branch, BranchUser, BranchLoan, BranchApplication)


@dataclass(frozen=True)
class House:
    """The extended application, a process that knows nothing of the extension, and what was there before."""

    database: Database
    tally: Tallystick
    plain: Tallystick
    tenant: str
    old: UUID
    folder: Path
    written: tuple[Path, ...]


def application(
    database: Database, keys: LocalKeys, entities: tuple[type[Entity], ...] = (), folder: Path | None = None
) -> Tallystick:
    """An application on a database that is there."""
    settings = Settings.load(
        {}, database_url=database.app, admin_url=database.admin, role_prefix=database.roles.prefix, pool_max=10
    )
    places = () if folder is None else (folder,)
    return Tallystick(settings, DOMAINS, entities, keys=keys, clock=SystemClock(), version_locations=places)


def keys_in(folder: Path) -> LocalKeys:
    """Keys that can be destroyed."""
    return LocalKeys(os.urandom(32), folder=folder / "keys")


@asynccontextmanager
async def extended_house(server: KitServer, folder: Path) -> AsyncIterator[House]:
    """Rows first, as a plain application writes them; then the revision of the extension, written and applied."""
    database = await make_database(server, await server.template(None, ALL))
    keys = keys_in(folder)
    revisions = folder / "revisions"
    plain = application(database, keys)
    async with plain:
        tenant = "branches"
        await plain.tenants.create(tenant, name="A lender with branches")
        async with plain.session(tenant, actor="test", permissions=("*",)) as db:
            old = await db.users.add(User(email="old@example.org", status=UserStatus.ACTIVE))
        written = await revision(
            database.admin,
            "branches",
            branch="shop",
            entities=ENTITIES,
            roles=database.roles,
            version_locations=[revisions],
        )
        await migrate(
            database.admin, domains=DOMAINS, entities=ENTITIES, roles=database.roles, version_locations=[revisions]
        )
        tally = application(database, keys, ENTITIES, revisions)
        async with tally:
            yield House(database, tally, plain, tenant, old.id, revisions, tuple(written))


@pytest.fixture(scope="session")
async def house(tally_server: KitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with extended_house(tally_server, tmp_path_factory.mktemp("branches")) as made:
        yield made


@pytest.fixture
async def db(house: House) -> AsyncIterator[Session]:
    """A session of the extended application, which commits."""
    async with house.tally.session(house.tenant, actor="test", permissions=("*",)) as made:
        yield made


@pytest.fixture
async def plain(house: House) -> AsyncIterator[Session]:
    """A session of a process that does not know the extension."""
    async with house.plain.session(house.tenant, actor="old process", permissions=("*",)) as made:
        yield made
