"""What the offline verifier says of a bundle that was changed, by somebody who also makes the end line right."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.audit.forger import (
    AT,
    BODY,
    INDEX,
    KEY,
    LEAF,
    OP,
    PROOF,
    SALT,
    SEQ,
    TABLE,
    XID,
    Lines,
    bundle_of,
    entries,
    entry,
    forge,
    put_together,
    renumber,
    reseal,
    take_apart,
    verify,
)

from tallystick.audit import verifier
from tallystick.audit.bundle import BundleWriter, Sealed
from tallystick.audit.checkpoint import Signer
from tallystick.audit.verifier import KINDS, Bundle
from tallystick.errors import Invalid, Tampered
from tallystick.testing.bundles import SyntheticLog, synthetic_bundle

LOG = SyntheticLog(600)
WHOLE = bundle_of(LOG, earlier=[100, 300, 550])
PART = bundle_of(LOG, complete=(200, 260), also=[3, 599], earlier=[100, 300])


def swap(lines: Lines, one: int, two: int) -> Lines:
    first, second = lines.index(entry(lines, one)), lines.index(entry(lines, two))
    lines[first], lines[second] = lines[second], lines[first]
    return lines


def drop(lines: Lines, *indexes: int) -> Lines:
    return [line for line in lines if line[0] != b"E" or int(line[INDEX]) not in indexes]


def edit_body(line: list[bytes]) -> None:
    line[BODY] = line[BODY].replace(b'"principal": ', b'"principal": 9')


def flip(line: list[bytes], field: int, place: int = 0) -> None:
    raw = bytearray.fromhex(line[field].decode())
    raw[place] ^= 1
    line[field] = raw.hex().encode()


def insert(lines: Lines, index: int) -> Lines:
    model = entry(lines, index)
    made = [*model]
    made[SEQ], made[BODY] = b"1", made[BODY].replace(b'"seq":%s,' % model[SEQ], b'"seq":1,')
    reseal(made)
    lines.insert(lines.index(model), made)
    return lines


def expire(lines: Lines, *indexes: int) -> Lines:
    for line in entries(lines):
        if int(line[INDEX]) in indexes:
            line[:] = [b"X", *line[INDEX : AT + 1]]
    return lines


@pytest.mark.parametrize("bundle", [WHOLE, PART, bundle_of(LOG, nodes=False)], ids=["whole", "part", "bare"])
def test_a_good_bundle_is_verified(bundle: bytes) -> None:
    found = verify(bundle, LOG)
    assert (found.verdict, found.findings) == ("verified", [])
    assert found.marks[0].size == 600


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 512])
def test_logs_of_other_sizes_are_verified(size: int) -> None:
    log = SyntheticLog(size)
    found = verify(bundle_of(log, earlier=[n for n in (1, 256) if n < size]), log, log.note())
    assert (found.verdict, len(found.leaves)) == ("verified", size)


@pytest.mark.parametrize("bundle", [WHOLE, PART], ids=["whole", "part"])
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("body", lambda line: edit_body(line)),
        ("body", lambda line: line.__setitem__(SALT, b"00" * 32)),
        ("salt", lambda line: flip(line, SALT)),
        ("salt", lambda line: flip(line, SALT, 31)),
        ("leaf", lambda line: flip(line, LEAF)),
        ("leaf", lambda line: line.__setitem__(LEAF, b"ab" * 32)),
        ("column", lambda line: line.__setitem__(SEQ, b"77")),
        ("column", lambda line: line.__setitem__(SEQ, b"0" + line[SEQ])),
        ("column", lambda line: line.__setitem__(XID, b"1" + line[XID])),
        ("column", lambda line: line.__setitem__(AT, b"2020" + line[AT][4:])),
        ("column", lambda line: line.__setitem__(OP, b"I")),
        ("column", lambda line: line.__setitem__(TABLE, b'"loans"')),
        ("column", lambda line: line.__setitem__(KEY, b'"somebody else"')),
    ],
)
def test_the_row_that_was_changed_is_named(bundle: bytes, kind: str, change: Callable[[list[bytes]], None]) -> None:
    seen = {}

    def changed(lines: Lines) -> None:
        seen["line"] = [*entry(lines, 222)]
        change(entry(lines, 222))

    found = verify(forge(bundle, changed), LOG)
    assert found.verdict == kind
    (finding,) = found.findings
    assert finding["index"] == 222
    if kind != "column":
        truth = LOG.entries[222]
        assert (finding["seq"], finding["table"], finding["key"]) == (truth.seq, "loan", truth.key)


def test_several_rows_are_all_named() -> None:
    def change(lines: Lines) -> None:
        for index in (5, 77, 400):
            edit_body(entry(lines, index))

    found = verify(forge(WHOLE, change), LOG)
    assert [(f["kind"], f["index"]) for f in found.findings] == [("body", 5), ("body", 77), ("body", 400)]


def test_a_body_and_a_leaf_in_different_rows() -> None:
    def change(lines: Lines) -> None:
        edit_body(entry(lines, 5))
        flip(entry(lines, 9), LEAF)

    found = verify(forge(WHOLE, change), LOG)
    assert [f["index"] for f in found.findings] == [5, 9]
    assert all("or the leaf" in f["detail"] for f in found.findings)


@pytest.mark.parametrize(
    ("index", "nodes", "low", "high"),
    [
        (50, True, 0, 99),
        (150, True, 100, 255),
        (280, True, 256, 299),
        (320, True, 300, 511),
        (520, True, 300, 549),
        (580, True, 550, 599),
        (150, False, 100, 299),
    ],
)
def test_a_body_rewritten_with_its_leaf_is_narrowed_down(index: int, nodes: bool, low: int, high: int) -> None:
    def change(lines: Lines) -> None:
        edit_body(entry(lines, index))
        reseal(entry(lines, index))

    found = verify(forge(bundle_of(LOG, earlier=[100, 300, 550], nodes=nodes), change), LOG)
    assert found.verdict == "rewritten"
    (finding,) = found.findings
    assert finding["detail"].endswith(f"from {low} to {high}")


def test_in_a_part_a_row_rewritten_with_its_leaf_is_named() -> None:
    def change(lines: Lines) -> None:
        edit_body(entry(lines, 222))
        reseal(entry(lines, 222))

    found = verify(forge(PART, change), LOG)
    assert [(f["kind"], f["index"]) for f in found.findings] == [("proof", 222)]


@pytest.mark.parametrize("bundle", [WHOLE, PART], ids=["whole", "part"])
@pytest.mark.parametrize(
    ("kind", "indexes", "change"),
    [
        ("missing", set(), lambda lines: drop(lines, 222)),
        ("missing", set(), lambda lines: drop(lines, 210, 211, 240)),
        ("duplicated", {222}, lambda lines: lines.insert(lines.index(entry(lines, 222)), [*entry(lines, 222)])),
        ("inserted", {222}, lambda lines: insert(lines, 222)),
        ("reordered", {222}, lambda lines: swap(lines, 222, 223)),
        ("reordered", {211, 212, 213, 210}, lambda lines: swap(lines, 210, 213)),
    ],
)
def test_missing_duplicated_inserted_and_reordered_entries(
    bundle: bytes, kind: str, indexes: set[int], change: Callable[[Lines], Lines | None]
) -> None:
    found = verify(forge(bundle, change), LOG)
    assert found.verdict == kind
    named = {f["index"] for f in found.findings if f["kind"] == kind and "index" in f}
    assert named <= indexes
    assert bool(named) == bool(indexes)


def test_an_entry_of_another_place_is_named_by_its_order() -> None:
    """Somebody exchanges two leaves in the database, so that numbers, bodies and leaves fit."""
    found = verify(forge(WHOLE, lambda lines: renumber(swap(lines, 40, 44))), LOG)
    assert found.verdict == "reordered"
    assert {f["index"] for f in found.findings} == {41, 44}


def test_an_entry_removed_with_the_rest_renumbered() -> None:
    found = verify(forge(WHOLE, lambda lines: renumber(drop(lines, 222))), LOG)
    assert found.verdict == "missing"


def test_an_entry_inserted_with_the_rest_renumbered() -> None:
    found = verify(forge(WHOLE, lambda lines: renumber(insert(lines, 222))), LOG)
    assert found.verdict == "inserted"
    assert {f["index"] for f in found.findings if f["kind"] == "inserted"} == {600}
    assert {f["index"] for f in found.findings if f["kind"] == "reordered"} == {222}


def test_an_edited_node_touches_no_entry() -> None:
    found = verify(
        forge(WHOLE, lambda lines: next(line for line in lines if line[0] == b"N").__setitem__(2, b"00")), LOG
    )
    assert [(f["kind"], f["detail"]) for f in found.findings] == [("node", "number 0 of level 8")]
    assert verify(forge(WHOLE, lambda lines: lines.insert(5, [b"N", b"7", b"00" * 32])), LOG).verdict == "node"


def test_truncated_files() -> None:
    for bundle in (WHOLE, PART):
        ends = {*range(1, len(bundle), 5003), *range(len(bundle) - 80, len(bundle))}
        for end in ends:
            found = verify(bundle[:end], LOG)
            assert found.verdict in ("truncated", "format"), end
            assert found.verdict == "truncated" or end < bundle.index(b"\n")
    assert verify(b"", LOG).verdict == "format"


def test_trailing_garbage() -> None:
    for more in (b"\n", b"x", b"E\t1\n", WHOLE):
        assert [f["kind"] for f in verify(WHOLE + more, LOG).findings] == ["trailing"]


def test_damage_that_no_entry_depends_on() -> None:
    assert verify(WHOLE[:-2] + b"x\n", LOG).verdict == "digest"
    assert verify(WHOLE.replace(b'{"format"', b'{ "format"'), LOG).verdict == "digest"


def test_the_wrong_key_and_another_log() -> None:
    stranger = Signer(LOG.signer.key.name, Ed25519PrivateKey.generate())
    assert verify(WHOLE, LOG, key=stranger.key).verdict == "wrong-key"
    other = SyntheticLog(600, seed=8)
    assert verify(WHOLE, other).verdict == "wrong-key"
    # The checkpoint of another tenant's log of the same installation.
    sibling = SyntheticLog(600, seed=9)
    sibling.installation, sibling.signer = LOG.installation, LOG.signer
    sibling.log = f"{LOG.signer.key.name}/{sibling.tenant}"
    assert verify(bundle_of(LOG, note=sibling.note()), LOG).verdict == "other-log"

    # Its entries, in a bundle that says it is ours.
    def theirs(lines: Lines) -> Lines:
        return [line for line in lines if line[0] != b"E"] + entries(take_apart(bundle_of(sibling)))

    assert verify(forge(WHOLE, theirs), LOG).verdict == "column"
    assert verify(WHOLE, LOG, sibling.note()).verdict == "other-log"


def test_edited_checkpoints() -> None:
    root = json.loads(take_apart(WHOLE)[1][1]).split("\n")[2]
    for old, new in ((root, root.replace(root[3], "A")), ("\\n600\\n", "\\n601\\n"), ("state 0", "state 1")):
        made = forge(
            WHOLE, lambda lines, o=old, n=new: lines[1].__setitem__(1, lines[1][1].replace(o.encode(), n.encode()))
        )
        assert verify(made, LOG).verdict == "signature", old
    assert verify(
        forge(WHOLE, lambda lines: lines[0].__setitem__(0, lines[0][0].replace(b"600", b"601"))), LOG
    ).verdict in (
        "other-log",
        "proof",
    )


@pytest.mark.parametrize("bundle", [WHOLE, PART], ids=["whole", "part"])
def test_against_what_was_kept(bundle: bytes) -> None:
    assert verify(bundle, LOG, LOG.note(300)).verdict == "verified"
    assert verify(bundle, LOG, LOG.note(600)).verdict == "verified"
    assert verify(bundle, LOG, LOG.note(0)).verdict == "verified"
    assert verify(bundle, LOG, bundle).verdict == "verified"
    assert verify(bundle, LOG, WHOLE).verdict == "verified"
    # A size of which a part of the log has no proof.
    assert verify(bundle, LOG, LOG.note(299)).verdict == ("verified" if bundle is WHOLE else "unproven")
    # What was kept has to be signed as well.
    assert verify(bundle, LOG, LOG.note(300).replace("\n300\n", "\n301\n")).verdict == "signature"
    assert verify(bundle, LOG, "what is this").verdict == "format"


@pytest.mark.parametrize("options", [{}, {"complete": (3, 9), "earlier": [10]}], ids=["whole", "part"])
def test_a_database_restored_to_the_past_and_a_history_that_was_rewritten(options: dict[str, object]) -> None:
    before = SyntheticLog(20)
    kept = before.note(20)
    restored = SyntheticLog(15)
    assert verify(bundle_of(restored, **options), restored, kept).verdict == "past"
    # It then grows past the checkpoint that was kept, with other entries.
    restored.add(10, body=900)
    options = options and {"complete": (3, 9), "earlier": [10, 20]}
    found = verify(bundle_of(restored, **options), restored, kept)
    assert found.verdict == "forked"
    assert "20" in found.findings[0]["detail"]


def test_two_signed_roots_in_one_bundle_contradict_each_other() -> None:
    other = SyntheticLog(15)
    other.add(20, body=900)
    log = SyntheticLog(40)
    log.notes[20] = other.note(20)
    assert verify(bundle_of(log, earlier=[10, 20]), log).verdict == "forked"
    assert verify(bundle_of(log, complete=(1, 5), earlier=[10, 20]), log).verdict == "forked"


def expiring(dropped: int | None = 50) -> SyntheticLog:
    log = SyntheticLog(400)
    if dropped is not None:
        event = json.dumps({"month": "2026-01", "entries": dropped, "basis": "seven years"})
        log.seal("tally_audit.entry", "P", "2026-01", f'"event":{event}')
    return log


def test_bodies_dropped_by_policy_are_no_tampering() -> None:
    months = [e.at.isoformat()[:7] for e in SyntheticLog(400).entries]
    january = [index for index, month in enumerate(months) if month == "2026-01"]
    assert 0 < len(january) < 400
    log = expiring(len(january))
    found = verify(forge(bundle_of(log), lambda lines: expire(lines, *january)), log)
    assert (found.verdict, found.findings) == ("verified", [])
    assert found.months == {"2026-01": [len(january), len(january)]}
    # Nobody can drop one more, or one of another month, or any where no policy is on record.
    assert verify(forge(bundle_of(log), lambda lines: expire(lines, *january[1:])), log).verdict == "dropped"
    assert verify(forge(bundle_of(log), lambda lines: expire(lines, *january, 399)), log).verdict == "dropped"
    bare = expiring(None)
    assert verify(forge(bundle_of(bare), lambda lines: expire(lines, *january)), bare).verdict == "dropped"

    # The leaf of a dropped body still counts.
    def change(lines: Lines) -> None:
        expire(lines, *january)
        flip(entry(lines, 3), LEAF)

    assert verify(forge(bundle_of(log), change), log).verdict == "rewritten"


def test_in_a_part_the_entry_of_the_policy_goes_with_it() -> None:
    log = expiring(100)
    with_policy = forge(bundle_of(log, complete=(3, 9), also=[400]), lambda lines: expire(lines, 4, 5))
    assert verify(with_policy, log).verdict == "verified"
    without = forge(bundle_of(log, complete=(3, 9)), lambda lines: expire(lines, 4, 5))
    assert verify(without, log).verdict == "dropped"


def test_the_border_between_salt_and_body_cannot_move() -> None:
    def change(lines: Lines) -> None:
        line = entry(lines, 222)
        line[SALT], line[BODY] = line[SALT] + b"%02x" % line[BODY][0], line[BODY][1:]

    assert verify(forge(WHOLE, change), LOG).verdict == "column"


DEEP = b"[" * 200_000
HUGE = b"9" * 10_000


@pytest.mark.parametrize(
    "bundle",
    [
        b"\n",
        b"null\n",
        b"[]\n",
        DEEP + b"\n",
        HUGE + b"\n",
        b'{"format":null}\n',
        b'{"format":"tallystick-bundle/1"}\n',
        b'{"format":"tallystick-bundle/1","origin":5,"size":"x","complete":[]}\n',
        b'{"format":"tallystick-bundle/1","origin":"\xff"}\n',
        bytes(range(256)),
        put_together(take_apart(WHOLE)[:1]),
        put_together([*take_apart(WHOLE)[:1], *take_apart(WHOLE)[5:]]),
        put_together([*take_apart(WHOLE)[:3], [b"Q", b"1"]]),
        put_together([*take_apart(WHOLE)[:3], [b"C"]]),
        put_together([*take_apart(WHOLE)[:3], [b"C", DEEP, b""]]),
        put_together([*take_apart(WHOLE)[:3], [b"C", b"5", b""]]),
        put_together([*take_apart(WHOLE)[:3], [b"C", b'"\\ud800"', b""]]),
        put_together([*take_apart(WHOLE)[:3], [b"E"]]),
        put_together([*take_apart(WHOLE)[:3], [b"E", HUGE, *take_apart(WHOLE)[9][2:]]]),
        put_together([*take_apart(WHOLE)[:3], [b"E", b"-5", *take_apart(WHOLE)[9][2:]]]),
        put_together([*take_apart(WHOLE)[:3], [b"E", b"1e3", *take_apart(WHOLE)[9][2:]]]),
        put_together([*take_apart(WHOLE)[:3], [b"X", b"0", b"0", b"zz", b"", b""]]),
        put_together([*take_apart(WHOLE)[:3], [b"N", HUGE, b"00"]]),
    ],
)
def test_nonsense_is_refused_without_a_crash(bundle: bytes) -> None:
    found = verify(bundle, LOG)
    assert found.verdict in ("format", "version", "truncated", "missing", "inserted")
    assert found.verdict in KINDS


def test_unknown_versions_are_named() -> None:
    assert verify(WHOLE.replace(b"tallystick-bundle/1", b"tallystick-bundle/2", 1), LOG).verdict == "version"
    assert verify(b'{"format":"something else"}\n', LOG).verdict == "version"


def test_findings_are_bounded() -> None:
    def change(lines: Lines) -> None:
        for line in entries(lines):
            edit_body(line)

    found = verify(forge(WHOLE, change), LOG)
    assert len(found.findings) == 100

    def gaps(lines: Lines) -> None:
        lines[0][0] = lines[0][0].replace(b"[0,600]", b"[0,900000000000000000]")
        for place, line in enumerate(entries(lines)):
            line[INDEX] = b"%d" % (10**12 * place)

    found = verify(forge(WHOLE, gaps), LOG)
    assert len(found.missing) < 3000
    assert found.verdict != "verified"


VERIFIER = Path(verifier.__file__)


def test_the_verifier_is_one_short_file_that_imports_nothing_of_ours() -> None:
    text = VERIFIER.read_text()
    assert len(text.splitlines()) < 300
    imports = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imports - sys.stdlib_module_names == {"cryptography"}


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    copy = place / "verifier.py"
    if not copy.exists():
        copy.write_bytes(VERIFIER.read_bytes())
    # -I: neither this checkout nor what is set for it is seen.
    return subprocess.run(
        [sys.executable, "-I", str(copy), *arguments],
        cwd=place,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_auditor_runs_it_alone(tmp_path: Path) -> None:
    (tmp_path / "bundle.tally").write_bytes(WHOLE)
    (tmp_path / "kept.tally").write_text(LOG.note(300))
    arguments = ["bundle.tally", "--key", LOG.signer.vkey, "--previous", "kept.tally"]
    good = run(tmp_path, *arguments)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("VERIFIED\n")
    assert "\x1b" not in good.stdout
    assert LOG.log in good.stdout
    told = json.loads(run(tmp_path, *arguments, "--json").stdout)
    assert (told["verdict"], told["entries"], told["findings"]) == ("verified", 600, [])

    (tmp_path / "bundle.tally").write_bytes(forge(WHOLE, lambda lines: edit_body(entry(lines, 7))))
    bad = run(tmp_path, *arguments)
    assert (bad.returncode, bad.stderr) == (KINDS["body"], "")
    assert bad.stdout.startswith("REFUSED: body\n")
    assert f"index 7, seq {LOG.entries[7].seq}, table loan, key {LOG.entries[7].key}" in bad.stdout
    told = json.loads(run(tmp_path, *arguments, "--json").stdout)
    assert [f["index"] for f in told["findings"]] == [7]


def test_arguments_that_make_no_sense(tmp_path: Path) -> None:
    (tmp_path / "bundle.tally").write_bytes(WHOLE)
    for arguments in (
        ["bundle.tally"],
        ["bundle.tally", "--key", "nonsense"],
        ["nowhere.tally", "--key", LOG.signer.vkey],
        ["bundle.tally", "--key", LOG.signer.vkey, "--previous", "nowhere"],
    ):
        told = run(tmp_path, *arguments)
        assert told.returncode == 2
        assert "Traceback" not in told.stderr


def test_what_a_bundle_says_does_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    def change(lines: Lines) -> None:
        entry(lines, 7)[TABLE] = b'"\\u001b[2J\\u202e"'

    (tmp_path / "bundle.tally").write_bytes(forge(WHOLE, change))
    told = run(tmp_path, "bundle.tally", "--key", LOG.signer.vkey)
    assert told.returncode == KINDS["column"]
    assert "\x1b" not in told.stdout
    assert "\u202e" not in told.stdout


def test_memory_is_a_small_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "bundle.tally"
    with file.open("wb") as out:
        key = synthetic_bundle(out, 4_000, body=20_000)
    (tmp_path / "verifier.py").write_bytes(VERIFIER.read_bytes())
    code = """
import runpy, sys
try:
    runpy.run_path("verifier.py", run_name="__main__")
except SystemExit as end:
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(end.code, peak)
"""
    arguments = [sys.executable, "-c", code, "bundle.tally", "--key", key]
    told = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    end, peak = told.stdout.split()[-2:]
    assert end == "0"
    assert int(peak) * 1024 < file.stat().st_size * 0.6


def test_a_writer_refuses_what_makes_no_bundle() -> None:
    sealed = LOG.entries[0]
    file = io.BytesIO()

    def writer(**options: tuple[int, int]) -> BundleWriter:
        return BundleWriter(file, log=LOG.log, size=600, note=LOG.note(), **{"complete": (0, 600), **options})

    with pytest.raises(Invalid, match="range"):
        writer(complete=(5, 601))
    made = writer()
    made.entry(sealed)
    with pytest.raises(Invalid, match="order"):
        made.entry(sealed)
    with pytest.raises(Invalid, match="order"):
        made.node(0, sealed.leaf)
    for index, body in enumerate(("one\ntwo", "one\n"), 1):
        with pytest.raises(Tampered, match="line break"):
            made.entry(Sealed(index=index, seq=2, at=sealed.at, leaf=sealed.leaf, op="U", salt=bytes(32), body=body))
    with pytest.raises(Tampered, match="line break"):
        made.entry(Sealed(index=3, seq=2, at=sealed.at, leaf=sealed.leaf, op="U\t", salt=bytes(32), body="{}"))
    assert len(made.end()) == 64
    with pytest.raises(Invalid, match="order"):
        made.end()


def test_a_proof_of_another_place_is_refused() -> None:
    def change(lines: Lines) -> None:
        entry(lines, 222)[PROOF] = entry(lines, 223)[PROOF]

    found = verify(forge(PART, change), LOG)
    assert [(f["kind"], f["index"]) for f in found.findings] == [("proof", 222)]
    assert isinstance(found, Bundle)
