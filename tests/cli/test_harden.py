"""harden: a key made or given, run again, undone, and said what is missing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.cli.conftest import Cli

from tallystick.stores.embedded import EmbeddedServer


@pytest.fixture
def elsewhere(server: EmbeddedServer, fresh: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migrated database of a server that has an owner."""
    name = f"cli_{fresh.name.rpartition('-')[2].lower()}"
    asyncio.run(server.ensure_database(name))
    admin = server.url("admin", name)
    account = urlsplit(admin).netloc.partition("@")[0]
    monkeypatch.setenv("TALLYSTICK_ADMIN_URL", admin)
    monkeypatch.setenv("TALLYSTICK_ROLE_PREFIX", "cli_harden")
    monkeypatch.setenv("DATABASE_URL", admin.replace(account, "cli_harden_app:chosen"))
    monkeypatch.setenv("PASSWORD", "chosen")
    made = cli("init", "--app-password-env", "PASSWORD", "--domains", "identity")
    assert made.code == 0, made.err


@pytest.mark.usefixtures("elsewhere")
def test_there_and_back(cli: Cli, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("harden").code == 2, "no key"
    key = fresh / "tenant.key"
    said = cli("harden", "--new-key", str(key))
    assert said.code == 0, said.err
    assert f"TALLYSTICK_TENANT_KEY_FILE={key}" in said.out
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text().strip() not in said.out + said.err
    assert cli("harden", "--new-key", str(key)).code == 2, "a key is never replaced"
    assert cli("tenants", "--domains", "identity").code != 0, "an application without the key"
    monkeypatch.setenv("TALLYSTICK_TENANT_KEY_FILE", str(key))
    again = cli("harden", "--json")
    assert again.document == {"hardened": True, "changed": False, "policies": 0}
    assert cli("tenants", "create", "blue", "--name", "Blue", "--domains", "identity").code == 0
    assert cli("migrate", "--domains", "identity").code == 0
    linted = cli("schema", "lint", "--domains", "identity")
    assert linted.code == 0, linted.out
    assert cli("harden", "--undo", "--new-key", str(key)).code == 2
    assert cli("harden", "--undo", "--json").document["hardened"] is False
    refused = cli("tenants", "create", "red", "--name", "Red", "--domains", "identity")
    assert refused.code == 2
    assert "tallystick harden" in refused.err


def test_it_needs_the_admin_url(cli: Cli, fresh: Path) -> None:
    assert cli("harden", "--data-dir", str(fresh / "d")).code == 3
