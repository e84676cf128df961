"""The public vectors of transparency-dev/merkle, 98 of inclusion and 98 of consistency, and every byte of their proofs.

The vectors are read from ``$TALLYSTICK_SHARED`` or from ``shared`` beside the checkout, and belong to neither.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from tallystick.audit.merkle import verify_consistency, verify_inclusion

SHARED = Path(os.environ.get("TALLYSTICK_SHARED") or Path(__file__).resolve().parents[3] / "shared")
VECTORS = SHARED / "vectors" / "merkle"

pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason="no Merkle vectors (vectors/merkle) in the shared folder")


def _cases(kind: str) -> dict[str, dict[str, Any]]:
    folder = VECTORS / kind
    return {str(file.relative_to(folder)): json.loads(file.read_text()) for file in sorted(folder.rglob("*.json"))}


def _bytes(text: str | None) -> bytes:
    return b64decode(text or "")


def _proof(case: dict[str, Any]) -> list[bytes]:
    return [_bytes(part) for part in case["proof"] or []]


def _included(case: dict[str, Any], proof: list[bytes]) -> bool:
    return verify_inclusion(_bytes(case["leafHash"]), case["leafIdx"], case["treeSize"], proof, _bytes(case["root"]))


def _consistent(case: dict[str, Any], proof: list[bytes]) -> bool:
    return verify_consistency(case["size1"], case["size2"], _bytes(case["root1"]), _bytes(case["root2"]), proof)


VERIFY = {"inclusion": _included, "consistency": _consistent}


@pytest.mark.parametrize("kind", VERIFY)
def test_vectors(kind: str) -> None:
    cases = _cases(kind)
    assert len(cases) == 98
    wrong = [name for name, case in cases.items() if VERIFY[kind](case, _proof(case)) == case["wantErr"]]
    assert not wrong


@pytest.mark.parametrize("kind", VERIFY)
def test_every_byte_of_every_proof_counts(kind: str) -> None:
    flipped = 0
    for name, case in _cases(kind).items():
        proof = _proof(case)
        for place, part in enumerate(proof):
            for byte in range(len(part)):
                other = part[:byte] + bytes([part[byte] ^ 1]) + part[byte + 1 :]
                mutated = [*proof[:place], other, *proof[place + 1 :]]
                # A few of the vectors are good proofs with one bit flipped: flipping it back makes them good again.
                if VERIFY[kind](case, mutated):
                    assert case["wantErr"], (name, place, byte)
                    assert "bit" in name, (name, place, byte)
                flipped += 1
    assert flipped > 1000
