"""Passwords: hashed with argon2id, in threads of a bounded number, so that neither memory nor the loop is exhausted.

The stored text is the usual PHC string, with the version of the pepper before it ("1$argon2id$v=19$m=..."). One that
begins with "$" has no pepper, as other systems write it. Source: RFC 9106; the pepper is its secret value K.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from tallystick.domains.identity.login_policy import LoginPolicy
from tallystick.errors import Invalid, Unavailable

LONGEST = 1_024
"""How long a password may be, in bytes of UTF-8."""

_PHC = re.compile(r"(\d{0,10})(\$argon2id\$v=19\$m=(\d{1,10}),t=(\d{1,10}),p=(\d{1,8})\$[\w+/]+\$[\w+/]+)", re.ASCII)
_SALT, _TAG = 16, 32
T = TypeVar("T")
Pepper = Callable[[int], bytes]


def prepared(password: object) -> bytes | None:
    """A password as bytes to hash, in Unicode's form NFKC (NIST SP 800-63B); None for one that cannot be one."""
    if not isinstance(password, str) or not 0 < len(password) <= LONGEST:
        return None
    try:
        found = unicodedata.normalize("NFKC", password).encode()
    except UnicodeEncodeError:
        return None
    return found if len(found) <= LONGEST else None


def acceptable(password: object, policy: LoginPolicy) -> bytes:
    """A new password as bytes to hash. Raises ``Invalid`` for one that is too short or too long."""
    found = prepared(password)
    if found is None or len(found.decode()) < policy.shortest_password:
        raise Invalid(
            f"A password has {policy.shortest_password} characters at least and {LONGEST} bytes at most.",
            field="password",
            remedy="Ask for another one.",
        )
    return found


@lru_cache(16)
def hasher_of(policy: LoginPolicy) -> Hasher:
    """The hasher of a policy; one in a process, because its threads are what bounds the memory."""
    return Hasher(policy)


class Hasher:
    """Hashes and compares passwords at the cost of one policy."""

    def __init__(self, policy: LoginPolicy) -> None:
        self._policy = policy
        self._most = policy.hashes_at_once + policy.waiting
        self._threads = ThreadPoolExecutor(policy.hashes_at_once, thread_name_prefix="tallystick-password")
        self._lock = threading.Lock()
        self._under_way = 0
        self._nobody: str | None = None

    async def hash(self, password: bytes, pepper: Pepper) -> str:
        """The text to store for a password. Raises ``Unavailable`` when too many stand in line."""
        return await self._run(lambda: self._hashed(password, self._policy.pepper, pepper))

    async def fits(self, password: bytes | None, stored: str | None, pepper: Pepper) -> bool:
        """Whether a password is the stored one. It takes as long when there is no password, or none is stored.

        Raises ``Unavailable`` when too many stand in line.
        """
        return await self._run(lambda: self._fits(password, stored, pepper))

    def is_cheap(self, stored: str) -> bool:
        """Whether a stored hash was made at another cost than the policy's, or with another pepper."""
        found, policy = _PHC.fullmatch(stored), self._policy
        if found is None:
            return True
        made = (int(found[1] or 0), int(found[3]), int(found[4]), int(found[5]))
        return made != (policy.pepper, policy.memory_kib, policy.passes, policy.lanes)

    def _hashed(self, password: bytes, version: int, pepper: Pepper) -> str:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        policy = self._policy
        made = Argon2id(
            salt=os.urandom(_SALT),
            length=_TAG,
            iterations=policy.passes,
            lanes=policy.lanes,
            memory_cost=policy.memory_kib,
            secret=pepper(version) if version else None,
        )
        return f"{version or ''}{made.derive_phc_encoded(password)}"

    def _fits(self, password: bytes | None, stored: str | None, pepper: Pepper) -> bool:
        from cryptography.exceptions import InvalidKey
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        found = _PHC.fullmatch(stored or "")
        real = found is not None and password is not None
        # Made by whoever comes first, so that the first unknown account does not take twice as long as others.
        if self._nobody is None:
            self._nobody = self._hashed(os.urandom(_SALT), 0, pepper)
        if found is None:
            found = _PHC.fullmatch(self._nobody)
            assert found is not None
        version = int(found[1] or 0)
        try:
            Argon2id.verify_phc_encoded(password or b"-", found[2], secret=pepper(version) if version else None)
        except InvalidKey:
            return False
        except (ValueError, OverflowError, MemoryError):
            # Written by another system with numbers that nobody can compute: it is as good as none.
            return self._fits(None, None, pepper)
        return real

    async def _run(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._under_way >= self._most:
                raise Unavailable("Too many passwords are being checked.", remedy="Try again in a moment.")
            self._under_way += 1
        try:
            future: Future[T] = self._threads.submit(work)
        except BaseException:
            self._ended(None)
            raise
        # Counted until it is over in the thread: a caller that went away leaves the memory in use.
        future.add_done_callback(self._ended)
        return await asyncio.wrap_future(future)

    def _ended(self, _: object) -> None:
        with self._lock:
            self._under_way -= 1
