"""How often and how soon a message that failed is delivered again."""

from __future__ import annotations

from datetime import timedelta
from random import SystemRandom
from typing import Final

import msgspec

from tallystick.errors import Invalid

_LONGEST: Final = timedelta(days=7)
_MOST: Final = 1_000
_random = SystemRandom()


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """When a message that failed is delivered again, and when it is given up.

    The wait doubles from ``base`` up to ``cap``, each time somewhere between half of that and all of it, so that what
    failed together does not come back together. After ``attempts`` deliveries the message is a dead letter. With
    ``block`` the rest of its key waits for ``db.outbox.retry`` or ``discard``, because a message that is left out is
    out of order too; without it the key goes on.
    """

    attempts: int = 10
    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=10)
    block: bool = True

    def checked(self) -> Retry:
        """Itself. Raises ``Invalid`` for a policy that could not be kept."""
        if self.attempts.__class__ is not int or not 1 <= self.attempts <= _MOST:
            raise Invalid(f"attempts is 1 to {_MOST}.", field="attempts", remedy="Write Retry(attempts=10).")
        if not all(isinstance(t, timedelta) for t in (self.base, self.cap)) or not (
            timedelta(0) <= self.base <= self.cap <= _LONGEST
        ):
            raise Invalid(
                "base and cap are timedeltas up to 7 days, base the shorter one.",
                field="base",
                remedy="Write Retry(base=timedelta(seconds=1), cap=timedelta(minutes=10)).",
            )
        return self

    def wait(self, tries: int) -> timedelta:
        """How long to wait after so many deliveries."""
        longest = min(self.cap, self.base * 2 ** min(max(tries, 1) - 1, 40)) if self.base else timedelta(0)
        half = int(longest / timedelta(microseconds=2))
        return timedelta(microseconds=half + _random.randint(0, half))
