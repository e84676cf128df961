"""``load lending-club`` and ``load berka`` from the command line, on small files of the same form."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Cli
from tests.reference import test_berka as bank
from tests.reference import test_lending_club as club


def test_lending_club(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    assert cli("load", "lending-club", str(tmp_path)).code == 2
    odd = club.altered("installment", "40.10").replace("7,", "8,", 1)
    late = club.altered("loan_status", "Late (31-120 days)").replace("7,", "9,", 1)
    club.write(tmp_path, club.LINE, odd, late)
    said = cli("load", "lending-club", str(tmp_path), "--tenant", "club").out
    assert "3 loans added to club" in said
    assert "Flagged: row 8 has an installment of 40.10 USD; its annuity is 40.15 USD." in said
    assert "the trial balance is zero" in said
    again = cli("load", "lending-club", str(tmp_path), "--tenant", "club")
    assert "0 loans added (3 of 3 were there already) to club" in again.out
    document = cli("load", "lending-club", str(tmp_path), "--tenant", "club", "--json").document
    assert (document["records"], document["added"], document["annuities_agree"]) == (3, 0, 2)
    assert document["late"][0] == {"days": 0, "loans": 1, "principal": "1116.93 USD"}
    assert document["balanced"] is True
    risk = cli("report", "par", "--tenant", "club", "--on", "2018-06-30", "--json")
    assert risk.code == 0
    assert cli("report", "trial-balance", "--tenant", "club").code == 0


def test_lending_club_damaged(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    club.write(tmp_path, club.altered("balance", "-1"))
    said = cli("load", "lending-club", str(tmp_path), "--tenant", "nobody")
    assert said.code == 2
    assert "Line 2" in said.err
    assert "nobody" not in cli("tenants").out


def test_berka(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    assert cli("load", "berka", str(tmp_path)).code == 2
    bank.write(tmp_path)
    said = cli("load", "berka", str(tmp_path), "--tenant", "bank").out
    assert "1 loans added, 2 clients and 1 accounts, to bank." in said
    assert "the trial balance is zero" in said
    document = cli("load", "berka", str(tmp_path), "--tenant", "bank", "--json").document
    assert (document["records"], document["added"], document["clients_added"]) == (1, 0, 0)
    assert document["groups"] == {"female": [0, 1], "male": [0, 0]}
