"""``tallystick audit``: what it does and how it looks."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, process

from tallystick.stores.embedded.server import EmbeddedServer


@pytest.fixture
def key(cli: Cli, data_dir: Path) -> str:
    """The trail of the held server, sealed; and the key that auditors get."""
    said = cli("audit", "seal", "--json")
    assert said.code == 0, said.err
    return str(said.document["key"])


def test_seal_and_status(cli: Cli, data_dir: Path, key: str) -> None:
    said = cli("audit", "seal")
    assert said.code == 0
    assert "Nothing is new" in said.out or "Sealed" in said.out
    assert key in said.out.replace("\n", "")
    said = cli("audit", "status", "--deep")
    assert said.code == 0
    assert "sunrise" in said.out
    assert "(installation)" in said.out
    assert "No entry was missed" in said.out
    assert "All is well" in said.out
    found = cli("audit", "status", "--json").document
    assert found["ok"]
    assert found["state_ok"]
    assert found["missed"] is None
    logs = {log["log"]: log for log in found["logs"]}
    assert logs["sunrise"]["leaves"] == logs["sunrise"]["signed"] > 1000
    assert not found["problems"]


def test_an_entry_that_waits_too_long_is_a_finding(cli: Cli, data_dir: Path, key: str) -> None:
    slug = f"late-{time.time_ns()}"
    assert cli("tenants", "create", slug, "--name", "Late").code == 0
    said = cli("audit", "status", "--max-age", "0s")
    assert said.code == 1
    assert "to be sealed" in said.out
    assert "is a sealer running?" in said.out
    said = cli("audit", "seal", "--json")
    assert slug in [c["log"] for c in said.document["checkpoints"]]


def test_export_verify_and_one_byte(cli: Cli, data_dir: Path, key: str, tmp_path: Path) -> None:
    file, bad = tmp_path / "all.tally", tmp_path / "bad.tally"
    said = cli("audit", "export", str(file), "--tenant", "harbour")
    assert said.code == 0
    assert "Wrote" in said.out
    assert file.stat().st_mode & 0o777 == 0o600
    said = cli("audit", "verify", str(file), "--key", key)
    assert said.code == 0
    assert said.out.startswith("VERIFIED")
    content = bytearray(file.read_bytes())
    at = content.index(b'"new":', len(content) // 2) + 20
    content[at] ^= 1
    bad.write_bytes(content)
    said = cli("audit", "verify", str(bad), "--key", key)
    assert said.code == 30
    assert said.out.startswith("REFUSED")
    said = cli("audit", "verify", str(bad), "--key", key, "--json")
    assert said.document["verdict"] == "body"
    (named,) = [f for f in said.document["findings"] if f["kind"] == "body"]
    assert named["table"]
    assert named["index"] > 0
    # Never over a file that is there.
    said = cli("audit", "export", str(file), "--tenant", "harbour")
    assert said.code == 2
    assert "never replaces" in said.err


def test_a_part_and_what_it_continues(cli: Cli, data_dir: Path, key: str, tmp_path: Path) -> None:
    kept, row, later = tmp_path / "kept.tally", tmp_path / "row.tally", tmp_path / "later.tally"
    assert cli("audit", "export", str(kept), "--tenant", "sunrise").code == 0
    loan = next(e for e in map(json.loads, bodies(kept)) if e["table"] == "loan" and e["op"] == "I")
    said = cli(
        "audit",
        "export",
        str(row),
        "--tenant",
        "sunrise",
        "--entry",
        "loan",
        loan["key"],
        "--previous",
        str(kept),
        "--json",
    )
    assert said.document["entries"] >= 1
    assert cli("audit", "verify", str(row), "--key", key, "--previous", str(kept)).code == 0
    assert cli("audit", "export", str(later), "--tenant", "sunrise", "--from", "2099-01-01").code == 0
    assert cli("audit", "verify", str(later), "--key", key).code == 0
    said = cli("audit", "export", str(tmp_path / "x"), "--tenant", "sunrise", "--entry", "loan", "nobody")
    assert said.code == 4
    assert not (tmp_path / "x").exists()


def bodies(bundle: Path) -> list[bytes]:
    return [line.split(b"\t", 11)[-1] for line in bundle.read_bytes().splitlines() if line.startswith(b"E\t")]


def test_watch_and_the_installations_own_log(
    cli: Cli, data_dir: Path, server: EmbeddedServer, key: str, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{key}\n")
    arguments = ("audit", "watch", str(server.anchor_dir), "--key", str(tmp_path / "key"))
    said = cli(*arguments, "--seen", str(tmp_path / "seen"), "--json")
    assert said.code == 0
    assert said.document["ok"]
    assert len(said.document["logs"]) >= 3
    said = cli(*arguments, "--seen", str(tmp_path / "seen"))
    assert said.code == 0
    assert "0 new checkpoints" in said.out
    for file in server.anchor_dir.rglob("*.checkpoint"):
        copy = tmp_path / "copy" / file.relative_to(server.anchor_dir)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.read_text().replace("state ", "state 0"))
        copy.with_suffix(".consistency").write_text(file.with_suffix(".consistency").read_text())
    said = cli("audit", "watch", str(tmp_path / "copy"), "--key", key)
    assert said.code == 8
    assert "FORMAT" in said.out
    file = tmp_path / "installation.tally"
    assert cli("audit", "export", str(file), "--installation").code == 0
    assert cli("audit", "verify", str(file), "--key", key).code == 0
    assert json.loads(bodies(file)[0])["op"] == "S"


def test_wrong_use_is_told(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    for arguments, named in (
        (("seal", "--once", "--every", "10s"), "exclude each other"),
        (("seal", "--every", "soon"), "number and a unit"),
        (("export", "x"), "Whose log?"),
        (("export", "x", "--tenant", "sunrise", "--installation"), "Whose log?"),
        (("export", "x", "--tenant", "sunrise", "--previous", str(tmp_path)), "no checkpoint and no bundle"),
        (("verify", str(tmp_path / "nowhere"), "--key", "k"), "does not take this"),
        (("watch", str(tmp_path / "nowhere"), "--key", "a+b+c"), "verifier key"),
    ):
        said = cli("audit", *arguments)
        assert said.code in (2, 6), (arguments, said)
        assert named in said.err, (arguments, said)
    assert not Path("x").exists()


def test_seal_goes_on_until_it_is_ended(cli: Cli, data_dir: Path, key: str) -> None:
    slug = f"running-{time.time_ns()}"
    assert cli("tenants", "create", slug, "--name", "Running").code == 0
    running = process("audit", "seal", "--every", "1s", "--data-dir", str(data_dir))
    patience = threading.Timer(60, running.kill)
    patience.start()
    try:
        assert running.stdout is not None
        line = running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=120)
    finally:
        patience.cancel()
        if running.poll() is None:
            running.kill()
    assert line.startswith("sealed 1 entry, signed 1 log")
    assert running.returncode == 143, err


def test_a_new_key_is_made_and_used(cli: Cli, fresh: Path) -> None:
    place = str(fresh / "data")
    assert cli("init", "--data-dir", place).code == 0
    said = cli("audit", "seal", "--data-dir", place, "--new-key", str(fresh / "seal.pem"))
    assert said.code == 0, said.err
    assert "Made a signing key" in said.out
    assert "on record from now on" in said.out
    assert (fresh / "seal.pem").stat().st_mode & 0o777 == 0o600
    said = cli("audit", "seal", "--data-dir", place)
    # The embedded server makes a key of its own, and a log that another key signed is not continued.
    assert said.code == 8
    assert "is signed by" in said.err or "wrong-key" in said.err
