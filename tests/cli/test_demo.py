"""The demo: what it shows is true, what it tries is stopped, and nothing stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Cli, process

from tallystick.app import Tallystick
from tallystick.cli.demo_tries import Told
from tallystick.cli.demo_underwriting import TASKS, Desk, underwrite
from tallystick.cli.demo_underwriting import document as document_of
from tallystick.cli.demo_view import short
from tallystick.cli.demo_wall import Crossing, cross
from tallystick.domains.underwriting.decisions import Decision
from tallystick.domains.underwriting.fairness import FlagState
from tallystick.settings import Settings


def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    running = process(*arguments, **environment)
    out, err = running.communicate(timeout=240)
    return running.returncode, out, err


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A temporary directory of the test's own, so that what is left in it is the demo's."""
    made = Path(tempfile.mkdtemp(prefix="tallystick-cli-"))
    made.chmod(0o711)
    monkeypatch.setenv("TMPDIR", str(made))
    yield made
    shutil.rmtree(made)


def test_the_whole_demo(place: Path) -> None:
    import json

    started = time.monotonic()
    code, out, err = run("demo", "--json", DATABASE_URL="postgresql://nobody@127.0.0.1:1/x", TALLYSTICK_DATA_DIR="/no")
    assert (code, err) == (0, "")
    assert time.monotonic() - started < 100  # under 10 s on a quiet machine
    document = json.loads(out)
    assert document["held"] is True, [t for t in document["underwriting"]["told"] if not t["good"]]
    assert {c["way"] for c in document["crossings"]} == {1, 2, 3, 4, 5}
    assert all(c["stopped"] for c in document["crossings"])
    assert {c["answer"] for c in document["crossings"]} >= {"NotFound", "WrongTenant", "UnknownReference", "Invalid"}
    own, other = document["statistics"]
    assert (own["tenant"], own["total"], other["total"]) == ("sunrise", 1000, 250)
    assert own["approved"] + own["declined"] + own["pending"] == own["total"]
    assert document["page"]["total"] == own["approved"] + own["declined"]
    for item in document["page"]["items"]:
        assert item["ssn"].startswith("••••")
        assert item["applicant"].endswith(".")
    forgotten = document["forgotten"]
    assert forgotten["held"] is True
    assert forgotten["final"] == "when key epoch 1 ends"
    assert {"identity", "lending"} <= set(forgotten["erased"])
    assert all(s["good"] for s in forgotten["steps"])
    lending = document["lending"]
    assert (lending["deliveries"], lending["payments"]) == (32, 1)
    assert lending["trial_balance"]["balanced"] is True
    assert lending["trial_balance"]["difference"] == "0.00 USD"
    before, after, undone = lending["par"]
    assert float(before["par_1"]["ratio"]) == float(undone["par_30"]["ratio"]) == 1
    assert float(after["par_1"]["ratio"]) == 0
    assert [e["outstanding"] for e in lending["events"]][1:] == ["918.06 USD", "612.04 USD", "306.02 USD", "618.16 USD"]
    assert document["underwriting"]["held"] is True
    by_sex = document["fairness"][0]
    assert by_sex["by"] == "sex"
    assert sum(g["approved"] for g in by_sex["groups"]) <= own["approved"]
    assert list(place.iterdir()) == []


def test_it_fits_eighty_columns_shows_no_person_and_is_kept_where_it_says(place: Path) -> None:
    code, out, err = run("demo", "--keep", COLUMNS="80")
    assert (code, err) == (0, "")
    (kept,) = place.iterdir()
    shown = [line for line in out.splitlines() if str(kept) not in line]
    assert max(map(len, shown)) <= 80
    assert "All 10 attempts, five ways, were stopped." in out
    assert "••••" in out
    assert "666-" not in out
    assert f"Kept in {kept}" in out
    code, out, err = run("report", "statistics", "--tenant", "sunrise", "--data-dir", str(kept))
    assert code == 0, err
    row = next(line for line in out.splitlines() if "sunrise" in line).replace(",", "").split()
    total, *parts = map(int, row[1:5])
    # The seed's thousand, and what the stories of underwriting and fairness added.
    assert total > 1_000
    assert sum(parts) == total


def _catches(process: int, kind: signal.Signals) -> bool:
    """Whether a process has a handler for the signal; on a busy machine the interpreter may still be starting."""
    status = Path(f"/proc/{process}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (kind - 1) & 1)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.0, 0.5, 1.5])
def test_ended_early_it_leaves_nothing(place: Path, kind: signal.Signals, after: float) -> None:
    running = process("demo")
    while not _catches(running.pid, signal.SIGTERM):
        assert running.poll() is None
        time.sleep(0.01)
    time.sleep(after)
    running.send_signal(kind)
    _, err = running.communicate(timeout=240)
    assert running.returncode in ({signal.SIGINT: 130, signal.SIGTERM: 143}[kind], 0)
    assert "Traceback" not in err
    assert list(place.iterdir()) == []


def test_data_that_is_not_there_starts_no_server(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr("tallystick.stores.embedded.server.EmbeddedServer.start", lambda *given: started.append(given))
    assert cli("demo", "--data", str(tmp_path)).code == 2
    assert started == []


def test_a_wall_that_breaks_and_a_story_that_is_not_right_fail_the_command(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> list[Crossing]:
        return [Crossing(way=1, tried="read", answer="worked: Application", stopped=False)]

    async def twice(*_: object) -> Desk:
        return Desk(told=[Told(tried="16 decide at once", answer="2 final decisions", good=False)])

    monkeypatch.setattr("tallystick.cli.demo_wall.cross", broken)
    monkeypatch.setattr("tallystick.cli.demo_underwriting.underwrite", twice)
    said = cli("demo")
    assert said.code == 1
    assert "THE WALL BROKE" in said.out
    assert "CROSSED" in said.out
    assert "2 final decisions" in said.out
    assert "A DECISION, A TASK OR A FLAG IS WRONG" in said.out


async def test_within_one_tenant_the_same_attempts_go_through(data_dir: Path) -> None:
    """The attempts are real ones: where there is no wall between, they reach the row."""
    settings = Settings.load({}, data_dir=Path(os.environ["TALLYSTICK_DATA_DIR"]))
    async with Tallystick.open(settings=settings) as tally:
        inside = await cross(tally, "harbour", "harbour")
        across = await cross(tally, "sunrise", "harbour")
    assert all(c.stopped for c in across)
    through = {(c.way, c.tried) for c in inside if not c.stopped}
    assert {way for way, _ in through} == {1, 2, 3, 4, 5}
    # What holds within a tenant too: an outdated version, SQL without any tenant.
    assert len(through) >= 8


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ada Okafor", "Ada O."),
        ("Ana Maria Silva", "Ana Maria S."),
        ("Made-up 0007", "Made-up 0007"),
        ("Prince", "Prince"),
    ],
)
def test_names_are_shortened(name: str, shown: str) -> None:
    assert short(name) == shown


async def test_the_story_of_underwriting_is_true_and_quick(tally: Tallystick, tenant: str) -> None:
    started = time.monotonic()
    story = await underwrite(tally, tenant)
    assert time.monotonic() - started < 15  # under 3 s on a quiet machine
    assert story.held, [t for t in story.told if not t.good]
    assert not Desk().held
    told = document_of(story)
    assert [(b["when"], b["branch"], b["decided"], b["approved"]) for b in told["branches"]] == [
        ("before", "north", 40, 30),
        ("before", "south", 40, 18),
        ("after", "north", 40, 30),
        ("after", "south", 80, 56),
    ]
    async with tally.session(tenant, actor="test", permissions=()) as db:
        assert await db.reviews.count() == 2
        assert await db.decisions.count(Decision.is_final == True) >= 2 + 120  # noqa: E712
        assert sum(d.tasks_started for d in await db.devices.find()) == TASKS
        (flag,) = await db.fairness.find()
        assert (flag.decided, flag.selected, flag.state) == (40, 18, FlagState.MITIGATED)
