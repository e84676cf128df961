"""Laws of bundles: whatever is changed in one is refused and classified, and nothing makes the verifier fall over."""

from __future__ import annotations

import io
from hashlib import sha256

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.audit.forger import Lines, bundle_of, entries, put_together, renumber, take_apart, verify

from tallystick.audit.verifier import KINDS, Bundle
from tallystick.testing.bundles import SyntheticLog

LOG = SyntheticLog(40)
LONG = SyntheticLog(300, body=0)
BUNDLES = [
    bundle_of(LOG, earlier=[7, 32]),
    bundle_of(LOG, complete=(9, 21), also=[0, 39], earlier=[7, 32]),
    bundle_of(LONG, earlier=[256]),
]
LOGS = [LOG, LOG, LONG]
GOOD = [verify(bundle, log) for bundle, log in zip(BUNDLES, LOGS, strict=True)]

which = st.integers(0, 2)
anywhere = st.floats(0, 1, exclude_max=True)


def place(bundle: bytes, where: float) -> int:
    return int(where * len(bundle))


@settings(max_examples=150)
@given(which, anywhere, st.integers(1, 255))
@example(0, 0.0, 1)
@example(1, 0.999999, 1)
def test_any_changed_byte_is_refused_and_classified(number: int, where: float, flip: int) -> None:
    bundle, at = BUNDLES[number], place(BUNDLES[number], where)
    found = verify(bundle[:at] + bytes([bundle[at] ^ flip]) + bundle[at + 1 :], LOGS[number])
    assert found.verdict in KINDS


@settings(max_examples=80)
@given(which, anywhere, st.binary(min_size=1, max_size=40))
def test_bytes_put_in_or_taken_out_are_refused(number: int, where: float, more: bytes) -> None:
    bundle, at = BUNDLES[number], place(BUNDLES[number], where)
    assert verify(bundle[:at] + more + bundle[at:], LOGS[number]).verdict in KINDS
    assert verify(bundle[:at] + bundle[at + len(more) :], LOGS[number]).verdict in KINDS


@settings(max_examples=150)
@given(which, anywhere, st.integers(1, 255))
def test_with_the_end_line_made_right_what_is_verified_is_the_same_log(number: int, where: float, flip: int) -> None:
    """Spelling may differ (a space in the header, a capital in a hash, a smaller claim), and nothing that counts."""
    bundle = BUNDLES[number][: BUNDLES[number].rindex(b"Z\t")]
    at = place(bundle, where)
    changed = bundle[:at] + bytes([bundle[at] ^ flip]) + bundle[at + 1 :]
    found, good = verify(changed + b"Z\t" + sha256(changed).hexdigest().encode() + b"\n", LOGS[number]), GOOD[number]
    if found.verdict != "verified":
        assert found.verdict in KINDS
        return
    assert (found.leaves, found.marks, found.months) == (good.leaves, good.marks, good.months)
    assert good.start <= found.start
    assert found.stop <= good.stop
    theirs, ours = take_apart(changed + b"Z\n"), take_apart(bundle + b"Z\n")
    assert [line[5:] for line in entries(theirs)] == [line[5:] for line in entries(ours)] or flip == 0x20


@settings(max_examples=80)
@given(
    which,
    st.lists(st.tuples(st.sampled_from(["drop", "again", "swap"]), st.integers(0, 10**6)), min_size=1),
    st.booleans(),
)
def test_entries_taken_out_repeated_or_exchanged(number: int, steps: list[tuple[str, int]], numbered: bool) -> None:
    lines = take_apart(BUNDLES[number])
    before = [list(line) for line in entries(lines)]
    rest: Lines = [line for line in lines if line[0] != b"E"]
    rows = [list(line) for line in before]
    for step, at in steps:
        if not rows:
            break
        at %= len(rows)
        if step == "drop":
            del rows[at]
        elif step == "again":
            rows.insert(at, list(rows[at]))
        else:
            rows[at - 1], rows[at] = rows[at], rows[at - 1]
    if numbered:
        renumber(rows)
    found = verify(put_together([*rest, *rows]), LOGS[number])
    if found.verdict != "verified":
        assert found.verdict in KINDS
        assert rows != before
    elif number == 1:
        # Single entries beside the range that a part is complete in may be left out.
        assert rows == [row for row in before if row in rows]
        assert rows[-13:-1] == before[1:13] or rows[-12:] == before[1:13]
    else:
        assert rows == before


@settings(max_examples=100)
@given(st.binary(max_size=300), st.booleans())
def test_nothing_that_is_read_makes_it_fall_over(noise: bytes, headed: bool) -> None:
    text = BUNDLES[0].split(b"\n", 2)
    raw = b"\n".join(text[:2]) + b"\n" + noise if headed else noise
    assert Bundle(io.BytesIO(raw), [LOG.signer.key]).verdict in KINDS
    assert Bundle(io.BytesIO(BUNDLES[0]), [LOG.signer.key], io.BytesIO(raw)).verdict in {*KINDS, "verified"}
