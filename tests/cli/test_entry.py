"""How the command line starts and ends: what it imports, its exit codes, and what it says when something is wrong."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, process

import tallystick
from tallystick import errors
from tallystick.cli import exits
from tallystick.cli.entry import execute

HEAVY = ("sqlalchemy", "alembic", "asyncpg", "cryptography", "msgspec", "uuid_utils", "asyncio", "tallystick.app")


def loaded_by(*arguments: str) -> set[str]:
    program = (
        "import sys\nfrom tallystick.cli import main\n"
        f"try: main({list(arguments)!r})\nexcept SystemExit: pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["schema", "--help"], ["demo", "--help"], ["nope"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert not loaded_by(*arguments) & set(HEAVY)


def test_importing_the_package_imports_no_command_line() -> None:
    program = "import sys, tallystick.cli; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"typer", "rich", *HEAVY}


def test_help_names_every_command(cli: Cli) -> None:
    said = cli("--help")
    assert said.code == 0
    names = "demo init provision harden migrate rollback revision status seed load report tenants health schema shell"
    for name in names.split():
        assert f" {name} " in said.out


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"tallystick {tallystick.__version__}\n"


def test_every_error_has_an_exit_code() -> None:
    kinds = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.TallystickError)]
    for kind in kinds:
        code = exits.code_of(kind("x"))
        assert code == exits.BUG if kind is errors.TallystickError else code in range(2, 10), kind
        assert f"{code:4}  " in (exits.__doc__ or "")
    assert exits.code_of(errors.NotMigrated("x")) == exits.code_of(errors.WrongTenant("x")) == 3
    assert exits.code_of(errors.UnknownReference("x")) == exits.USAGE


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["seed", "--nope"], ["report", "statistics"], ["demo", "--data"], ["rollback", "--steps", "0"]],
)
def test_wrong_usage_is_one_line_and_code_2(cli: Cli, arguments: list[str]) -> None:
    said = cli(*arguments)
    assert said.code == 2
    assert said.err.startswith("tallystick: ")
    assert "--help" in said.err.splitlines()[-1]
    assert said.out == ""


def test_wrong_usage_with_json_is_a_document(cli: Cli) -> None:
    said = cli("seed", "--json", "--nope")
    assert said.code == 2
    assert said.document["error"]["code"] == "usage"


def test_an_error_is_a_line_a_remedy_and_with_json_a_document(cli: Cli, data_dir: Path) -> None:
    said = cli("report", "statistics", "--tenant", "nobody")
    problem, remedy = said.err.splitlines()
    assert said.code == 4
    assert problem == "tallystick: No tenant has this slug or id. [TS-1100]"
    assert remedy.startswith("  ")
    assert said.out == ""
    said = cli("report", "statistics", "--tenant", "nobody", "--json")
    assert said.document["error"]["code"] == "TS-1100"
    assert said.err.splitlines() == [problem, remedy]


def test_debug_shows_the_traceback(data_dir: Path) -> None:
    with pytest.raises(errors.NotFound):
        execute(["report", "statistics", "--tenant", "nobody", "--debug"])


def test_an_error_of_nobodys_is_called_a_bug_and_quotes_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a value of a person")

    monkeypatch.setattr("tallystick.cli.application.describe", broken)
    said = cli("schema", "show")
    assert said.code == exits.BUG
    assert "RuntimeError" in said.err
    assert "person" not in said.err


@pytest.mark.parametrize("arguments", [["status"], ["tenants"], ["report", "fairness", "--tenant", "x"], ["shell"]])
def test_looking_makes_no_server(cli: Cli, fresh: Path, arguments: list[str]) -> None:
    said = cli(*arguments, "--data-dir", str(fresh / "none"))
    assert said.code == 3
    assert "tallystick init" in said.err
    assert not (fresh / "none").exists()


def test_a_server_that_is_not_there(cli: Cli) -> None:
    said = cli("tenants", "--url", "postgresql://tally_app@127.0.0.1:1/x")
    assert said.code == 6
    assert "TS-2100" in said.err


def test_a_mode_that_is_not_verified_and_two_places_at_once(cli: Cli, fresh: Path) -> None:
    assert cli("tenants", "--url", "postgresql://a@db.example.org/x?sslmode=prefer").code == 2
    assert cli("tenants", "--url", "postgresql://a@localhost/x", "--data-dir", str(fresh)).code == 2


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nocolon", "module:attribute"),
        ("no_such_module_:x", "cannot be imported"),
        ("json:nothing", "does not have"),
        ("json:dumps", "neither"),
        ("antigravity.:x", "import"),
    ],
)
def test_an_application_that_is_none(cli: Cli, name: str, problem: str) -> None:
    said = cli("schema", "show", "--app", name)
    assert said.code == 2
    assert problem in said.err


def test_a_reader_that_closes_early_is_no_error() -> None:
    running = process("schema", "show", "--json")
    assert running.stdout is not None
    running.stdout.read(1)
    running.stdout.close()
    assert running.wait(timeout=120) == 0
    assert running.stderr is not None
    assert running.stderr.read() == ""
    running.stderr.close()


def test_a_terminal_that_knows_only_ascii(data_dir: Path) -> None:
    arguments = ["shell", "--tenant", "sunrise", "-c", "(await db.applications.find(limit=1))[0].ssn"]
    running = process(*arguments, TALLYSTICK_DATA_DIR=os.environ["TALLYSTICK_DATA_DIR"], PYTHONIOENCODING="ascii")
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert "????" in out
