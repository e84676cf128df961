"""A root key behind Tink: the same store of epochs, errors of the service told in ours, nothing of it shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tallystick.errors import Erased, Tampered, Unavailable
from tallystick.privacy.envelope import open_, seal
from tallystick.privacy.key_store import KeyFolder
from tallystick.privacy.keys import RootKey, StoredKeys
from tallystick.privacy.kms import TinkRoot

tink: Any = pytest.importorskip("tink", reason="the extra kms is not installed (pip install 'tallystick[kms]')")
aead: Any = pytest.importorskip("tink.aead")

ONE, TWO = UUID(int=1), UUID(int=2)


@pytest.fixture(scope="module")
def service() -> Any:
    """A key of Tink's own, as a service would hold it."""
    aead.register()
    return tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM)


def root_of(service: Any) -> TinkRoot:
    return TinkRoot(service.primitive(aead.Aead))


def test_it_is_a_root_key(service: Any) -> None:
    root: RootKey = root_of(service)
    wrapped = root.wrap(bytes(range(32)), b"context")
    assert root.unwrap(wrapped, b"context") == bytes(range(32))
    assert not root.development
    with pytest.raises(Tampered, match="does not open"):
        root.unwrap(wrapped, b"another")
    with pytest.raises(Tampered):
        root.unwrap(wrapped[:-1], b"context")


def test_epochs_and_index_keys_over_it(service: Any, tmp_path: Path) -> None:
    one, other = (StoredKeys(root_of(service), KeyFolder(tmp_path)) for _ in range(2))
    assert one.begin_epoch(ONE) == 1
    envelope = seal(one.epoch_key(ONE, 1), b"value", b"")
    assert open_(other.epoch_key(ONE, 1), envelope, b"") == b"value"
    assert one.index_key(ONE, "user", "ssn") == other.index_key(ONE, "user", "ssn")
    assert one.index_key(TWO, "user", "ssn") != other.index_key(ONE, "user", "ssn")
    assert one.index_key(ONE, "user", "ssn", 2) != other.index_key(ONE, "user", "ssn")
    other.end_epoch(ONE, 1)
    with pytest.raises(Erased):
        one.epoch_key(ONE, 1)


def test_another_key_of_the_service(service: Any, tmp_path: Path) -> None:
    StoredKeys(root_of(service), KeyFolder(tmp_path)).begin_epoch(ONE)
    aead.register()
    stranger = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM)
    with pytest.raises(Tampered, match="root key"):
        StoredKeys(root_of(stranger), KeyFolder(tmp_path)).epoch_key(ONE, 1)


class Failing:
    """A service that does not answer, or says more than it should."""

    def __init__(self, words: str) -> None:
        self.words = words

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        raise tink.TinkError(self.words)

    def decrypt(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        raise tink.TinkError(self.words)


@pytest.mark.parametrize("words", ["UNAVAILABLE: secret.example:443", "Deadline Exceeded", "request throttled"])
def test_a_service_that_does_not_answer(words: str) -> None:
    root = TinkRoot(Failing(words))
    for act in (lambda: root.wrap(bytes(32), b""), lambda: root.unwrap(bytes(60), b"")):
        with pytest.raises(Unavailable) as caught:
            act()
        assert "example" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
    assert repr(root) == "TinkRoot()"
