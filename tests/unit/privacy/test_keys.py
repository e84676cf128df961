"""Key providers: separation, files, and silence (attack E14 of the security page)."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import stat
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallystick.errors import Denied, Invalid, Unavailable
from tallystick.privacy.envelope import open_, seal
from tallystick.privacy.keys import DevelopmentKeys, KeyProvider, LocalKeys

ROOT = bytes(range(32))
ONE, TWO = UUID(int=1), UUID(int=2)
PLACES = [(ONE, "user", "ssn"), (TWO, "user", "ssn"), (ONE, "loan", "ssn"), (ONE, "user", "phone"),
          (ONE, "users", "sn"), (ONE, "use", "rssn"), (ONE, "", "userssn"), (ONE, "userssn", "")]  # fmt: skip


def test_every_column_of_every_tenant_has_keys_of_its_own() -> None:
    keys = LocalKeys(ROOT)
    ids = {keys.data_key(*place).key_id for place in PLACES}
    indexes = {keys.index_key(*place) for place in PLACES}
    assert len(ids) == len(indexes) == len(PLACES)
    assert all(len(index) == 32 for index in indexes)


def test_the_derivation_is_the_written_one() -> None:
    """HKDF-SHA256 over length-prefixed parts, so that a key can be derived again without this code."""
    parts = (b"tallystick/1/index", ONE.bytes, b"user", b"ssn")
    info = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    wanted = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(ROOT)
    assert LocalKeys(ROOT).index_key(ONE, "user", "ssn") == wanted


def test_data_and_index_keys_are_unrelated() -> None:
    from tallystick.privacy.envelope import DataKey

    keys = LocalKeys(ROOT)
    assert DataKey(keys.index_key(*PLACES[0])).key_id != keys.data_key(*PLACES[0]).key_id


def test_the_same_root_opens_what_it_sealed() -> None:
    envelope = seal(LocalKeys(ROOT).data_key(*PLACES[0]), b"value", b"aad")
    assert open_(LocalKeys(ROOT).data_key(*PLACES[0]), envelope, b"aad") == b"value"


def test_keys_are_cached_and_the_cache_is_bounded() -> None:
    keys = LocalKeys(ROOT)
    assert keys.data_key(*PLACES[0]) is keys.data_key(*PLACES[0])
    info: Any = keys._data
    assert info.cache_info().maxsize == 4096
    for number in range(4200):
        keys.index_key(UUID(int=number), "user", "ssn")
    info = keys._index
    assert info.cache_info().currsize == 4096


@pytest.mark.parametrize("root", [b"", bytes(31), bytes(33), bytes(32), b"\xff" * 32, "x" * 32, None, bytearray(ROOT)])
def test_roots_that_are_none(root: Any) -> None:
    with pytest.raises(Invalid):
        LocalKeys(root)


def test_development_keys_say_so_and_are_the_same_everywhere() -> None:
    provider: KeyProvider = DevelopmentKeys()
    assert provider.development
    assert not LocalKeys(ROOT).development
    assert LocalKeys(ROOT, development=True).development
    assert DevelopmentKeys().index_key(*PLACES[0]) == provider.index_key(*PLACES[0])


def test_the_development_root_is_refused_as_a_real_one(tmp_path: Path) -> None:
    from tallystick.privacy.keys import _DEVELOPMENT_ROOT

    file = _file(tmp_path, _DEVELOPMENT_ROOT)
    for act in (lambda: LocalKeys(_DEVELOPMENT_ROOT), lambda: LocalKeys.from_file(file)):
        with pytest.raises(Invalid, match="development"):
            act()


@pytest.mark.parametrize("keys", [LocalKeys(ROOT), DevelopmentKeys()])
def test_e14_a_provider_shows_nothing_of_its_root(keys: LocalKeys) -> None:
    keys.data_key(*PLACES[0])
    keys.index_key(*PLACES[0])
    shown = repr(keys) + str(keys) + repr([getattr(keys, slot) for slot in LocalKeys.__slots__])
    assert ROOT.hex() not in shown
    assert repr(ROOT)[2:20] not in shown
    assert not hasattr(keys, "__dict__")
    assert ROOT not in [getattr(keys, slot) for slot in LocalKeys.__slots__]
    for act in (
        lambda: pickle.dumps(keys),
        lambda: copy.copy(keys),
        lambda: copy.deepcopy(keys),
        lambda: keys.__getstate__(),
    ):
        with pytest.raises(Denied):
            act()


def test_a_dropped_provider_is_collected() -> None:
    import weakref

    keys = LocalKeys(ROOT)
    keys.data_key(*PLACES[0])
    gone = weakref.ref(keys.data_key)
    del keys
    gc.collect()
    assert gone() is None


def _file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "root key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


class TestFiles:
    @pytest.mark.parametrize(
        "content", [ROOT, ROOT.hex().encode(), ROOT.hex().upper().encode(), ROOT.hex().encode() + b"\n"]
    )
    @pytest.mark.parametrize("mode", [0o600, 0o400])
    def test_read(self, tmp_path: Path, content: bytes, mode: int) -> None:
        keys = LocalKeys.from_file(_file(tmp_path, content, mode))
        assert keys.index_key(*PLACES[0]) == LocalKeys(ROOT).index_key(*PLACES[0])
        assert not keys.development

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610, 0o601, 0o602, 0o777])
    def test_others_must_have_no_rights(self, tmp_path: Path, mode: int) -> None:
        with pytest.raises(Invalid, match="0600"):
            LocalKeys.from_file(_file(tmp_path, ROOT, mode))

    @pytest.mark.parametrize(
        "content",
        [b"", ROOT[:31], ROOT + b"\n", ROOT.hex().encode()[:-2], ROOT.hex().encode() + b"\n\n", b"zz" * 32,
         b"0x" + b"1" * 62, b" " + ROOT.hex().encode(), bytes(10_000), bytes(32), b"0" * 64],
    )  # fmt: skip
    def test_content(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(Invalid) as caught:
            LocalKeys.from_file(_file(tmp_path, content))
        assert ROOT.hex()[:16] not in str(caught.value)
        assert "LocalKeys.create" in str(caught.value)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(Unavailable, match="create"):
            LocalKeys.from_file(tmp_path / "none")
        with pytest.raises(Unavailable):
            LocalKeys.from_file("a\x00b")

    def test_not_a_regular_file(self, tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo, 0o600)
        for path in (fifo, tmp_path, Path("/dev/null")):
            with pytest.raises(Invalid):
                LocalKeys.from_file(path)

    def test_a_link_to_a_private_file_is_followed(self, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(_file(tmp_path, ROOT))
        assert LocalKeys.from_file(str(link)).index_key(*PLACES[0])

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
    def test_the_file_of_another_user(self, tmp_path: Path) -> None:
        path = _file(tmp_path, ROOT)
        os.chown(path, 12345, -1)
        with pytest.raises(Invalid, match="owner"):
            LocalKeys.from_file(path)

    def test_create(self, tmp_path: Path) -> None:
        path = tmp_path / "root.key"
        before = os.umask(0)
        try:
            made = LocalKeys.create(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [entry.name for entry in tmp_path.iterdir()] == ["root.key"]
        assert LocalKeys.from_file(path).index_key(*PLACES[0]) == made.index_key(*PLACES[0])

    def test_create_makes_another_key_each_time(self, tmp_path: Path) -> None:
        first, second = (LocalKeys.create(tmp_path / name).index_key(*PLACES[0]) for name in ("a", "b"))
        assert first != second

    def test_create_never_replaces(self, tmp_path: Path) -> None:
        path = _file(tmp_path, ROOT)
        with pytest.raises(Invalid, match="exists"):
            LocalKeys.create(path)
        assert path.read_bytes() == ROOT
        dangling = tmp_path / "dangling"
        dangling.symlink_to(tmp_path / "nowhere")
        with pytest.raises(Invalid, match="exists"):
            LocalKeys.create(dangling)
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dangling", "root key"]

    def test_create_where_nothing_can_be_written(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none" / "key", Path("a\x00b")):
            with pytest.raises(Unavailable):
                LocalKeys.create(path)
