"""init, provision and the migration commands, on the embedded server and on one that has an owner."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.cli.conftest import Cli

from tallystick.domains.catalog import DOMAINS
from tallystick.privacy.keys import LocalKeys
from tallystick.settings import connect_args
from tallystick.stores.embedded.server import EmbeddedServer

ENTITY = """
from tallystick import Entity, Index, Money, Ref, Rules, Tallystick, User

class Visit(Entity):
    \"\"\"A field visit.\"\"\"
    borrower: Ref[User]
    fee: Money
    {more}
    rules = Rules(Index("created_at", query="visits by time"), retain="lending")

entities = [Visit]
tally = Tallystick.open(domains=["identity"], entities=[Visit])
"""


@pytest.fixture
def own(fresh: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module with an entity of one's own in the current directory."""
    name = f"own_{abs(hash(request.node.nodeid)) % 10**9}"
    (fresh / f"{name}.py").write_text(textwrap.dedent(ENTITY.format(more="")))
    monkeypatch.chdir(fresh)
    return name


def test_init_makes_everything_and_a_second_time_nothing(cli: Cli, fresh: Path) -> None:
    first = cli("init", "--data-dir", str(fresh / "d"), "--json").document
    assert first["provisioned"] is None
    branches = dict.fromkeys(r.rpartition("_")[0] for r in first["migrated"]["revisions"])
    assert set(branches) == {"kit", *DOMAINS}
    second = cli("init", "--data-dir", str(fresh / "d"))
    assert (second.code, second.out) == (0, "The database was up to date.\n")
    assert "provisioned" in cli("provision", "--data-dir", str(fresh / "d")).out


def test_status_rollback_migrate(cli: Cli, fresh: Path) -> None:
    place = ("--data-dir", str(fresh / "d"))
    assert cli("migrate", *place, "--domains", "identity").code == 0
    status = {b["branch"]: b for b in cli("status", *place, "--json").document["branches"]}
    assert status["identity"]["pending"] == []
    assert status["underwriting"]["applied"] == []
    said = cli("status", "--check", *place)
    assert said.code == 1
    assert "tallystick migrate" in said.out
    assert cli("status", "--check", *place, "--domains", "identity").code == 0

    refused = cli("rollback", *place)
    assert refused.code == 2
    assert "--yes" in refused.err
    assert cli("rollback", "--yes", *place, "--json").document["revisions"] == status["identity"]["applied"][-1:]
    assert cli("rollback", "--yes", "--branch", "nope", *place).code == 2
    for branch in ["identity"] * (len(status["identity"]["applied"]) - 1) + ["kit"] * 4:
        assert cli("rollback", "--yes", *place).out.startswith(f"Taken back from {branch}")
    assert cli("rollback", "--yes", *place).code == 4
    assert cli("migrate", "--domains", "nope", *place).code == 2
    assert cli("migrate", "--to", "nope", *place).code == 2


def test_an_entity_of_ones_own_is_migrated_linted_shown_and_changed(cli: Cli, own: str, fresh: Path) -> None:
    app = ("--app", f"{own}:entities", "--data-dir", str(fresh / "d"))
    assert cli("init", *app, "--json").document["migrated"]["tables"] == ["visit"]
    assert cli("schema", "lint", *app).code == 0
    assert "tally.visit" in cli("schema", "show", "Visit", *app).out
    declared = {b["branch"]: b for b in cli("status", *app, "--json").document["branches"]}["declared"]
    assert declared["applied"] == ["visit"]

    (fresh / f"{own}2.py").write_text(textwrap.dedent(ENTITY.format(more="place: int = 0")))
    changed = ("--app", f"{own}2:entities", "--data-dir", str(fresh / "d"))
    unsafe = cli("migrate", *changed)
    assert unsafe.code == 7
    assert "tallystick revision" in unsafe.err
    findings = cli("schema", "lint", *changed, "--json")
    assert findings.code == 1
    assert "drift-missing-column" in {f["code"] for f in findings.document["findings"]}
    assert cli("schema", "lint", *changed).out.endswith("findings.\n")

    assert "--revisions" in cli("revision", "-m", "a place", *changed).err
    folder = ("--revisions", str(fresh / "migrations"))
    files = cli("revision", "-m", "a place", *changed, *folder, "--json").document["files"]
    assert all(Path(file).read_text().startswith('"""a place') for file in files)
    applied = cli("migrate", *changed, *folder, "--json").document["revisions"]
    assert applied == [f"app_{n:04}" for n in range(1, len(files) + 1)]
    assert cli("schema", "lint", *changed, *folder).code == 0
    assert cli("revision", "-m", "nothing", *changed, *folder, "--json").document["files"] == []
    assert cli("revision", "-m", "x", "--fill", "nonsense", *changed, *folder).code == 2
    back = cli("rollback", "--yes", "--steps", str(len(files)), *changed, *folder, "--json").document
    assert (back["branch"], back["revisions"]) == ("app", applied[::-1])
    assert cli("rollback", "--yes", *changed, *folder, "--json").document["tables"] == ["visit"]


def test_an_application_that_describes_itself(cli: Cli, own: str, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYSTICK_APP", f"{own}:tally")
    done = cli("init", "--data-dir", str(fresh / "d"), "--json").document["migrated"]
    assert [r.rpartition("_")[0] for r in done["revisions"]] == ["kit"] * 4 + ["identity"] * 4
    assert done["tables"] == ["visit"]


def test_provision_prints_sql_and_touches_nothing(cli: Cli) -> None:
    text = cli("provision", "--sql", "--database", "books", "--admin", "owner")
    assert text.code == 0
    assert text.out.startswith("-- ")
    assert "'books'" in text.out
    assert cli("provision", "--sql", "--json").document["sql"].startswith("-- ")
    joins = cli("provision", "--sql", "--join", "shop", "--refer", "user_account").out
    assert 'GRANT tally_app TO "shop" WITH INHERIT FALSE, SET TRUE;' in joins
    assert 'GRANT REFERENCES (tenant_id, id) ON tally."user_account" TO "shop";' in joins
    assert cli("provision", "--sql", "--join", "tally_owner").code == 2
    assert cli("provision", "--refer", "user_account").code == 2


@pytest.fixture
def elsewhere(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, fresh: Path) -> str:
    """A database of somebody else's server: its owner's URL, and the application's with a password of its choice."""
    name = f"cli_{fresh.name.rpartition('-')[2].lower()}"
    asyncio.run(server.ensure_database(name))
    admin = server.url("admin", name)
    account = urlsplit(admin).netloc.partition("@")[0]
    monkeypatch.setenv("TALLYSTICK_ADMIN_URL", admin)
    monkeypatch.setenv("TALLYSTICK_ROLE_PREFIX", "cli_test")
    monkeypatch.setenv("DATABASE_URL", admin.replace(account, "cli_test_app:chosen"))
    return admin


def test_a_server_with_an_owner(cli: Cli, elsewhere: str, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("migrate").code == 3
    assert cli("status", "--check").code == 1
    monkeypatch.setenv("PASSWORD", "chosen")
    said = cli("init", "--app-password-env", "PASSWORD")
    assert said.code == 0, said.err
    assert "cli_test_seal has no password" in said.out or "in place" in said.out
    assert "chosen" not in said.out + said.err
    healthy = cli("health", "--json")
    assert healthy.code == 0, healthy.out
    assert (healthy.document["role"], healthy.document["embedded"]) == ("cli_test_app", False)
    assert healthy.document["budget"]["fits"] is True
    monkeypatch.setenv("WEB_CONCURRENCY", "5000")
    crowded = cli("health", "--json")
    assert (crowded.code, crowded.document["budget"]["needed"]) == (0, 50_000)
    assert "raise max_connections" in crowded.document["warnings"][0]
    monkeypatch.delenv("WEB_CONCURRENCY")
    assert cli("provision", "--json").document["created_roles"] == []
    joins = cli("provision", "--join", connect_args(elsewhere)["user"], "--refer", "user_account", "--json")
    assert (joins.code, joins.document["refers"]) == (0, ["user_account"]), joins.err
    assert cli("provision", "--join", "nobody_of_that_name").code == 2
    assert cli("provision", "--join", "cli_test_app").code == 2
    assert cli("provision", "--app-password-env", "NOT_SET").code == 2
    assert cli("schema", "lint").code == 0
    assert cli("tenants", "create", "blue", "--name", "Blue").code == 0

    refused = cli("seed")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert cli("seed", "users", "--yes").code == 6
    LocalKeys.create(fresh / "key")
    monkeypatch.setenv("TALLYSTICK_KEY_FILE", str(fresh / "key"))
    assert cli("seed", "users", "--yes").code == 0

    monkeypatch.delenv("DATABASE_URL")
    assert cli("migrate").out == "The database was up to date.\n"
    assert cli("status", "--check").code == 0
    superior = cli("health", "--url", elsewhere)
    assert superior.code == 1
    assert "CREATEROLE" in superior.out


def test_the_password_in_the_url_becomes_that_of_a_role_it_makes(
    cli: Cli, elsewhere: str, monkeypatch: pytest.MonkeyPatch, fresh: Path
) -> None:
    prefix = f"cli_{fresh.name.rpartition('-')[2].lower()}"
    account = urlsplit(elsewhere).netloc.partition("@")[0]
    monkeypatch.setenv("TALLYSTICK_ROLE_PREFIX", prefix)
    monkeypatch.setenv("DATABASE_URL", elsewhere.replace(account, f"{prefix}_app:from-the-url"))
    made = cli("provision", "--json")
    assert made.code == 0, made.err
    assert made.document["passwords_set"] == [f"{prefix}_app"]
    assert made.document["roles_without_password"] == [f"{prefix}_seal"]
    assert cli("migrate").code == 0
    assert cli("health").code == 0
