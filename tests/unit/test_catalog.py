"""Domains come with what they need."""

from __future__ import annotations

from pathlib import Path

import pytest

import tallystick.domains
from tallystick import Invalid
from tallystick.domains.catalog import DOMAINS, chosen

HERE = Path(tallystick.domains.__file__).parent


def keyed(domain: str) -> bool:
    return any("idempotent(" in file.read_text() for file in (HERE / domain).rglob("*.py"))


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_that_takes_keys_comes_with_where_they_are_kept(domain: str) -> None:
    found = chosen([domain])
    assert {"identity", domain} <= set(found)
    assert not keyed(domain) or "ledger" in found


def test_underwriting_takes_keys() -> None:
    assert keyed("underwriting")
    assert chosen("underwriting") == ("identity", "underwriting", "ledger")


def test_no_such_domain() -> None:
    with pytest.raises(Invalid, match="There is no domain"):
        chosen(["ledgers"])
