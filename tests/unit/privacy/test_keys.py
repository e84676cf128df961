"""Key providers: separation, files, and silence (attack E14 of the security page)."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import stat
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

import tallystick
from tallystick.errors import Denied, Erased, Invalid, Serialization, Tampered, Unavailable, Unsupported
from tallystick.privacy.envelope import DataKey, open_, seal
from tallystick.privacy.key_store import KeyFolder
from tallystick.privacy.keyring import VIEW_SECONDS, Keyring
from tallystick.privacy.keys import DevelopmentKeys, KeyProvider, LocalKeys, StoredKeys

ROOT = bytes(range(32))
OURS = str(Path(tallystick.__file__).parent)
ONE, TWO = UUID(int=1), UUID(int=2)
PLACES = [(ONE, "user", "ssn"), (TWO, "user", "ssn"), (ONE, "loan", "ssn"), (ONE, "user", "phone"),
          (ONE, "users", "sn"), (ONE, "use", "rssn"), (ONE, "", "userssn"), (ONE, "userssn", "")]  # fmt: skip


def test_every_column_of_every_tenant_has_an_index_key_of_its_own() -> None:
    keys = LocalKeys(ROOT)
    indexes = {keys.index_key(*place) for place in PLACES} | {keys.index_key(*PLACES[0], generation=2)}
    assert len(indexes) == len(PLACES) + 1
    assert all(len(index) == 32 for index in indexes)


def test_the_derivation_is_the_written_one() -> None:
    """HKDF-SHA256 over length-prefixed parts, so that a key can be derived again without this code."""
    parts = (b"tallystick/1/index", ONE.bytes, b"user", b"ssn")
    info = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    wanted = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(ROOT)
    assert LocalKeys(ROOT).index_key(ONE, "user", "ssn") == wanted


def test_epoch_and_index_keys_are_unrelated() -> None:
    keys = LocalKeys(ROOT)
    ids = {keys.epoch_key(tenant, 1).key_id for tenant in (ONE, TWO)}
    assert DataKey(keys.index_key(*PLACES[0])).key_id not in ids
    assert len(ids) == 2


def test_without_a_folder_there_is_one_epoch_for_ever() -> None:
    keys = LocalKeys(ROOT)
    envelope = seal(LocalKeys(ROOT).epoch_key(ONE, 1), b"value", b"aad")
    assert open_(keys.epoch_key(ONE, 1), envelope, b"aad") == b"value"
    assert dict(keys.epochs(ONE)) == {1: None}
    assert keys.erasures(ONE) == []
    with pytest.raises(Unavailable):
        keys.epoch_key(ONE, 2)
    for act in (
        lambda: keys.begin_epoch(ONE),
        lambda: keys.end_epoch(ONE, 1),
        lambda: keys.note_erasure(ONE, b"{}"),
    ):
        with pytest.raises(Unsupported, match="TALLYSTICK_KEY_DIR"):
            act()


def test_the_cache_of_index_keys_is_bounded() -> None:
    keys = LocalKeys(ROOT)
    for number in range(4200):
        keys.index_key(UUID(int=number), "user", "ssn")
    info: Any = keys._index
    assert info.cache_info().currsize == 4096


class TestEpochs:
    def test_random_kept_and_ended(self, tmp_path: Path) -> None:
        one, other = LocalKeys(ROOT, folder=tmp_path / "k"), LocalKeys(ROOT, folder=tmp_path / "k")
        assert dict(one.epochs(ONE)) == {}
        assert one.begin_epoch(ONE) == 1
        first = one.epoch_key(ONE, 1)
        assert other.epoch_key(ONE, 1).key_id == first.key_id
        assert LocalKeys(ROOT, folder=tmp_path / "l").begin_epoch(ONE) == 1
        assert LocalKeys(ROOT, folder=tmp_path / "l").epoch_key(ONE, 1).key_id != first.key_id
        assert other.begin_epoch(ONE) == 2
        assert one.epoch_key(ONE, 2).key_id != first.key_id
        assert one.begin_epoch(TWO) == 1
        other.end_epoch(ONE, 1)
        for keys in (one, other, LocalKeys(ROOT, folder=tmp_path / "k")):
            with pytest.raises(Erased):
                keys.epoch_key(ONE, 1)
            ended = keys.epochs(ONE)
            assert ended[2] is None
            assert ended[1] is not None
            assert ended[1].tzinfo is not None
        one.end_epoch(ONE, 1)
        assert one.begin_epoch(ONE) == 3

    def test_a_number_is_never_used_again(self, tmp_path: Path) -> None:
        keys = LocalKeys(ROOT, folder=tmp_path)
        keys.begin_epoch(ONE)
        keys.end_epoch(ONE, 1)
        assert keys.begin_epoch(ONE) == 2
        with pytest.raises(Erased):
            keys.restore(ONE, "epoch-000001", bytes(range(32)))

    def test_an_ending_that_was_cut_short_is_an_ending(self, tmp_path: Path) -> None:
        keys = LocalKeys(ROOT, folder=tmp_path)
        keys.begin_epoch(ONE)
        (tmp_path / str(ONE) / "epoch-000001.ended").touch(mode=0o600)
        with pytest.raises(Erased):
            keys.epoch_key(ONE, 1)
        assert keys.epochs(ONE)[1] is not None
        keys.end_epoch(ONE, 1)
        assert [f.name for f in (tmp_path / str(ONE)).iterdir()] == ["epoch-000001.ended"]

    def test_two_processes_begin_the_first_at_once(self, tmp_path: Path) -> None:
        from concurrent.futures import ThreadPoolExecutor

        rings = [LocalKeys(ROOT, folder=tmp_path) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            begun = list(pool.map(lambda keys: keys.begin_epoch(ONE), rings))
        living = rings[0].epochs(ONE)
        assert set(begun) <= set(living)
        for epoch in living:
            assert len({keys.epoch_key(ONE, epoch).key_id for keys in rings}) == 1

    def test_the_wrong_root_key_is_told(self, tmp_path: Path) -> None:
        LocalKeys(ROOT, folder=tmp_path).begin_epoch(ONE)
        with pytest.raises(Tampered, match="TALLYSTICK_KEY_FILE"):
            LocalKeys(ROOT[::-1], folder=tmp_path).epoch_key(ONE, 1)

    @pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])])
    def test_an_edited_key_is_told(self, tmp_path: Path, change: Any) -> None:
        keys = LocalKeys(ROOT, folder=tmp_path)
        keys.begin_epoch(ONE)
        file = tmp_path / str(ONE) / "epoch-000001.key"
        file.write_bytes(change(file.read_bytes()))
        with pytest.raises(Tampered, match="backup"):
            keys.epoch_key(ONE, 1)

    def test_a_key_of_another_tenant_or_epoch_does_not_open(self, tmp_path: Path) -> None:
        keys = LocalKeys(ROOT, folder=tmp_path)
        for tenant in (ONE, TWO):
            keys.begin_epoch(tenant)
        keys.begin_epoch(ONE)
        content = (tmp_path / str(ONE) / "epoch-000001.key").read_bytes()
        for place in (tmp_path / str(TWO) / "epoch-000001.key", tmp_path / str(ONE) / "epoch-000002.key"):
            place.write_bytes(content)
        for tenant, epoch in ((TWO, 1), (ONE, 2)):
            with pytest.raises(Tampered):
                keys.epoch_key(tenant, epoch)

    def test_modes(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            keys = LocalKeys(ROOT, folder=tmp_path / "k")
            keys.begin_epoch(ONE)
            keys.note_erasure(ONE, b"{}")
        finally:
            os.umask(before)
        for folder in (tmp_path / "k", tmp_path / "k" / str(ONE)):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "k" / str(ONE)).iterdir()} == {0o600}
        (tmp_path / "k" / str(ONE) / "epoch-000001.key").chmod(0o644)
        with pytest.raises(Invalid, match="0600"):
            keys.epoch_key(ONE, 1)

    def test_the_ledger_keeps_its_order_and_drops_a_torn_line(self, tmp_path: Path) -> None:
        keys = LocalKeys(ROOT, folder=tmp_path)
        for number in range(3):
            keys.note_erasure(ONE, b'{"n":%d}' % number)
        file = tmp_path / str(ONE) / "erasures.jsonl"
        file.write_bytes(file.read_bytes() + b'{"n":')
        assert keys.erasures(ONE) == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
        # Nor does the next line run into it, which would lose both.
        keys.note_erasure(ONE, b'{"n":3}')
        keys.note_erasure(ONE, b'{"n":4}')
        assert keys.erasures(ONE) == [b'{"n":%d}' % number for number in range(5)]

    def test_a_line_that_did_not_fit_on_the_disk_is_no_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys, write = LocalKeys(ROOT, folder=tmp_path), os.write
        monkeypatch.setattr(os, "write", lambda handle, content: write(handle, content[:4]))
        with pytest.raises(Unavailable):
            keys.note_erasure(ONE, b'{"n":0}')
        monkeypatch.undo()
        keys.note_erasure(ONE, b'{"n":1}')
        assert keys.erasures(ONE) == [b'{"n":1}']

    def test_two_processes_end_an_epoch_at_once(self, tmp_path: Path) -> None:
        from concurrent.futures import ThreadPoolExecutor

        rings = [LocalKeys(ROOT, folder=tmp_path) for _ in range(8)]
        for epoch in range(1, 9):
            rings[0].begin_epoch(ONE)
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda keys, ended=epoch: keys.end_epoch(ONE, ended), rings))
        assert {f.suffix for f in (tmp_path / str(ONE)).iterdir()} == {".ended"}

    def test_a_folder_that_cannot_be_used_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for folder in (tmp_path / "file", tmp_path / ("x" * 300)):
            keys = LocalKeys(ROOT, folder=folder)
            for act in (
                lambda keys=keys: keys.epochs(ONE),
                lambda keys=keys: keys.begin_epoch(ONE),
                lambda keys=keys: keys.epoch_key(ONE, 1),
                lambda keys=keys: keys.restore(ONE, "epoch-000001", ROOT),
                lambda keys=keys: keys.note_erasure(ONE, b"{}"),
                lambda keys=keys: keys.erasures(ONE),
            ):
                with pytest.raises(Unavailable, match="key"):
                    act()

    def test_the_index_root_of_a_store_is_made_once(self, tmp_path: Path) -> None:
        def stored() -> StoredKeys:
            return StoredKeys(LocalKeys(ROOT)._root, KeyFolder(tmp_path))

        assert stored().index_key(*PLACES[0]) == stored().index_key(*PLACES[0])
        assert stored().index_key(*PLACES[0]) != stored().index_key(*PLACES[1])


class TestEnvironment:
    def test_it_is_for_development_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TALLYSTICK_ROOT_KEY", ROOT.hex())
        assert LocalKeys.from_environment().development
        assert LocalKeys.from_environment().index_key(*PLACES[0]) == LocalKeys(ROOT).index_key(*PLACES[0])

    @pytest.mark.parametrize("given", ["", "zz" * 32, ROOT.hex()[2:], "0" * 64, "é"])
    def test_what_is_no_key(self, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
        monkeypatch.setenv("TALLYSTICK_ROOT_KEY", given)
        with pytest.raises(Invalid):
            LocalKeys.from_environment()

    def test_absent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TALLYSTICK_ROOT_KEY", raising=False)
        with pytest.raises(Unavailable, match="TALLYSTICK_ROOT_KEY"):
            LocalKeys.from_environment()


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
    keys.epoch_key(ONE, 1)
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
    keys.index_key(*PLACES[0])
    gone = weakref.ref(keys._index)
    del keys
    gc.collect()
    assert gone() is None


def held_by(trace: TracebackType) -> str:
    """What a report of an error would show that has the variables of our frames."""
    frames = [frame for frame, _ in traceback.walk_tb(trace) if frame.f_code.co_filename.startswith(OURS)]
    return repr([{n: v for n, v in frame.f_locals.items() if n != "self"} for frame in frames])


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
         b"0x" + b"1" * 62, ROOT.hex().encode()[:32], ROOT.hex().encode() + b"\r\n", b" " + ROOT.hex().encode(),
         bytes(10_000), bytes(32), b"0" * 64],
    )  # fmt: skip
    def test_content(self, tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
        with pytest.raises(Invalid) as caught:
            LocalKeys.from_file(_file(tmp_path_factory.mktemp("key"), content))
        assert ROOT.hex()[:16] not in str(caught.value) + held_by(caught.tb)
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


async def test_a_clock_that_was_set_back_makes_nothing_believed_for_longer() -> None:
    class Behind:
        tenant = ONE

        async def call(self, sql: str, args: Any) -> list[Any]:
            return [(-3600.0, ["user.email_bidx.2"])]

    ring, unit = Keyring(LocalKeys(ROOT)), Behind()
    await ring.index_generations(unit)  # type: ignore[arg-type]
    assert ring.of(ONE).indexes == {("user", "email_bidx"): 2}
    assert ring.of(ONE).indexes_until <= time.monotonic() + VIEW_SECONDS


async def test_an_error_while_a_key_is_made_does_not_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        tenant, depth = ONE, 1

        async def call(self, sql: str, args: Any) -> list[Any]:
            return []

        async def change(self, sql: str, args: Any) -> list[Any]:
            raise Serialization("Somebody else was first.")

    drawn, draw = [], os.urandom
    monkeypatch.setattr(os, "urandom", lambda size: drawn.append(draw(size)) or drawn[-1])
    with pytest.raises(Serialization) as caught:
        await Keyring(LocalKeys(ROOT)).ready(Refusing(), [(TWO, "identity")])  # type: ignore[arg-type]
    assert len(drawn) == 1
    assert repr(drawn[0]) not in held_by(caught.tb)
