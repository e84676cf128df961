"""Savings groups on the command line: the seed, the report with its picture, the data set, the demo's story."""

from __future__ import annotations

import time
from pathlib import Path

from tests.cli.conftest import Cli
from tests.cli.test_portfolio import picture
from tests.reference.test_mozambique import FOLDER, GOOD, HEAD, real

from tallystick.app import Tallystick
from tallystick.cli.circle_pictures import overview_picture
from tallystick.cli.demo_circles import WORKERS, save
from tallystick.domains.savings.groups import SavingsGroup
from tallystick.domains.savings.overview import Overview
from tallystick.money import Money


def test_the_report_says_where_every_group_stands(cli: Cli, data_dir: Path) -> None:
    groups = cli("report", "circles", "--tenant", "sunrise", "--json").document["groups"]
    told = {g["name"].removeprefix("Seed circle: "): g for g in groups}
    assert {name: (g["status"], g["round"], g["rounds"]) for name, g in told.items()} == {
        "Friday market": ("active", 5, 8),
        "Weavers": ("active", 3, 5),
        "Taxi rank": ("active", 2, 4),
        "Night school": ("recruiting", 0, 0),
    }
    friday, weavers = told["Friday market"], told["Weavers"]
    assert (friday["received"], friday["in_debt"]) == (4, 0)
    # Five of eight have paid for the fifth round; a hundredth of four pots of 200 was kept.
    assert [friday[n] for n in ("paid_in", "paid_out", "fees", "held")] == ["92500", "79200", "800", "12500"]
    assert (weavers["in_debt"], weavers["owed"]) == (1, "2500")
    said = cli("report", "circles", "--tenant", "sunrise")
    assert said.code == 0
    assert "Weavers" in said.out


def test_a_group_is_drawn_round_by_round(cli: Cli, data_dir: Path) -> None:
    said = cli("report", "circles", "--tenant", "harbour", "--group", "weavers")
    assert said.code == 0
    assert "received, in debt" in said.out
    drawn = cli("report", "circles", "--tenant", "harbour", "--group", "weavers", "--json").document
    assert [r["recipient"] for r in drawn["rounds"]] == [1, 2, 3, 4, 5]
    assert drawn["rounds"][1]["contributions"]["1"] == "defaulted"
    assert cli("report", "circles", "--tenant", "harbour", "--group", "nobody's").code == 2
    assert cli("report", "circles", "--tenant", "harbour", "--group", "Seed").code == 2


def test_pictures_of_all_groups_and_of_one(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    place = tmp_path / "all.svg"
    said = cli("report", "circles", "--tenant", "sunrise", "--svg", str(place))
    assert f"Picture: {place}" in said.out
    told = "".join(picture(place).itertext())
    assert "Seed circle: Weavers" in told
    assert "925.00 USD, round 5 of 8" in told
    assert "Seed circle: Weavers, owed: 25.00 USD" in told
    options = ("--tenant", "sunrise", "--svg", str(place), "--json")
    assert cli("report", "circles", "--group", "weavers", *options).document["svg"] == str(place)
    root = picture(place)
    told = "".join(root.itertext())
    assert told.count("receives the pot") == 5
    assert told.count("round 2: paid") == 4
    assert "member 1, round 2: defaulted" in told
    assert cli("report", "circles", "--group", "night", *options).code == 0
    assert "3 members; nothing paid yet" in "".join(picture(place).itertext())
    assert cli("report", "circles", "--tenant", "sunrise", "--svg", str(tmp_path / "no" / "x.svg")).code == 6


def test_pictures_of_nothing_much_and_of_too_much(tmp_path: Path) -> None:
    place = tmp_path / "x.svg"
    place.write_text(overview_picture([], "nobody"))
    assert "There are no groups." in "".join(picture(place).itertext())
    largest = 2**256 - 1
    many = [group_of(f"{n} {'long ' * 18}", "TOKEN", largest) for n in range(130)]
    place.write_text(overview_picture(many, "somebody"))
    told = "".join(picture(place).itertext())
    assert "and 30 more" in told
    assert "1.15792e+77 units" in told


def group_of(name: str, asset: str, units: int) -> Overview:
    group = SavingsGroup(name=name.strip(), asset=asset, contribution_amount=1, frequency_days=7, max_members=2)
    money, nothing = Money(units, asset), Money(0, asset)
    return Overview(group=group, paid_in=money, paid_out=nothing, fees=nothing, owed=money, in_debt=0, received=0)


def test_a_file_of_savings(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    assert cli("load", "savings-groups", str(tmp_path)).code == 2
    file = tmp_path / "few.csv"
    file.write_text("\n".join([HEAD, *GOOD]))
    found = cli("load", "savings-groups", str(file), "--tenant", "few", "--json").document
    assert (found["households"], found["groups_added"], found["contributions_added"]) == (2, 1, 2)
    assert "1413.00" in cli("load", "savings-groups", str(file), "--tenant", "few").out
    assert cli("report", "circles", "--tenant", "few", "--group", "10").code == 0


@real
def test_the_published_table_is_printed(cli: Cli, data_dir: Path) -> None:
    found = cli("load", "savings-groups", str(FOLDER), "--json").document
    assert [q["mean"] for q in found["quarters"]] == ["200.153", "930.211", "1496.056", "1725.210"]
    assert found["groups_added"] == 42
    assert "1725.210" in cli("load", "savings-groups", str(FOLDER)).out


async def test_the_story_is_true_and_quick(tally: Tallystick, tenant: str) -> None:
    started = time.monotonic()
    story = await save(tally, tenant)
    assert time.monotonic() - started < 15  # under 3 s on a quiet machine
    assert story.held
    assert (story.asked, story.payouts, len(set(story.received))) == (5 * WORKERS, 5, 5)
    assert str(story.claim) == "250.00 USD"
