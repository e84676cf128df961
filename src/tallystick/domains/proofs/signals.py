"""Public signals: the numbers that a proof shows, each below the circuit's modulus and written in one way only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from tallystick.errors import Invalid

BN254: Final = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""The order of the scalar field of BN254 (alt_bn128), which circom circuits work in. Source: EIP-197."""
BLS12_381: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
"""The order of the scalar field of BLS12-381."""
_MOST_SIGNALS = 256
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SMALL = tuple(n for n in range(2, 174) if all(n % d for d in range(2, n)))
_CANONICAL = re.compile(r"0|[1-9][0-9]{0,77}")


class SignalRole(StrEnum):
    """What a signal is for. There is at most one of each but ``value``."""

    VALUE = "value"
    NULLIFIER = "nullifier"
    SCOPE = "scope"
    CONTEXT = "context"


class Signal(msgspec.Struct, frozen=True):
    """One public signal of a circuit, by its place in the list."""

    name: str
    role: SignalRole = SignalRole.VALUE


def check_signals(signals: Sequence[Signal]) -> list[Signal]:
    """The signals of a circuit. Raises ``Invalid`` unless names differ and roles are given once."""
    found = list(signals) if isinstance(signals, (list, tuple)) else [signals]
    known = [s for s in found if isinstance(s, Signal) and isinstance(s.role, SignalRole) and isinstance(s.name, str)]
    names = [s.name for s in known]
    roles = [s.role for s in known if s.role is not SignalRole.VALUE]
    fine = len(known) == len(found) <= _MOST_SIGNALS and len(set(names)) == len(names) and len(set(roles)) == len(roles)
    if not fine or not all(_NAME.fullmatch(n) for n in names):
        raise Invalid(
            f"A circuit has up to {_MOST_SIGNALS} signals with names of their own, and each role once.",
            field="signals",
            entity="Circuit",
            remedy='Write [Signal("nullifier", SignalRole.NULLIFIER), Signal("threshold")].',
        )
    return known


def is_prime(number: int) -> bool:
    """Whether a number is prime (Miller and Rabin): wrong for a composite once in 4^40 times, if anybody tried."""
    if number < 2 or any(number % p == 0 and number != p for p in _SMALL):
        return False
    twos = ((number - 1) & (1 - number)).bit_length() - 1
    for base in _SMALL:
        x = pow(base, (number - 1) >> twos, number)
        if x not in (0, 1, number - 1) and not any((x := x * x % number) == number - 1 for _ in range(twos - 1)):
            return False
    return True


def number(text: object, prime: int, field: str = "public_signals") -> int:
    """The number of a signal, written in decimal without sign or leading zeros, and below the modulus.

    x and x + modulus are the same to a verifier, so a proof could be used twice under two names of one nullifier;
    only the smaller is a number here. Raises ``Invalid``.
    """
    if isinstance(text, str) and _CANONICAL.fullmatch(text) and (found := int(text)) < prime:
        return found
    raise Invalid(
        "A signal is a decimal number below the circuit's modulus, without sign, blanks or leading zeros.",
        field=field,
        entity="Proof",
        remedy="Give it as the prover wrote it, in its smallest form.",
    )


def nullifier_bytes(value: int, prime: int) -> bytes:
    """A nullifier as it is stored: 32 bytes, most significant first. Raises ``Invalid`` from the modulus on."""
    if value.__class__ is not int or not 0 <= value < prime:
        raise Invalid(
            "A nullifier is a number from zero and below the circuit's modulus.",
            field="nullifier",
            entity="Proof",
            remedy="Give its smallest form; the same plus the modulus would be the same proof a second time.",
        )
    return value.to_bytes(32, "big")


def check_expected(expected: Mapping[str, Any] | None, signals: Sequence[Signal], prime: int) -> dict[str, str]:
    """What the server expects some signals to be, by name. Raises ``Invalid`` for names the circuit has not."""
    if expected is not None and not isinstance(expected, Mapping):
        raise Invalid(
            "What signals have to be is given by their names.",
            field="expected",
            entity="Proof",
            remedy='Write {"threshold": 50_000}.',
        )
    given = dict(expected or {})
    names = {s.name for s in signals if s.role is SignalRole.VALUE}
    if not set(given) <= names:
        raise Invalid(
            "The circuit has no such signal to expect something of.",
            field="expected",
            entity="Proof",
            remedy=f"Its signals are: {', '.join(sorted(names)) or 'none'}.",
        )
    found: dict[str, str] = {}
    for name, value in given.items():
        text = str(value) if value.__class__ is int else value
        found[name] = str(number(text, prime, "expected"))
    return found
