"""Vaults on the command line: the seed, the report with its picture, the data sets, the demo's story."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Cli
from tests.cli.test_portfolio import picture

from tallystick.app import Tallystick
from tallystick.cli.demo_vaults import WORKERS, guard

_HERE = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("TALLYSTICK_SHARED", _HERE.parent / "shared")) / "data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="no data in TALLYSTICK_SHARED or ../shared beside the checkout")


def test_the_report_says_how_vaults_stand(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "health.svg"
    found = cli("report", "vaults", "--tenant", "sunrise", "--svg", str(file), "--json").document
    assert sum(t["vaults"] for t in found["totals"]) == 36
    assert sum(b["vaults"] for b in found["health"]) > 20
    assert found["alerts"]
    healths = [float(v["health_factor"]) for v in found["worst"]]
    assert healths == sorted(healths)
    assert "may be liquidated" in "".join(picture(file).itertext())
    said = cli("report", "vaults", "--tenant", "harbour")
    assert said.code == 0
    assert "by health factor" in said.out
    assert cli("seed", "vaults", "--json").document["planted"][-1]["added"] == 0


def test_files_that_are_not_there(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    for name in ("aave-reserves", "aave-positions", "aave-liquidations", "market-data"):
        assert cli("load", name, str(tmp_path), "--tenant", "nothing").code == 2


@real
def test_reserves_and_liquidations(cli: Cli, data_dir: Path) -> None:
    said = cli("load", "aave-reserves", str(SHARED))
    assert said.code == 0
    assert "Exactly one parameter has changed" in said.out
    assert "interestRateStrategy" in said.out
    said = cli("load", "aave-liquidations", str(SHARED))
    assert "Two scales are mixed in one column: 6,231 rows in base units" in " ".join(said.out.split())


@real
def test_borrowers_and_prices(cli: Cli, data_dir: Path) -> None:
    said = cli("load", "aave-positions", str(SHARED / "aave_v2_positions"))
    assert "within 0.005 in 522 of 522 rows" in said.out
    said = cli("load", "market-data", str(SHARED / "crypto_daily"))
    assert "2,160 prices" in said.out
    assert cli("report", "vaults", "--tenant", "aave-v2").code == 0


async def test_the_story_of_the_demo_is_short_and_holds(tally: Tallystick, tenant: str) -> None:
    started = time.monotonic()
    story = await guard(tally, tenant)
    assert time.monotonic() - started < 15  # under 3 s on a quiet machine
    assert story.held
    assert [f.delivered for f in story.falls] == [WORKERS] * 3
    assert (story.tried, story.liquidated) == (WORKERS, 1)
