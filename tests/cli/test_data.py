"""Seeds, data sets, tenants, reports, schema, health and the shell on a database with data."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Cli
from tests.cli.test_portfolio import picture

from tallystick.domains.underwriting import hmda
from tallystick.seeds import NAMES


def test_seeds_are_planted_once(cli: Cli, data_dir: Path) -> None:
    planted = cli("seed", "--json").document["planted"]
    assert [p["seed"] for p in planted[::2]] == list(NAMES)
    assert sum(p["added"] for p in planted) == 0
    assert {p["present"] for p in planted if p["seed"] == "applications"} == {1000, 250}
    assert [p["seed"] for p in cli("seed", "users", "--json").document["planted"]] == ["tenants"] * 2 + ["users"] * 2
    said = cli("seed", "nope")
    assert said.code == 2
    assert "applications" in said.err


def test_tenants(cli: Cli, data_dir: Path) -> None:
    assert cli("tenants", "create", "blue", "--name", "Blue Lending", "--plan", "pro").code == 0
    assert cli("tenants", "create", "blue", "--name", "Blue Lending").code == 5
    assert cli("tenants", "create", "Not A Slug", "--name", "x").code == 2
    assert cli("tenants", "create", "red", "--name", "x", "--plan", "nope").code == 2
    assert cli("tenants", "create", "red", "--name", "x", "--time-zone", "Mars/Base").code == 2
    assert "blue" in cli("tenants").out
    listed = cli("tenants", "--json").document["tenants"]
    assert {"blue", "sunrise", "harbour"} <= {t["slug"] for t in listed}
    assert "red" not in {t["slug"] for t in listed}


def test_statistics_are_those_of_the_rows(cli: Cli, data_dir: Path) -> None:
    found = cli("report", "statistics", "--tenant", "sunrise", "--json").document
    code = "[x.status.value async for x in db.applications.stream()]"
    statuses = cli("shell", "--tenant", "sunrise", "-c", code, "--json").document["value"]
    assert found["total"] == len(statuses) == 1000
    assert found["approved"] == statuses.count("approved")
    assert found["declined"] == statuses.count("declined")
    assert found["pending"] == 1000 - found["approved"] - found["declined"]
    risks = "[d.risk_score async for d in db.decisions.stream(Decision.is_final == True)]"
    scores = cli("shell", "--tenant", "sunrise", "-c", risks, "--json").document["value"]
    scores = [s for s in scores if s is not None]
    assert found["average_risk"] == pytest.approx(sum(scores) / len(scores))
    assert "1,000" in cli("report", "statistics", "--tenant", "sunrise").out
    later = cli("report", "statistics", "--tenant", "sunrise", "--since", "2999-01-01", "--json").document
    assert (later["total"], later["average_risk"]) == (0, None)
    assert cli("report", "statistics", "--tenant", "sunrise", "--until", "soon").code == 2


def test_fairness(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    found = cli("report", "fairness", "--tenant", "sunrise", "--by", "age_band", "--json").document
    young, old = found["groups"]
    assert found["reference"] == old["group"] == "over 25"
    assert young["rate"] == pytest.approx(young["approved"] / young["decided"])
    assert young["ratio"] == pytest.approx(young["rate"] / old["rate"])
    assert young["adverse"] is (young["ratio"] < 0.8)
    assert young["low"] < young["rate"] < young["high"]
    assert found["parity_ratio"] == pytest.approx(young["ratio"])
    assert [(f["group"], f["model"], f["state"]) for f in found["flags"]] == [
        ("25 and under", None, "open"),
        ("25 and under", "demo-scorecard-1", "acknowledged"),
    ]
    place = tmp_path / "fairness.svg"
    said = cli("report", "fairness", "--tenant", "sunrise", "--by", "age_band", "--svg", str(place))
    assert "Flag, open: 25 and under with" in said.out
    assert f"Picture: {place}" in said.out
    told = "".join(picture(place).itertext())
    assert "four fifths of the rate of over 25" in told
    assert "below four fifths" in told
    assert cli("report", "fairness", "--tenant", "sunrise", "--by", "shoe", "--svg", str(place)).code == 0
    assert "No decided application has the attribute shoe." in "".join(picture(place).itertext())
    asked = ("report", "fairness", "--tenant", "sunrise", "--by", "age_band", "--json")
    assert 0 < cli(*asked, "--model", "demo-scorecard-1").document["groups"][1]["decided"] < old["decided"]
    assert cli(*asked, "--since", "2999-01-01").document["groups"] == []
    said = cli("report", "fairness", "--tenant", "sunrise", "--by", "age_band", "--reference", "25 and under")
    assert said.code == 0
    assert "4/5 rule" in said.out
    assert "95 % interval" in said.out
    assert cli("report", "fairness", "--tenant", "sunrise", "--by", "sex", "--reference", "nobody").code == 2
    assert cli("report", "fairness", "--tenant", "sunrise", "--by", "x; drop").code == 2
    nothing = cli("report", "fairness", "--tenant", "sunrise", "--by", "shoe_size")
    assert (nothing.code, nothing.out) == (0, "No decided application has the attribute shoe_size.\n")


def test_hmda_is_loaded_once(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    rows = ("1,no,0.3,0.2,0.8,5,2,no,3.9,no,no,no,no,no,yes", "2,yes,0.4,0.2,0.8,5,2,no,3.9,no,no,no,yes,no,yes")
    (tmp_path / "HMDA.csv").write_text("\n".join((",".join(hmda.COLUMNS), *rows, "")))
    first, second = (cli("load", "hmda", str(tmp_path), "--json").document for _ in range(2))
    assert (first["added"], second["added"], second["denied"]) == (2, 0, 1)
    assert first["payment_to_income"] == "0.3500000"
    assert "2 records" in cli("load", "hmda", str(tmp_path)).out
    found = cli("report", "fairness", "--tenant", "hmda", "--by", "afam", "--json").document
    assert [g["approved"] for g in found["groups"]] == [1, 0]
    assert cli("load", "hmda", str(tmp_path / "none")).code == 2


def test_a_file_that_is_none(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    assert cli("load", "german-credit", str(tmp_path)).code == 2
    bad = tmp_path / "german.data"
    bad.write_text("A11 6 A34\n")
    said = cli("load", "german-credit", str(tmp_path), "--tenant", "mistaken")
    assert said.code == 2
    assert "Line 1" in said.err


def test_a_trust_network_is_loaded_and_its_shape_told(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    assert cli("load", "bitcoin-otc", str(tmp_path)).code == 2
    file = tmp_path / "soc-sign-bitcoinotc.csv"
    file.write_text("6,2,4,1289241911.72836\n2,6,-10,1289241942\n1,2,x,1289241942\n")
    damaged = cli("load", "bitcoin-otc", str(tmp_path), "--tenant", "otc")
    assert damaged.code == 2
    assert "Line 3" in damaged.err
    file.write_text("6,2,4,1289241911.72836\n2,6,-10,1289241942\n")
    said = cli("load", "bitcoin-otc", str(tmp_path), "--tenant", "otc", "--json").document
    assert (said["members"], said["edges_added"], said["positive_share"]) == (2, 2, "0.500000")
    assert (said["strong_components"], said["weak_components"]) == (1, 1)
    again = cli("load", "bitcoin-otc", str(tmp_path), "--tenant", "otc")
    assert "0 edges added to otc" in again.out
    assert "1 strong components" in again.out


def test_schema_show_reads_no_database(cli: Cli) -> None:
    shown = cli("schema", "show", "application", "--json").document["entities"]
    (application,) = shown
    columns = {c["name"]: c for c in application["columns"]}
    assert columns["ssn"]["privacy"] == "secret, sealed"
    assert columns["ssn_bidx"]["privacy"] == "blind index"
    assert columns["ssn_mask"]["privacy"] == "mask, encrypted"
    assert columns["full_legal_name"]["privacy"] == "personal, encrypted"
    assert columns["status"]["privacy"] == "plain"
    assert "applications of a period" in {i["serves"] for i in application["indexes"]}
    assert any("created -> submitted" in rule for rule in application["rules"])
    everything = cli("schema", "show")
    assert everything.code == 0
    for table in ("user_account", "wallet", "disclosure", "application", "decision"):
        assert f"(tally.{table})" in everything.out
    ddl = cli("schema", "show", "Decision", "--ddl").out
    assert 'CREATE TABLE "tally"."decision"' in ddl
    assert "FORCE ROW LEVEL SECURITY" in ddl
    assert cli("schema", "show", "Decision", "--ddl", "--json").document["ddl"] == ddl
    missing = cli("schema", "show", "Nothing")
    assert missing.code == 4
    assert "Application" in missing.err


def test_schema_lint_is_clean(cli: Cli, data_dir: Path) -> None:
    assert cli("schema", "lint").out == "No findings.\n"
    assert cli("schema", "lint", "--json").document == {"findings": []}


def test_health(cli: Cli, data_dir: Path, fresh: Path) -> None:
    found = cli("health", "--json")
    assert found.code == 0
    assert found.document["checks"] == {"server": "ok", "role": "ok", "schema": "ok"}
    assert found.document["server"].startswith("PostgreSQL ")
    assert found.document["embedded"] is True
    assert found.document["active_connections"] >= 1
    assert found.document["pool"]["max"] == 10
    assert cli("health").out.startswith("healthy")
    nowhere = cli("health", "--url", "postgresql://tally_app@127.0.0.1:1/x", "--json")
    assert nowhere.code == 1
    assert nowhere.document["healthy"] is False
    assert "reached" in nowhere.document["checks"]["server"]
    assert cli("health", "--data-dir", str(fresh / "none")).code == 1


def test_health_of_a_database_that_is_behind(cli: Cli, fresh: Path) -> None:
    place = ("--data-dir", str(fresh / "d"))
    assert cli("migrate", "--domains", "identity", *place).code == 0
    behind = cli("health", "--json", *place)
    assert behind.code == 1
    assert "underwriting" in behind.document["checks"]["schema"]


def test_shell_runs_code(cli: Cli, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("shell", "-c", "tally.server is not None").out == "True\n"
    assert cli("shell", "--tenant", "harbour", "-c", "await db.applications.count()", "--json").document == {
        "value": 250
    }
    assert cli("shell", "-c", "x = 1\nx += 1").out == ""
    assert cli("shell", "-c", "Application.table.name, usd('1').units").out == "('application', 100)\n"
    assert cli("shell", "-c", "this is no Python").code == 2
    assert cli("shell", "--tenant", "harbour", "-c", "await db.users.get(uuid7())").code == 4
    failed = cli("shell", "-c", "def f():\n    return 1 / 0\nf()")
    assert failed.code == 1
    assert failed.err.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert "shell.py" not in failed.err
    masked = "(await db.applications.find(limit=1))[0].ssn"
    assert cli("shell", "--tenant", "sunrise", "-c", masked, "--json").document["value"].startswith("••••")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n = await db.applications.count()\nif n:\n    n += 1\n\nn"))
    assert cli("shell", "--tenant", "sunrise").out == "1001\n"
