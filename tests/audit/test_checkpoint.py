"""Checkpoints as C2SP notes: what the specification accepts, and what it has refused."""

from __future__ import annotations

import base64
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tallystick.audit import verifier
from tallystick.audit.checkpoint import Key, Signer, key_name, open_checkpoint, origin, read_vkey, write
from tallystick.errors import Invalid, Tampered

INSTALLATION, TENANT = UUID(int=0xA), UUID(int=0xB)
LOG = origin(INSTALLATION, TENANT)
SIGNER = Signer(key_name(INSTALLATION), Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = Signer(key_name(INSTALLATION), Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
WITNESS = Signer("witness.example/w1", Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34))))
ROOT, STATE = bytes(range(32)), "ab" * 32
TEXT = write(LOG, 12_345, ROOT, STATE)
NOTE = SIGNER.sign(TEXT)

# The example of c2sp.org/signed-note.
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_SIGNATURE = "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="


def refused(note: str | bytes, *keys: Key) -> str:
    raw = note if isinstance(note, bytes) else note.encode()
    with pytest.raises(verifier.Refused) as told:
        verifier.read_checkpoint(raw, list(keys) or [SIGNER.key])
    return str(told.value.args[0])


def signed(text: str) -> str:
    """Sign any text, good or bad."""
    raw = SIGNER._private.sign(text.encode())
    return f"{text}\n\u2014 {SIGNER.key.name} {base64.b64encode(SIGNER.key.id + raw).decode()}\n"


def test_the_example_of_the_specification() -> None:
    key, signature = read_vkey(EXAMPLE_KEY), base64.b64decode(EXAMPLE_SIGNATURE)
    assert (key.name, key.id.hex()) == ("example.com/foo", "530d903a")
    assert signature[:4] == key.id
    Ed25519PublicKey.from_public_bytes(key.public).verify(signature[4:], b"This is an example message.\n")


def test_a_checkpoint_is_read_as_it_was_written() -> None:
    found = open_checkpoint(NOTE, [SIGNER.key], log=LOG)
    assert found == (LOG, 12_345, ROOT, STATE)
    lines = NOTE.split("\n")
    assert lines[:5] == [LOG, "12345", base64.b64encode(ROOT).decode(), f"state {STATE}", ""]
    assert lines[5].startswith(f"\u2014 {key_name(INSTALLATION)} ")
    assert lines[6:] == [""]
    empty = write(LOG, 0, ROOT, STATE)
    assert open_checkpoint(SIGNER.sign(empty), [SIGNER.key]).size == 0


def test_keys_are_one_line_each() -> None:
    assert read_vkey(SIGNER.vkey) == SIGNER.key
    assert read_vkey(f"  {SIGNER.vkey}\n") == SIGNER.key
    assert Signer.from_skey(SIGNER.skey).vkey == SIGNER.vkey
    assert SIGNER.skey.startswith("PRIVATE+KEY+")
    assert SIGNER.skey.rsplit("+", 1)[1] not in repr(SIGNER)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "example.com/foo",
        EXAMPLE_KEY[:-1],
        EXAMPLE_KEY + "A",
        EXAMPLE_KEY.replace("530d903a", "530d903b"),
        EXAMPLE_KEY.replace("530d903a", "530D903A"),
        EXAMPLE_KEY.replace("530d903a", "0530d903a"),
        EXAMPLE_KEY.replace("foo", "bar"),
        EXAMPLE_KEY.replace("foo", "f oo"),
        EXAMPLE_KEY.replace("foo", "f\u00a0oo"),
        EXAMPLE_KEY.replace("+Aeky", "+Beky"),
        EXAMPLE_KEY.replace("+Aeky", "+Ae.y"),
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        SIGNER.skey,
    ],
)
def test_other_keys_are_refused(vkey: str) -> None:
    with pytest.raises(Invalid, match="verifier key"):
        read_vkey(vkey)


@pytest.mark.parametrize(
    "skey",
    [
        "",
        SIGNER.vkey,
        SIGNER.skey[:-1],
        SIGNER.skey.replace("PRIVATE+KEY+", ""),
        SIGNER.skey.replace("stick/", "stick/0"),
    ],
)
def test_other_private_keys_are_refused_and_never_repeated(skey: str) -> None:
    with pytest.raises(Invalid) as told:
        Signer.from_skey(skey)
    assert SIGNER.skey.rsplit("+", 1)[1][:12] not in str(told.value)


def test_signatures_of_others_are_passed_over() -> None:
    note = WITNESS.sign(OTHER.sign(NOTE))
    assert note.count("\u2014") == 3
    assert open_checkpoint(note, [SIGNER.key]).size == 12_345
    assert open_checkpoint(note, [WITNESS.key, OTHER.key, SIGNER.key]).size == 12_345
    # Same name or same id, but not both: somebody else's.
    forged = NOTE.replace(SIGNER.key.name + " ", SIGNER.key.name + "x ")
    assert open_checkpoint(NOTE + forged.split("\n\n")[1], [SIGNER.key]).size == 12_345
    many = NOTE
    for number in range(40):
        many = Signer(f"witness.example/{number}", WITNESS._private).sign(many)
    assert open_checkpoint(many, [SIGNER.key]).size == 12_345


def test_one_wrong_signature_of_a_known_key_refuses_the_note() -> None:
    wrong = WITNESS.sign(TEXT.replace("12345", "12346")).split("\n\n")[1]
    assert refused(NOTE + wrong, SIGNER.key, WITNESS.key) == "signature"
    assert open_checkpoint(NOTE + wrong, [SIGNER.key]).size == 12_345


def test_without_a_known_key_there_is_nothing() -> None:
    assert refused(NOTE, OTHER.key) == "wrong-key"
    assert refused(NOTE, WITNESS.key) == "wrong-key"
    with pytest.raises(verifier.Refused):
        verifier.read_checkpoint(NOTE.encode(), [])


def test_a_key_signs_for_its_own_logs() -> None:
    other = origin(UUID(int=0xC), TENANT)
    assert refused(SIGNER.sign(write(other, 1, ROOT, STATE))) == "other-log"
    assert refused(WITNESS.sign(TEXT), WITNESS.key) == "other-log"
    with pytest.raises(Tampered, match="and not of") as told:
        open_checkpoint(NOTE, [SIGNER.key], log=origin(INSTALLATION, UUID(int=0xD)))
    assert told.value.kind == "other-log"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("12345\n", "12346\n"),
        ("12345\n", "012345\n"),
        ("12345\n", "-12345\n"),
        ("12345\n", "12_345\n"),
        ("12345\n", "\u0661\u0662\n"),
        ("12345\n", "1" * 30 + "\n"),
        ("12345\n", "\n"),
        ("state ab", "state AB"),
        ("state ab", "stat ab"),
        (f"state {STATE}\n", ""),
        (f"state {STATE}\n", f"state {STATE}\n\n"),
        (base64.b64encode(ROOT).decode(), base64.b64encode(ROOT[:-1]).decode()),
        (base64.b64encode(ROOT).decode(), base64.b64encode(ROOT + b"x").decode()),
        (LOG, ""),
        (LOG, LOG + "\tx"),
    ],
)
def test_texts_that_are_no_checkpoint_are_refused_whoever_signed(old: str, new: str) -> None:
    text = TEXT.replace(old, new)
    assert text != TEXT
    if new == "12346\n":
        assert refused(NOTE.replace(old, new)) == "signature"
        return
    assert refused(signed(text)) == "format"


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        TEXT,
        TEXT + "\n",
        NOTE[:-1],
        NOTE + "\n",
        NOTE + "x",
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("\n", "\r\n"),
        NOTE.replace("\u2014 ", "- "),
        NOTE.replace("\u2014 ", "\u2014"),
        NOTE.replace("\u2014 ", "\u2014  "),
        NOTE.replace("=\n", "\n"),
        NOTE.replace("=\n", "=x\n"),
        NOTE.replace("=\n", "= \n"),
        NOTE + f"\u2014 {SIGNER.key.name} \n",
        NOTE + f"\u2014 {SIGNER.key.name} AAAA\n",
        NOTE + "\u2014 a+b AAAAAAAA\n",
        NOTE + "\u2014 a\u2003b AAAAAAAA\n",
        NOTE + "\u2014 a AAAAA\x00AAA\n",
        NOTE + "\u2014 a AAAAAAAA\n" * 200,
        NOTE.encode() + b"\xe2\x80\x94 \xff AAAAAAAA\n",
        NOTE.encode("utf-16"),
        b"x\n" * (1 << 20),
        b"\n" * (1 << 20),
        b"\xe2\x80\x94 " * (1 << 18),
    ],
)
def test_what_is_no_note_is_refused(note: str | bytes) -> None:
    assert refused(note) == "format"


def test_every_changed_byte_of_a_checkpoint_is_refused() -> None:
    raw = NOTE.encode()
    for place in range(len(raw)):
        for bit in range(8):
            other = raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :]
            # The last character of the base64 has two bits that carry nothing.
            try:
                found = verifier.read_checkpoint(other, [SIGNER.key])
            except verifier.Refused:
                continue
            assert place == len(raw) - 3
            assert found == (LOG, 12_345, ROOT, STATE)


def test_what_cannot_be_signed_is_said_before() -> None:
    for call in (
        lambda: write("two words", 1, ROOT, STATE),
        lambda: write("", 1, ROOT, STATE),
        lambda: write(LOG, -1, ROOT, STATE),
        lambda: write(LOG, 10**18, ROOT, STATE),
        lambda: write(LOG, 1, ROOT[:-1], STATE),
        lambda: write(LOG, 1, ROOT, "state"),
        lambda: SIGNER.sign("no end"),
        lambda: SIGNER.sign("tab\there\n"),
        lambda: Signer("two words", SIGNER._private),
        lambda: Signer("a+b", SIGNER._private),
        lambda: Signer("", SIGNER._private),
    ):
        with pytest.raises(Invalid):
            call()
