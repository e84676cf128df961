"""Envelopes hold for all plaintexts, places and changes."""

from __future__ import annotations

import os
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.errors import Tampered
from tallystick.privacy.envelope import DataKey, associated_data, length_prefixed, open_, seal

Place = tuple[UUID, str, str, UUID, UUID | None]

KEY = DataKey(os.urandom(32))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
places = st.tuples(st.uuids(), names, names, st.uuids(), st.none() | st.uuids())


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_what_is_sealed_opens(plaintext: bytes, aad: bytes) -> None:
    envelope = seal(KEY, plaintext, aad)
    assert open_(KEY, envelope, aad) == plaintext
    assert len(plaintext) < 8 or plaintext not in envelope


@given(st.binary(max_size=100), st.binary(max_size=50), st.data())
def test_any_change_is_refused(plaintext: bytes, aad: bytes, data: st.DataObject) -> None:
    envelope = bytearray(seal(KEY, plaintext, aad))
    at = data.draw(st.integers(0, len(envelope) - 1))
    envelope[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Tampered):
        open_(KEY, bytes(envelope), aad)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_typed_error(noise: bytes) -> None:
    with pytest.raises(Tampered):
        open_(KEY, noise, b"")
    with pytest.raises(Tampered):
        open_(KEY, b"\x01\x01" + KEY.key_id + noise, b"")


@given(st.binary(max_size=50), st.binary(max_size=50), st.binary(max_size=50))
def test_other_associated_data_is_refused(plaintext: bytes, aad: bytes, other: bytes) -> None:
    if aad != other:
        with pytest.raises(Tampered):
            open_(KEY, seal(KEY, plaintext, aad), other)


@given(places, places)
def test_two_places_never_share_their_bytes(one: Place, two: Place) -> None:
    assert (associated_data(*one) == associated_data(*two)) == (one == two)


@given(
    st.uuids(), st.uuids(), st.lists(st.text("ab|\x00\x01", max_size=3), min_size=4, max_size=4), st.none() | st.uuids()
)
def test_names_with_separators_in_them_stay_apart(
    tenant: UUID, row: UUID, parts: list[str], subject: UUID | None
) -> None:
    one = associated_data(tenant, parts[0], parts[1], row, subject)
    two = associated_data(tenant, parts[2], parts[3], row, subject)
    assert (one == two) == (parts[:2] == parts[2:])


@given(st.lists(st.binary(max_size=6), max_size=6), st.lists(st.binary(max_size=6), max_size=6))
def test_prefixed_parts_can_be_told_apart(one: list[bytes], two: list[bytes]) -> None:
    assert (length_prefixed(*one) == length_prefixed(*two)) == (one == two)
