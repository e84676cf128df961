"""Project Wycheproof's AES-GCM vectors through the primitive that envelopes use.

The vectors are read from ``$TALLYSTICK_SHARED`` or from ``shared`` beside the checkout, and belong to neither.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tallystick.errors import Invalid, Tampered
from tallystick.privacy.envelope import DataKey, _decrypt, _encrypt

SHARED = Path(os.environ.get("TALLYSTICK_SHARED") or Path(__file__).resolve().parents[3] / "shared")
VECTORS = SHARED / "vectors" / "wycheproof" / "testvectors_v1" / "aes_gcm_test.json"

pytestmark = pytest.mark.skipif(
    not VECTORS.is_file(), reason=f"no Wycheproof vectors ({VECTORS.name}) in the shared folder"
)


def _groups() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = json.loads(VECTORS.read_text())["testGroups"]
    return groups


def test_aes_gcm() -> None:
    opened = refused = foreign = 0
    for group in _groups():
        for case in group["tests"]:
            key, nonce, plain, aad, cipher, tag = (
                bytes.fromhex(case[name]) for name in ("key", "iv", "msg", "aad", "ct", "tag")
            )
            aes = AESGCM(key)
            if len(nonce) != 12:
                # Valid or not, a nonce that envelopes never make is never opened.
                with pytest.raises(Tampered):
                    _decrypt(aes, nonce, cipher + tag, aad)
                foreign += 1
            elif case["result"] == "valid":
                assert _decrypt(aes, nonce, cipher + tag, aad) == plain, case["tcId"]
                assert _encrypt(aes, nonce, plain, aad) == cipher + tag, case["tcId"]
                opened += 1
            else:
                with pytest.raises(Tampered):
                    _decrypt(aes, nonce, cipher + tag, aad)
                refused += 1
    assert opened > 50
    assert refused > 50
    assert foreign > 50


def test_only_keys_of_256_bits_make_envelopes() -> None:
    sizes = {len(bytes.fromhex(case["key"])) for group in _groups() for case in group["tests"]}
    assert sizes == {16, 24, 32}
    for size in sizes - {32}:
        with pytest.raises(Invalid):
            DataKey(os.urandom(size))
