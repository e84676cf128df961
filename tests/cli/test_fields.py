"""``tallystick fields``: what tenants defined, and what making a key a column takes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.cli.conftest import Cli

from tallystick import Custom, CustomFieldType, Entity, PersonalCustom, Rules, Tallystick
from tallystick.domains.identity.custom_fields import CustomFields
from tallystick.session import Session
from tallystick.settings import Settings

T = CustomFieldType


class Parcel(Entity):
    """A parcel whose tenants add to it."""

    custom: Custom = msgspec.field(default_factory=dict)
    custom_personal: PersonalCustom | None = None

    rules = Rules(table="cli_parcel", retain="operations")


ENTITIES = [Parcel]


@pytest.fixture
def defined(data_dir: Path, cli: Cli) -> Iterator[str]:
    """Two tenants that agree on one field and not on another; the server is other tests' too, so the table goes."""

    async def define() -> None:
        settings = Settings.load({}, data_dir=data_dir)
        async with Tallystick.open(settings=settings, entities=ENTITIES) as tally:
            await tally.migrate()
            for slug, kind in (("left", T.TEXT), ("right", T.INTEGER)):
                await tally.tenants.create(f"fields-{slug}", name=slug)
                async with tally.session(f"fields-{slug}", actor="test", permissions=("*",)) as db:
                    await _define(db, kind)

    asyncio.run(define())
    app = "tests.cli.test_fields:ENTITIES"
    yield app
    assert cli("rollback", "--yes", "--branch", "declared", "--app", app).code == 0


async def _define(db: Session, kind: CustomFieldType) -> None:
    fields: CustomFields = db.custom_fields
    await fields.define(Parcel, "region", T.CHOICE, choices=["north", "south"], required=True)
    await fields.define(Parcel, "weight", kind, maximum=90)
    await fields.define(Parcel, "sender", T.TEXT, personal=True)


def test_fields_are_listed_and_promoted_only_where_tenants_agree(cli: Cli, defined: str) -> None:
    app = ("--app", defined)
    said = cli("fields", "list", "--tenant", "fields-left", "--json", *app)
    assert said.code == 0, said.err
    assert [(f["name"], f["type"], f["words"]) for f in said.document["fields"]] == [
        ("region", "choice", "required, north, south"),
        ("sender", "text", "personal"),
        ("weight", "text", "… to 90"),
    ]
    assert "region" in cli("fields", "list", *app).out
    said = cli("fields", "promote", "cli_parcel.custom.region", "--json", *app)
    assert said.code == 0, said.err
    assert said.document["tenants"] == 2
    assert 'Json(promote={"region": str})' in said.document["declaration"]
    assert 'Index("custom_region"' in cli("fields", "promote", "Parcel.custom.region", *app).out
    for path, code, says in REFUSED:
        said = cli("fields", "promote", path, *app)
        assert said.code == code, said.err
        assert says.lower() in said.err.lower()


REFUSED = (
    ("cli_parcel.custom.weight", 5, "different kinds"),
    ("cli_parcel.custom.sender", 2, "personal"),
    ("cli_parcel.custom.nothing", 4, "No tenant has"),
    ("cli_parcel.custom_personal.sender", 4, "no entity"),
    ("nothing", 4, "no entity"),
)
