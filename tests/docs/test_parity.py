"""Every row of the parity page names a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\d\.\d\d) \|(.*)\|(.*)\|(.*)\|$", re.MULTILINE)
ROWS = ROW.findall((ROOT / "docs" / "parity.md").read_text())


def test_there_are_rows_and_none_twice() -> None:
    ids = [row[0] for row in ROWS]
    assert len(ids) > 20
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_proof_exists(row: tuple[str, str, str, str]) -> None:
    proofs = re.findall(r"`(tests/[^`]+)`", row[3])
    assert proofs, "the row names no test"
    assert "`" in row[2], "the row names no call"
    for proof in proofs:
        path, _, name = proof.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        if name:
            found = {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
            assert name in found, f"{path} has no test {name}"
