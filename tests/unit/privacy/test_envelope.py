"""Envelopes: format, refusals, and what keeps them in their place (attacks E1, E3, E4 of the security page)."""

from __future__ import annotations

import copy
import os
import pickle
import uuid
from itertools import permutations, product
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tallystick.errors import Denied, Invalid, Tampered
from tallystick.ids import uuid7
from tallystick.privacy.envelope import OVERHEAD, DataKey, associated_data, key_id_of, length_prefixed, open_, seal

MATERIAL = bytes(range(32))
KEY = DataKey(MATERIAL)
TENANT, ROW, SUBJECT = uuid7(), uuid7(), uuid7()
AAD = associated_data(TENANT, "user", "national_id", ROW, SUBJECT)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1024, 1_000_000])
def test_round_trip(size: int) -> None:
    plaintext = os.urandom(size)
    envelope = seal(KEY, plaintext, AAD)
    assert len(envelope) == size + OVERHEAD == size + 46
    assert open_(KEY, envelope, AAD) == plaintext


def test_the_format_is_the_written_one() -> None:
    """Opened by hand from the layout alone, so that another program can."""
    envelope = seal(KEY, b"hello", AAD)
    key_id = HKDFExpand(algorithm=SHA256(), length=16, info=b"commit").derive(MATERIAL)
    assert envelope[:2] == b"\x01\x01"
    assert envelope[2:18] == key_id == key_id_of(envelope) == KEY.key_id
    assert AESGCM(MATERIAL).decrypt(envelope[18:30], envelope[30:], envelope[:18] + AAD) == b"hello"


def test_every_flipped_byte_is_refused() -> None:
    envelope = seal(KEY, b"a national id", AAD)
    for at, mask in product(range(len(envelope)), (0x01, 0x80, 0xFF)):
        changed = bytearray(envelope)
        changed[at] ^= mask
        with pytest.raises(Tampered):
            open_(KEY, bytes(changed), AAD)


def test_every_truncation_and_extension_is_refused() -> None:
    envelope = seal(KEY, b"a national id", AAD)
    for size in range(len(envelope)):
        with pytest.raises(Tampered):
            open_(KEY, envelope[:size], AAD)
        with pytest.raises(Tampered):
            open_(KEY, envelope[len(envelope) - size :], AAD)
    with pytest.raises(Tampered):
        open_(KEY, envelope + b"\x00", AAD)


@pytest.mark.parametrize("size", [8, 11, 13, 16])
def test_a_nonce_of_another_length_is_refused(size: int) -> None:
    nonce = os.urandom(size)
    header = b"\x01\x01" + KEY.key_id
    with pytest.raises(Tampered):
        open_(KEY, header + nonce + AESGCM(MATERIAL).encrypt(nonce, b"a national id", header + AAD), AAD)


@pytest.mark.parametrize("value", [None, "text", bytearray(60), memoryview(bytes(60)), 5])
def test_what_is_no_envelope(value: Any) -> None:
    with pytest.raises(Tampered):
        open_(KEY, value, AAD)
    with pytest.raises(Tampered):
        key_id_of(value)


def test_e1_a_ciphertext_moved_to_another_place_is_refused() -> None:
    places = [
        associated_data(tenant, table, column, row, subject)
        for tenant, table, column, row, subject in product(
            (TENANT, uuid7()), ("user", "loan"), ("national_id", "phone"), (ROW, uuid7()), (SUBJECT, None, uuid7())
        )
    ]
    assert len(set(places)) == len(places)
    envelopes = {place: seal(KEY, b"value", place) for place in places}
    for mine, other in permutations(places, 2):
        with pytest.raises(Tampered):
            open_(KEY, envelopes[mine], other)


def test_e1_names_that_only_join_to_the_same_text_are_different_places() -> None:
    assert associated_data(TENANT, "ab", "c", ROW, None) != associated_data(TENANT, "a", "bc", ROW, None)
    assert associated_data(TENANT, "a|b", "c", ROW, None) != associated_data(TENANT, "a", "b|c", ROW, None)
    assert associated_data(TENANT, "a", "b", ROW, None) != associated_data(TENANT, "a", "b", ROW, uuid.UUID(int=0))


def test_e3_nonces_do_not_repeat() -> None:
    nonces = {seal(KEY, b"", b"")[18:30] for _ in range(100_000)}
    assert len(nonces) == 100_000


def test_e3_a_forked_child_has_other_nonces() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"".join(seal(KEY, b"", b"")[18:30] for _ in range(100)))
        os._exit(0)
    mine = {seal(KEY, b"", b"")[18:30] for _ in range(100)}
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    assert len(data) == 1200
    assert not mine & {data[at : at + 12] for at in range(0, len(data), 12)}


def test_e4_another_key_is_told_before_anything_is_decrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bytes:
        raise AssertionError("decrypted under a key that did not seal it")

    envelope = seal(KEY, b"value", AAD)
    other = DataKey(os.urandom(32))
    monkeypatch.setattr("tallystick.privacy.envelope._decrypt", never)
    with pytest.raises(Tampered, match="another key"):
        open_(other, envelope, AAD)


def test_e4_another_key_under_the_right_id_is_refused() -> None:
    other = DataKey(os.urandom(32))
    envelope = seal(other, b"value", AAD)
    with pytest.raises(Tampered):
        open_(KEY, envelope[:2] + KEY.key_id + envelope[18:], AAD)


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("value", [0, 2, 255])
def test_unknown_versions_and_algorithms(at: int, value: int) -> None:
    changed = bytearray(seal(KEY, b"value", AAD))
    changed[at] = value
    with pytest.raises(Tampered, match="unknown"):
        open_(KEY, bytes(changed), AAD)


@pytest.mark.parametrize("material", [b"", bytes(16), bytes(31), bytes(33), "x" * 32, None, bytearray(32)])
def test_keys_of_the_wrong_size(material: Any) -> None:
    with pytest.raises(Invalid):
        DataKey(material)


def test_e14_a_key_shows_nothing_of_itself() -> None:
    material = os.urandom(32)
    key = DataKey(material)
    assert material.hex() not in repr(key) + str(key)
    assert len(repr(key)) < 40
    assert not hasattr(key, "__dict__")
    for slot in DataKey.__slots__:
        assert getattr(key, slot) != material
    for act in (
        lambda: pickle.dumps(key),
        lambda: copy.copy(key),
        lambda: copy.deepcopy(key),
        lambda: key.__getstate__(),
    ):
        with pytest.raises(Denied):
            act()


def test_no_message_holds_a_byte_of_what_was_given() -> None:
    with pytest.raises(Tampered) as caught:
        open_(KEY, seal(KEY, b"canary", AAD), b"elsewhere")
    assert "canary" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_length_prefixed() -> None:
    assert length_prefixed() == b""
    assert length_prefixed(b"", b"a") == b"\x00\x00\x00\x00\x00\x00\x00\x01a"
