"""Secrets show their mask to everybody and their value to nobody."""

from __future__ import annotations

import copy
import json
import pickle
import pprint
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec
import pytest

from tallystick.errors import Denied, Invalid, Tampered
from tallystick.money import Money
from tallystick.privacy.sealed import (
    MASK,
    Secret,
    ciphertext_of,
    enc_hook,
    mask_of,
    plaintext_of,
    sealed,
    secret,
    secret_dec_hook,
)

CANARY = "canary-123-45-6789"


class Person(msgspec.Struct, frozen=True):
    name: str
    national_id: Secret[str]
    born: Secret[date] | None = None


def test_two_states() -> None:
    fresh, stored = secret(CANARY), sealed(b"cipher", "••••6789")
    assert not fresh.is_sealed
    assert stored.is_sealed
    assert plaintext_of(fresh) == CANARY
    assert ciphertext_of(stored) == b"cipher"
    assert (fresh.mask, stored.mask, sealed(b"x").mask) == (MASK, "••••6789", MASK)
    with pytest.raises(Denied):
        plaintext_of(stored)
    with pytest.raises(Invalid):
        ciphertext_of(fresh)


def test_a_sealed_secret_is_written_back_as_it_was_read() -> None:
    read = Person("Ann", sealed(b"\x01\x02", "••••"))
    changed = msgspec.structs.replace(read, name="Anna")
    assert ciphertext_of(changed.national_id) is ciphertext_of(read.national_id)


@pytest.mark.parametrize("held", [secret(CANARY), secret(CANARY, show_last=4), sealed(b"cipher", "••••6789")])
def test_every_text_is_the_mask(held: Secret[str]) -> None:
    person = Person("Ann", held)
    shown = [
        repr(held), str(held), f"{held}", f"{held!r:>40}", f"{held:>30}", repr([held]), repr((held,)),
        repr({"a": held}), repr(person), pprint.pformat(person), repr(msgspec.structs.asdict(person)), ascii(held),
    ]  # fmt: skip
    for text in shown:
        assert "canary" not in text
        assert "123-45" not in text
        assert "cipher" not in text
        assert MASK in text or "\\u2022" in text


def test_a_stored_mask_is_opened_once_and_only_for_who_looks() -> None:
    asked: list[int] = []

    def mask(number: int) -> str:
        asked.append(number)
        return "••••6789"

    held, same = sealed(b"cipher", (mask, 1)), sealed(b"cipher", "••••1111")
    assert (held, hash(held), copy.deepcopy(held) is held) == (same, hash(same), True)
    with pytest.raises(Denied):
        pickle.dumps(held)
    assert not asked
    assert [str(held), f"{held}", repr(held), held.mask, enc_hook(held)] == [
        *("••••6789", "••••6789", "Secret(••••6789)", "••••6789", "••••6789")
    ]
    assert asked == [1]


def test_a_mask_that_was_altered_is_told_and_never_shown() -> None:
    def mask() -> str:
        raise Tampered("An encrypted field fails its authentication.")

    person = Person("Ann", sealed(b"cipher", (mask,)))
    for look in (str, format, enc_hook, lambda held: held.mask):
        with pytest.raises(Tampered):
            look(person.national_id)
    with pytest.raises(Tampered):
        msgspec.json.encode(person, enc_hook=enc_hook)
    assert repr(person) == "Person(name='Ann', national_id=Secret(tampered), born=None)"


def test_the_value_is_in_no_dictionary_and_no_state() -> None:
    held = secret(CANARY)
    assert not hasattr(held, "__dict__")
    with pytest.raises(TypeError):
        vars(held)
    for act in (
        lambda: pickle.dumps(held), lambda: pickle.dumps(held, 0), lambda: copy.copy(held), lambda: copy.deepcopy(held),
        lambda: held.__reduce_ex__(2), lambda: held.__getstate__(), lambda: pickle.dumps(Person("Ann", held)),
    ):  # fmt: skip
        with pytest.raises(Denied) as caught:
            act()
        assert CANARY not in str(caught.value)


def test_sealed_secrets_may_be_copied_but_not_pickled() -> None:
    stored = sealed(b"cipher", "••••")
    assert copy.copy(stored) is copy.deepcopy(stored) is stored
    with pytest.raises(Denied):
        pickle.dumps(stored)


def test_it_cannot_be_changed() -> None:
    held = secret(CANARY)
    for act in (
        lambda: setattr(held, "_mask", CANARY),
        lambda: setattr(held, "note", 1),
        lambda: delattr(held, "_plain"),
    ):
        with pytest.raises(Denied):
            act()


def test_it_is_not_made_by_its_class() -> None:
    for act in (lambda: Secret(CANARY), lambda: Secret[str](CANARY), lambda: Secret()):
        with pytest.raises(Invalid) as caught:
            act()
        assert CANARY not in str(caught.value)


@pytest.mark.parametrize("value", [None, secret("x"), sealed(b"x"), MASK, MASK + "6789"])
def test_what_a_secret_cannot_hold(value: Any) -> None:
    with pytest.raises(Invalid):
        secret(value)


class TestMasks:
    @pytest.mark.parametrize(
        ("value", "last", "mask"),
        [
            ("123456789", 4, "••••6789"),
            ("12345678", 4, "••••5678"),
            ("1234567", 4, MASK),
            ("1234", 4, MASK),
            ("", 4, MASK),
            ("123456789", 0, MASK),
            ("123456789", -4, MASK),
            (123456789, 4, MASK),
            (b"123456789", 4, MASK),
        ],
    )
    def test_mask(self, value: object, last: int, mask: str) -> None:
        assert mask_of(value, last) == mask
        assert secret(value, show_last=last).mask == mask


class TestEquality:
    def test_fresh(self) -> None:
        assert secret("a") == secret("a")
        assert hash(secret("a")) == hash(secret("a"))
        assert secret("a") != secret("b")
        assert secret("a", show_last=1) == secret("a")

    def test_types_tell_values_apart(self) -> None:
        values: list[Any] = ["1", 1, True, b"1", Decimal(1), 1.0, date(1970, 1, 1), [1], Money(1, "USD")]
        assert len({secret(value) for value in values}) == len(values)

    def test_sealed(self) -> None:
        assert sealed(b"a") == sealed(b"a", "other mask")
        assert hash(sealed(b"a")) == hash(sealed(b"a", "other mask"))
        assert sealed(b"a") != sealed(b"b")

    def test_states_differ(self) -> None:
        assert secret("a") != sealed(b"a")
        assert sealed(b"a") != secret("a")
        assert secret(b"a") != sealed(b"a")

    def test_other_types(self) -> None:
        assert secret("a") != "a"
        assert sealed(b"a") != b"a"

    def test_the_hash_is_not_the_value(self) -> None:
        assert hash(secret(1234)) != 1234

    @pytest.mark.parametrize("value", [object(), "\ud800", {1: object()}, 2**70 * 1j])
    def test_values_that_cannot_be_stored(self, value: Any) -> None:
        with pytest.raises(Invalid) as caught:
            hash(secret(value))
        assert caught.value.__context__ is None


class Colour(StrEnum):
    RED = "red"


class Inner(msgspec.Struct):
    a: int


class Body(msgspec.Struct):
    text: Secret[str]
    number: Secret[int] | None = None
    born: Secret[date] | None = None
    amount: Secret[Decimal] | None = None
    colour: Secret[Colour] | None = None
    inner: Secret[Inner] | None = None
    many: list[Secret[str]] = []


class TestJson:
    def test_it_is_encoded_as_its_mask_only(self) -> None:
        body = Body(secret(CANARY, show_last=4), many=[sealed(b"cipher")])
        text = msgspec.json.encode(body, enc_hook=enc_hook)
        assert json.loads(text)["text"] == "••••6789"
        assert json.loads(text)["many"] == [MASK]
        assert b"canary" not in text
        assert b"cipher" not in text
        assert msgspec.to_builtins(body, enc_hook=enc_hook)["text"] == "••••6789"
        assert CANARY.encode() not in msgspec.msgpack.encode(body, enc_hook=enc_hook)

    def test_without_the_hook_it_is_not_encoded_at_all(self) -> None:
        held = secret(CANARY)
        for act in (lambda: msgspec.json.encode(held), lambda: json.dumps(held), lambda: msgspec.to_builtins(held)):
            with pytest.raises(TypeError) as caught:
                act()
            assert CANARY not in str(caught.value)

    def test_the_hooks_leave_other_types_alone(self) -> None:
        with pytest.raises(NotImplementedError):
            enc_hook(object())
        with pytest.raises(NotImplementedError):
            secret_dec_hook(complex, 1)

    def test_it_is_decoded_fresh_and_typed(self) -> None:
        raw = (
            b'{"text":"%s","number":5,"born":"1990-02-01","amount":"1.50","colour":"red","inner":{"a":1},"many":["x"]}'
        )
        body = msgspec.json.decode(raw % CANARY.encode(), type=Body, dec_hook=secret_dec_hook)
        assert plaintext_of(body.text) == CANARY
        assert body.number is not None
        assert plaintext_of(body.number) == 5
        assert body.born is not None
        assert plaintext_of(body.born) == date(1990, 2, 1)
        assert body.amount is not None
        assert plaintext_of(body.amount) == Decimal("1.50")
        assert body.colour is not None
        assert plaintext_of(body.colour) is Colour.RED
        assert body.inner is not None
        assert plaintext_of(body.inner) == Inner(1)
        assert body.many == [secret("x")]
        assert not body.text.is_sealed

    def test_null_is_absent(self) -> None:
        raw = b'{"text":"x","number":null}'
        assert msgspec.json.decode(raw, type=Body, dec_hook=secret_dec_hook).number is None

    @pytest.mark.parametrize(
        "raw",
        ['{"text":123456789}', '{"text":["123456789"]}', '{"text":null}', '{"text":"x","number":"123456789"}',
         '{"text":"x","born":"123456789"}', '{"text":"x","colour":"123456789"}',
         '{"text":"x","inner":{"a":"123456789"}}'],
    )  # fmt: skip
    def test_wrong_values_are_refused_without_a_trace(self, raw: str) -> None:
        with pytest.raises(msgspec.ValidationError) as caught:
            msgspec.json.decode(raw, type=Body, dec_hook=secret_dec_hook)
        error: BaseException | None = caught.value
        while error is not None:
            assert "123456789" not in repr(error)
            error = error.__cause__ or error.__context__

    def test_the_path_is_told(self) -> None:
        with pytest.raises(msgspec.ValidationError, match=r"\$\.born"):
            msgspec.json.decode(b'{"text":"x","born":"y"}', type=Body, dec_hook=secret_dec_hook)

    def test_a_mask_sent_back_does_not_become_the_value(self) -> None:
        shown = msgspec.json.encode(Body(secret(CANARY, show_last=4)), enc_hook=enc_hook)
        with pytest.raises(msgspec.ValidationError, match="mask"):
            msgspec.json.decode(shown, type=Body, dec_hook=secret_dec_hook)

    def test_a_secret_passes_through_convert(self) -> None:
        held = secret("x")
        assert msgspec.convert({"text": held}, Body, dec_hook=secret_dec_hook).text is held
