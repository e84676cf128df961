"""Project Wycheproof's vectors through the primitives as they are used here: AES-GCM, Ed25519, HMAC and HKDF.

The vectors are read from ``$TALLYSTICK_SHARED`` or from ``shared`` beside the checkout, and belong to neither.
"""

from __future__ import annotations

import hmac
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from tallystick.errors import Invalid, Tampered
from tallystick.privacy.blind import blind_index
from tallystick.privacy.envelope import DataKey, _decrypt, _encrypt

SHARED = Path(os.environ.get("TALLYSTICK_SHARED") or Path(__file__).resolve().parents[3] / "shared")
VECTORS = SHARED / "vectors" / "wycheproof" / "testvectors_v1"

pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason="no Wycheproof vectors in the shared folder")


def _groups(name: str = "aes_gcm_test") -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())["testGroups"]
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


def test_ed25519() -> None:
    """As checkpoints and exports are verified: an invalid signature is refused, whatever is wrong with it."""
    good = bad = 0
    for group in _groups("ed25519_test"):
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(group["publicKey"]["pk"]))
        for case in group["tests"]:
            try:
                key.verify(bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
                good += 1
                assert case["result"] == "valid", case["tcId"]
            except InvalidSignature:
                bad += 1
                assert case["result"] == "invalid", case["tcId"]
    assert (good > 50, bad > 50) == (True, True)


def test_hmac_sha256() -> None:
    """As blind indexes use it, truncated to whole bytes too."""
    checked = 0
    for group in _groups("hmac_sha256_test"):
        for case in group["tests"]:
            tag = hmac.digest(bytes.fromhex(case["key"]), bytes.fromhex(case["msg"]), "sha256")
            same = hmac.compare_digest(tag[: group["tagSize"] // 8], bytes.fromhex(case["tag"]))
            assert same == (case["result"] == "valid"), case["tcId"]
            checked += 1
    assert checked == 174


def test_blind_indexes_are_that_hmac() -> None:
    checked = 0
    for group in _groups("hmac_sha256_test"):
        for case in group["tests"]:
            key, message = bytes.fromhex(case["key"]), bytes.fromhex(case["msg"])
            if len(key) < 32 or not message or not message.isascii() or case["result"] != "valid":
                continue
            index = blind_index(key, "exact", message.decode(), group["tagSize"])
            assert index == bytes.fromhex(case["tag"])
            checked += 1
    assert checked


def test_hkdf_sha256() -> None:
    """As index keys are derived, and as far as the commitment of a data key is."""
    checked = expanded = 0
    for group in _groups("hkdf_sha256_test"):
        for case in group["tests"]:
            ikm, salt, info = (bytes.fromhex(case[name]) for name in ("ikm", "salt", "info"))
            if case["result"] != "valid":
                with pytest.raises(ValueError, match=r"[Ll]ength|large|long"):
                    HKDF(algorithm=SHA256(), length=case["size"], salt=salt, info=info).derive(ikm)
                continue
            wanted = bytes.fromhex(case["okm"])
            assert HKDF(algorithm=SHA256(), length=case["size"], salt=salt or None, info=info).derive(ikm) == wanted
            pseudorandom = hmac.digest(salt or bytes(32), ikm, "sha256")
            assert HKDFExpand(algorithm=SHA256(), length=case["size"], info=info).derive(pseudorandom) == wanted
            checked, expanded = checked + 1, expanded + 1
    assert checked > 50
    assert expanded == checked
