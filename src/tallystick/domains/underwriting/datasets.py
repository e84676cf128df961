"""What data sets of decided applications share: who is known already, and numbers that nobody has."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from tallystick.privacy.sealed import Secret, secret

if TYPE_CHECKING:
    from tallystick.session import Session

R = TypeVar("R")
# Keys and nothing else: opening what is encrypted in every application would take most of a load. ";" follows ":".
_KEYS = (
    "SELECT a.idempotency_key FROM tally.application a WHERE a.tenant_id = $1 AND a.idempotency_key >= $2 "
    "AND a.idempotency_key < $3"
)


def keyed(records: Iterable[R], start: str, told: Callable[[R], Sequence[str]]) -> dict[str, R]:
    """Records by a key that what they tell makes, beginning with ``start``.

    The key is the same wherever in whichever file a record stands, so a file that was cut short, put in another order
    or loaded before adds nothing twice; records that tell the very same are told apart by how many came before.
    """
    seen: Counter[str] = Counter()
    found: dict[str, R] = {}
    for record in records:
        digest = hashlib.sha256("\x1f".join(told(record)).encode()).hexdigest()[:24]
        seen[digest] += 1
        found[f"{start}{digest}" + (f":{seen[digest]}" if seen[digest] > 1 else "")] = record
    return found


async def stored_keys(db: Session, start: str) -> set[str]:
    """The keys of applications that the tenant has from earlier loads; ``start`` ends in a colon."""
    return {key for (key,) in await db.unit.call(_KEYS, (db.tenant_id, start, f"{start[:-1]};"))}


def made_up_name(number: int) -> str:
    """A name that says that nobody has it."""
    return f"Made-up {number:04}"


def made_up_ssn(number: int) -> Secret[str]:
    """A social security number of area 000, which was never issued."""
    return secret(f"000-{number // 10_000 % 100:02}-{number % 10_000:04}")
