"""The community that is planted, and its loans on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Cli


@pytest.fixture
def planted(cli: Cli, data_dir: Path) -> Cli:
    assert cli("seed", "community").code == 0
    return cli


def test_the_community_is_planted_once(planted: Cli) -> None:
    again = planted("seed", "community", "--json").document["planted"]
    assert [(p["seed"], p["added"]) for p in again] == [("tenants", 0)] * 2 + [("community", 0)] * 2
    found = planted("loans", "list", "--tenant", "harbour", "--limit", "50", "--json").document
    assert found["total"] == len(found["loans"]) == 18
    statuses = {one["status"] for one in found["loans"]}
    assert statuses >= {"funding", "approved", "active", "closed", "written_off"}
    late = planted("loans", "list", "--tenant", "harbour", "--late", "--json").document["loans"]
    assert late
    assert all(one["status"] == "active" and one["oldest_due"] for one in late)


def test_pages_of_loans(planted: Cli) -> None:
    first = planted("loans", "list", "--tenant", "sunrise", "--limit", "10", "--json").document
    second = planted(
        "loans", "list", "--tenant", "sunrise", "--limit", "10", "--after", first["next"], "--json"
    ).document
    assert [one["number"] for one in first["loans"] + second["loans"]] == list(range(18, 0, -1))
    assert planted("loans", "list", "--tenant", "sunrise", "--status", "lost").code == 2
    assert "18 of 18 loans" in planted("loans", "list", "--tenant", "sunrise").out


def test_a_payment_by_hand_and_its_reversal(planted: Cli) -> None:
    where = ("--tenant", "sunrise")
    number = str(planted("loans", "list", *where, "--late", "--json").document["loans"][0]["number"])
    before = planted("loans", "show", number, *where, "--json").document
    quote = planted("loans", "payoff", number, *where, "--json").document
    assert float(quote["total"].split()[0]) <= float(before["outstanding"].split()[0])
    paid = planted("loans", "repay", number, "10.00", *where, "--key", "by hand", "--json").document
    again = planted("loans", "repay", number, "10.00", *where, "--key", "by hand", "--json").document
    assert (paid["replayed"], again["replayed"], paid["transaction"]) == (False, True, again["transaction"])
    after = planted("loans", "show", number, *where, "--json").document
    assert len(after["transactions"]) == len(before["transactions"]) + 1
    seq = str(after["transactions"][-1]["seq"])
    assert planted("loans", "reverse", number, seq, *where, "--key", "undo").code == 0
    undone = planted("loans", "show", number, *where, "--json").document
    assert (undone["outstanding"], undone["oldest_due"]) == (before["outstanding"], before["oldest_due"])
    assert "(reversed)" in planted("loans", "show", number, *where).out


def test_wrong_payments(planted: Cli) -> None:
    where = ("--tenant", "sunrise", "--key", "x")
    assert planted("loans", "repay", "4000", "1.00", *where).code == 4
    assert planted("loans", "repay", "3", "1.005", *where).code == 2
    assert planted("loans", "repay", "3", "much", *where).code == 2
    said = planted("loans", "repay", "1", "1.00", *where)
    assert (said.code, "funding" in said.err) == (5, True)
