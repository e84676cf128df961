"""``tallystick privacy``: a person's export, hold and erasure; the sweep that explains itself; the replay."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from uuid import uuid4

import pytest
from tests.cli.conftest import Cli

from tallystick import Tallystick, User
from tallystick.domains.catalog import DOMAINS
from tallystick.schema.migrate import migrate
from tallystick.schema.provision import provision
from tallystick.settings import Settings
from tallystick.stores.embedded.server import EmbeddedServer


@pytest.fixture
def slug(cli: Cli, data_dir: Path) -> str:
    return "sunrise"


@pytest.fixture
def zoe(slug: str, data_dir: Path) -> str:
    """The id of a user who was just added."""

    async def add() -> str:
        async with (
            Tallystick.open(settings=Settings.load({}, data_dir=data_dir)) as tally,
            tally.session(slug, actor="test", permissions=("*",)) as db,
        ):
            return str((await db.users.add(User(email=f"zoe-{uuid4().hex}@example.org", first_name="Zoe"))).id)

    return asyncio.run(add())


def test_a_persons_way_out(cli: Cli, slug: str, data_dir: Path, tmp_path: Path, zoe: str) -> None:
    named = ("--tenant", slug)
    why = (*named, "--reason", "ticket 91")
    done = cli("privacy", "export", zoe, str(tmp_path / "zoe"), *why)
    assert done.code == 0, done.err
    assert "user_account.jsonl" in done.out
    assert json.loads((tmp_path / "zoe" / "user_account.jsonl").read_text())["first_name"] == "Zoe"
    assert cli("privacy", "check", str(tmp_path / "zoe")).code == 0
    assert cli("privacy", "check", str(tmp_path / "zoe"), "--key", "00" * 32).code == 8
    assert cli("privacy", "export", zoe, str(tmp_path / "zoe"), *why).code == 2
    held = cli("privacy", "hold", zoe, *named, "--matter", "2026-1", "--json").document["hold"]
    assert cli("privacy", "erase", zoe, *why, "--yes").code == 3
    assert cli("privacy", "release", held, *why).code == 0
    assert cli("privacy", "restrict", zoe, *named, "--ground", "because").code == 2
    assert cli("privacy", "restrict", zoe, *named, "--ground", "unlawful").code == 0
    assert cli("privacy", "lift", zoe, *why).code == 0
    erased = cli("privacy", "erase", zoe, *why, "--yes")
    assert erased.code == 0, erased.err
    assert "identity" in erased.out
    assert "final when key epoch" in erased.out
    assert "1002.12" in cli("privacy", "policies", *named).out
    assert cli("privacy", "sweep", *named, "--explain").out.endswith("Nothing is due.\n")
    assert cli("privacy", "sweep", *named, "--yes", "--json").document["persons"] == 0
    replayed = cli("privacy", "replay", "--json").document["tenants"]
    assert [r["lines"] for r in replayed if r["tenant"] == slug] == [1]
    assert cli("privacy", "offboard", str(tmp_path / "all"), *why).code == 2


def test_a_masked_copy(cli: Cli, slug: str, server: EmbeddedServer, zoe: str, tmp_path: Path) -> None:
    async def other() -> str:
        await server.ensure_database("staging")
        url = server.url("admin", "staging")
        passwords = {f"{role}_password": server.password(role) for role in ("app", "seal")}  # type: ignore[arg-type]
        await provision(url, created_by_us=True, **passwords)  # type: ignore[arg-type]
        await migrate(url, domains=DOMAINS)
        return url

    url = asyncio.run(other())
    given = ("--tenant", slug, "--into", url, "--as", "copy", "--keys", str(tmp_path / "staging.key"))
    done = cli("privacy", "mask", *given, "--json")
    assert done.code == 0, done.err
    assert done.document["slug"] == "copy"
    assert done.document["rows"]["user_account"] > 1
    assert done.document["values"] > done.document["rows"]["user_account"]
    again = cli("privacy", "mask", *given)
    assert again.code == 5
    assert "Choose another slug" in again.err
