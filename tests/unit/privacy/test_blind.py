"""Blind indexes: normalisation, separation, truncation (attack E5 of the security page)."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.errors import Invalid
from tallystick.privacy.blind import NORMALISERS, blind_index, normalise
from tallystick.privacy.keys import LocalKeys

KEY = bytes(range(32))


def test_the_names() -> None:
    assert set(NORMALISERS) == {"exact", "email", "digits", "phone", "name"}


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        ("exact", "AbC ", "AbC "),
        ("exact", "ﬁ①", "fi1"),
        ("exact", "e\u0301", "é"),
        ("email", "  Ann.Lee@Example.COM ", "ann.lee@example.com"),
        ("email", "ann@example.com.", "ann@example.com"),
        ("email", "ann@MÜNCHEN.de", "ann@xn--mnchen-3ya.de"),
        ("email", "ann@xn--MNCHEN-3ya.de", "ann@xn--mnchen-3ya.de"),
        ("email", "Straße@example.com", "strasse@example.com"),
        ("email", "\uff41nn\uff20example.com", "ann@example.com"),
        ("email", '"a@b"@example.com', '"a@b"@example.com'),
        ("email", "ann@例え。テスト", "ann@xn--r8jz45g.xn--zckzah"),
        ("digits", "123-45-6789", "123456789"),
        ("digits", " 123 45 6789\n", "123456789"),
        ("digits", "\uff11\uff12\uff13", "123"),
        ("digits", "\u0661\u0662\u0663", "123"),
        ("digits", "A1B2", "12"),
        ("phone", "+1 (555) 010-9999", "+15550109999"),
        ("phone", "(+44) 20 7946 0000", "+442079460000"),
        ("phone", "\uff0b44 20", "+4420"),
        ("phone", "\u202a+234 803\u202c", "+234803"),
        ("phone", "0803 555 0101", "08035550101"),
        ("phone", "555+1", "5551"),
        ("name", "  Ann\u00a0 Marie\tLEE ", "ann marie lee"),
        ("name", "GROẞ", "gross"),
        ("name", "Ǆ", "dž"),
    ],
)
def test_normalisation(kind: str, value: str, wanted: str) -> None:
    assert normalise(kind, value) == wanted.encode()


@pytest.mark.parametrize(
    ("kind", "value"),
    [("exact", ""), ("email", ""), ("email", "ann"), ("email", "@example.com"), ("email", "ann@"), ("email", "ann@."),
     ("email", "ann@a..b"), ("email", f"ann@{'a' * 64}.com"), ("email", "  @  "), ("digits", "none"), ("digits", ""),
     ("phone", "+"), ("phone", "call me"), ("name", " \t\n"), ("name", ""), ("exact", "canary\ud800"),
     ("name", "canary\ud800"), ("email", "canary@\ud800"), ("exact", "x" * 100_001)],
)  # fmt: skip
def test_values_of_which_nothing_can_be_indexed(kind: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        blind_index(KEY, kind, value)
    assert "canary" not in str(caught.value)
    # A chained UnicodeError holds the whole text as an attribute.
    assert caught.value.__context__ is None


@pytest.mark.parametrize("value", [None, 5, b"x", ["x"], True])
@pytest.mark.parametrize("kind", sorted(NORMALISERS))
def test_only_text(kind: str, value: Any) -> None:
    with pytest.raises(Invalid):
        normalise(kind, value)


@pytest.mark.parametrize("kind", ["", "Email", "ssn", None, [], 5])
def test_unknown_kinds(kind: Any) -> None:
    with pytest.raises(Invalid, match="digits"):
        normalise(kind, "x")


@given(st.sampled_from(sorted(NORMALISERS)), st.text() | st.emails() | st.from_regex(r"[ (]*\+?[0-9() -]{1,20}"))
def test_twice_changes_nothing(kind: str, value: str) -> None:
    try:
        once = normalise(kind, value)
    except Invalid:
        return
    assert normalise(kind, once.decode()) == once


@given(st.emails())
def test_letter_case_does_not_matter_in_an_address(address: str) -> None:
    assert normalise("email", address) == normalise("email", address.upper())


def test_it_is_the_standard_mac() -> None:
    assert blind_index(KEY, "exact", "value") == hmac.new(KEY, b"value", hashlib.sha256).digest()


def test_e5_one_value_in_two_tenants_or_columns_does_not_look_equal() -> None:
    keys = LocalKeys(KEY)
    places = [(UUID(int=1), "user", "ssn"), (UUID(int=2), "user", "ssn"), (UUID(int=1), "user", "tax_id")]
    assert len({blind_index(keys.index_key(*place), "digits", "123-45-6789") for place in places}) == 3


def test_e5_spellings_of_one_value_meet() -> None:
    assert len({blind_index(KEY, "digits", text) for text in ("123-45-6789", "123456789", " 123 45 6789")}) == 1


@pytest.mark.parametrize("bits", [1, 7, 8, 9, 15, 16, 24, 255, 256])
def test_truncation_keeps_the_leading_bits(bits: int) -> None:
    full = int.from_bytes(blind_index(KEY, "exact", "value"), "big")
    short = blind_index(KEY, "exact", "value", bits)
    assert len(short) == (bits + 7) // 8
    assert int.from_bytes(short, "big") >> (len(short) * 8 - bits) == full >> (256 - bits)
    assert int.from_bytes(short, "big") % (1 << (len(short) * 8 - bits)) == 0


def test_e5_a_truncated_index_has_buckets_of_even_size() -> None:
    buckets = Counter(blind_index(KEY, "digits", f"{number:09d}", bits=4) for number in range(16_000))
    assert len(buckets) == 16
    assert all(850 < size < 1150 for size in buckets.values())


@pytest.mark.parametrize("bits", [0, -1, 257, True, 8.0, "8"])
def test_bits_out_of_range(bits: Any) -> None:
    with pytest.raises(Invalid):
        blind_index(KEY, "exact", "value", bits)


@pytest.mark.parametrize("key", [b"", bytes(31), "x" * 32, None, bytearray(32)])
def test_keys_too_short(key: Any) -> None:
    with pytest.raises(Invalid):
        blind_index(key, "exact", "value")
