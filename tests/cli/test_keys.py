"""``tallystick keys``: status, a rotation to its end, verify, escrow and the way back, exit codes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from tests.cli.conftest import Cli

from tallystick import Tallystick, User
from tallystick.settings import Settings


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def slug(cli: Cli) -> str:
    """A tenant of the seeds that has people."""
    return "sunrise"


def test_a_rotation(cli: Cli, data_dir: Path) -> None:
    name = slug(cli)
    before = cli("keys", "status", "--tenant", name, "--json").document["tenants"][name]
    living = sum(e["live"] for e in before["epochs"])
    assert living > 0
    last = before["current"]
    assert cli("keys", "rotate", "--tenant", name, "--json").document == {"epochs": {name: last + 1}}
    refused = cli("keys", "destroy-epoch", str(last), "--tenant", name, "--yes")
    assert refused.code == 5
    assert "rewrap" in refused.err
    done = cli("keys", "rewrap", "--tenant", name)
    assert done.code == 0
    assert f"{living:,} keys wrapped anew in epoch {last + 1}" in done.out
    assert cli("keys", "destroy-epoch", str(last), "--tenant", name, "--json").code == 2
    ended = cli("keys", "destroy-epoch", str(last), "--tenant", name, "--yes")
    assert (ended.code, "has ended" in ended.out) == (0, True)
    shown = cli("keys", "status", "--tenant", name)
    assert "current" in shown.out
    assert "ended 20" in shown.out
    checked = cli("keys", "verify", "--tenant", name, "--json")
    assert checked.code == 0
    found = checked.document["tenants"][name]
    assert found["failures"] == []
    assert found["keys"] == {str(last + 1): min(living, 100)}
    assert found["values"] > 0


def test_a_blind_index_gets_a_new_key(cli: Cli, data_dir: Path) -> None:
    name = slug(cli)
    done = cli("keys", "rotate-index", "--tenant", name, "--column", "users.email", "--json")
    (one,) = done.document["tenants"][name]
    assert (one["table"], one["column"], one["generation"], one["rows"] > 0) == ("user_account", "email_bidx", 2, True)
    assert "user_account.email_bidx" in cli("keys", "status", "--tenant", name).out
    assert cli("keys", "rotate-index", "--tenant", name, "--column", "users.email").code == 5
    assert cli("keys", "rotate-index", "--tenant", name, "--column", "users.role").code == 2


def test_every_tenant_without_a_name(cli: Cli, data_dir: Path) -> None:
    names = {t["slug"] for t in cli("tenants", "--json").document["tenants"]}
    assert set(cli("keys", "status", "--json").document["tenants"]) == names
    assert cli("keys", "verify").code == 0


def test_a_closed_tenants_keys_are_kept_like_any_others(cli: Cli, data_dir: Path) -> None:
    name = f"closed-{uuid4().hex[:8]}"
    named = ("--tenant", name)

    async def close() -> None:
        async with Tallystick.open(settings=Settings.load({}, data_dir=data_dir)) as tally:
            await tally.tenants.create(name, name="A tenant")
            async with tally.session(name, actor="test", permissions=("*",)) as db:
                await db.users.add(User(first_name="Zoe"))
                await tally.tenants.update(db, is_active=False)

    asyncio.run(close())
    assert cli("keys", "rotate", *named, "--json").document == {"epochs": {name: 2}}
    assert cli("keys", "rewrap", "--json").document["tenants"][name]["done"] == 1
    assert cli("keys", "destroy-epoch", "1", *named, "--yes").code == 0
    found = cli("keys", "status", "--json").document["tenants"][name]
    assert [(e["epoch"], e["live"], e["ended"] is None) for e in found["epochs"]] == [(1, 0, False), (2, 1, True)]
    assert cli("fields", "list").code == 0
    assert cli("audit", "reconcile", *named).code == 0
    refused = cli("report", "par", *named)
    assert (refused.code, "tenants reopen" in refused.err) == (3, True)
    assert cli("tenants", "reopen", name, "--reason", "ticket 91").code == 0
    assert cli("report", "par", *named).code == 0


def test_a_tenant_that_left_is_passed_over(cli: Cli, data_dir: Path, place: Path) -> None:
    name = f"gone-{uuid4().hex[:8]}"
    assert cli("tenants", "create", name, "--name", "A tenant").code == 0
    why = ("--tenant", name, "--reason", "contract ended", "--yes")
    assert cli("privacy", "offboard", str(place / "all"), *why).code == 0
    assert name not in cli("keys", "verify", "--json").document["tenants"]
    assert cli("keys", "rotate", "--tenant", name).code == 8
    assert all(e["ended"] for e in cli("keys", "status", "--json").document["tenants"][name]["epochs"])
    assert cli("tenants", "reopen", name, "--reason", "a mistake").code == 8


def test_verify_finds_what_does_not_open(cli: Cli, data_dir: Path) -> None:
    name = slug(cli)
    tenant = next(t["id"] for t in cli("tenants", "--json").document["tenants"] if t["slug"] == name)
    current = cli("keys", "status", "--tenant", name, "--json").document["tenants"][name]["current"]
    file = data_dir / "keys" / tenant / f"epoch-{current:06d}.key"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        found = cli("keys", "verify", "--tenant", name)
    finally:
        file.write_bytes(content)
    assert found.code == 8
    assert "DOES NOT OPEN" in found.out


def test_escrow_and_back(cli: Cli, data_dir: Path, place: Path) -> None:
    name = slug(cli)
    for officer in ("one", "two"):
        assert cli("keys", "officer", str(place / officer)).code == 0
    public = [f"--to={place / officer}.pub" for officer in ("one", "two")]
    made = cli("keys", "escrow", str(place / "file"), *public, "--tenant", name)
    assert made.code == 0
    assert "all 2 officers" in made.out
    alone = cli("keys", "unescrow", str(place / "file"), f"--with={place / 'one'}")
    assert alone.code == 2
    both = [f"--with={place / officer}" for officer in ("one", "two")]
    back = cli("keys", "unescrow", str(place / "file"), *both, "--json").document
    assert back["restored"] == 0
    assert back["there"] >= 1
    tenant = next(t["id"] for t in cli("tenants", "--json").document["tenants"] if t["slug"] == name)
    for file in (data_dir / "keys" / tenant).glob("epoch-*.key"):
        file.unlink()
    assert cli("keys", "verify", "--tenant", name).code == 6
    assert cli("keys", "unescrow", str(place / "file"), *both, "--json").document["restored"] >= 1
    assert cli("keys", "verify", "--tenant", name).code == 0


def test_the_root_key_of_the_environment_is_for_the_embedded_server(
    cli: Cli, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLYSTICK_ROOT_KEY", "zz")
    assert cli("keys", "status").code == 2
    monkeypatch.setenv("TALLYSTICK_ROOT_KEY", bytes(range(32)).hex())
    refused = cli("keys", "status", "--url", "postgresql://nobody@127.0.0.1:1/none")
    assert refused.code == 3
    assert "TALLYSTICK_KEY_FILE" in refused.err


def test_neither_key_file_nor_folder_is_passed_over_on_the_embedded_server(
    cli: Cli, data_dir: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tallystick import LocalKeys

    def current() -> int | None:
        shown = cli("keys", "status", "--tenant", slug(cli), "--json")
        assert shown.code == 0, shown.err
        found: int | None = shown.document["tenants"][slug(cli)]["current"]
        return found

    assert current() is not None
    monkeypatch.setenv("TALLYSTICK_KEY_DIR", str(place / "elsewhere"))
    assert current() is None
    monkeypatch.delenv("TALLYSTICK_KEY_DIR")
    LocalKeys.create(place / "root")
    monkeypatch.setenv("TALLYSTICK_KEY_FILE", str(place / "root"))
    assert current() is None
    (place / "root").chmod(0o644)
    refused = cli("keys", "status")
    assert refused.code == 2
    assert "0600" in refused.err
