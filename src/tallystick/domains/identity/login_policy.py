"""How an application's logins behave: the cost of a password's hash, delays, and how long things hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from tallystick.errors import Invalid

_LEAST_KIB, _LEAST_PASSES = 19_456, 2
_MOST_KIB = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Delay:
    """How attempts are slowed down: ``free`` of them come without a wait, each further one doubles it.

    The first wait is ``first`` seconds, the longest ``most``. A count begins anew ``window`` after it began. Attempts
    that are under way count, so somebody who logs in more often at once than ``free`` waits too.
    """

    free: int
    first: float
    most: float
    window: timedelta

    def __post_init__(self) -> None:
        if self.free.__class__ is not int or self.free < 1 or not 0 < self.first <= self.most <= 86_400:
            raise Invalid(
                "A delay has at least one free attempt and waits of more than none and at most a day.",
                field="delay",
                remedy="Write Delay(free=5, first=1, most=900, window=timedelta(days=1)).",
            )
        if not isinstance(self.window, timedelta) or self.window <= timedelta(0):
            raise Invalid("A delay's window is a timedelta above zero.", field="window")


@dataclass(frozen=True, slots=True)
class LoginPolicy:
    """The rules of an application's logins; give it to ``Tallystick.open(logins=...)``.

    ``memory_kib``, ``passes`` and ``lanes`` are argon2id's (RFC 9106); raised, they reach each password at its next
    login. ``hashes_at_once`` bounds the memory: that many times ``memory_kib`` at most, and ``waiting`` more may stand
    in line. ``pepper`` is the version of the key from the key provider that goes into hashes; 0 is none.

    Refusals are answered after a multiple of ``answer_after`` seconds. The delays are by account from one source
    (``pair``), by ``source``, by ``account`` from everywhere, and by ``tenant``. A source from which an account was
    entered within ``known_for`` does not wait for the last two: others cannot keep a person out of their account.
    """

    memory_kib: int = _LEAST_KIB
    passes: int = _LEAST_PASSES
    lanes: int = 1
    hashes_at_once: int = 4
    waiting: int = 64
    pepper: int = 1
    shortest_password: int = 8
    answer_after: float = 0.4
    pair: Delay = field(default=Delay(free=5, first=1, most=900, window=timedelta(days=1)))
    source: Delay = field(default=Delay(free=50, first=1, most=60, window=timedelta(hours=1)))
    account: Delay = field(default=Delay(free=10, first=1, most=60, window=timedelta(days=1)))
    tenant: Delay = field(default=Delay(free=1_000, first=0.05, most=0.05, window=timedelta(minutes=1)))
    known_for: timedelta = timedelta(days=30)
    challenge_for: timedelta = timedelta(minutes=5)
    reset_for: timedelta = timedelta(minutes=30)

    def __post_init__(self) -> None:
        whole = ("memory_kib", "passes", "lanes", "hashes_at_once", "waiting", "shortest_password")
        if any(getattr(self, n).__class__ is not int or getattr(self, n) < 1 for n in whole):
            raise Invalid(
                f"{', '.join(whole)} are whole numbers from 1.",
                field="logins",
                remedy="Leave out what need not differ.",
            )
        if self.pepper.__class__ is not int or not 0 <= self.pepper < 2**31:
            raise Invalid("pepper is a version: a whole number, or 0 for none.", field="pepper")
        if not 8 * self.lanes <= self.memory_kib <= _MOST_KIB:
            raise Invalid("memory_kib is from 8 a lane to 4 GiB.", field="memory_kib", remedy="RFC 9106, section 3.1.")
        if not 0 <= self.answer_after <= 10:
            raise Invalid("answer_after is 0 to 10 seconds.", field="answer_after")
        if any(getattr(self, n) <= timedelta(0) for n in ("known_for", "challenge_for", "reset_for")):
            raise Invalid("How long something holds is a timedelta above zero.", field="logins")

    def checked(self) -> LoginPolicy:
        """The policy itself. Raises ``Invalid`` below what OWASP recommends at least (19 MiB, two passes)."""
        if self.memory_kib < _LEAST_KIB or self.passes < _LEAST_PASSES:
            raise Invalid(
                "Passwords would be hashed too cheaply.",
                field="logins",
                remedy=f"memory_kib is at least {_LEAST_KIB} and passes at least {_LEAST_PASSES}.",
            )
        return self
