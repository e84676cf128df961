"""The throttle of logins: attempts are counted before they are judged, and wait when there were too many.

Counts are kept by account from one source, by source, by account, and for the tenant. Each is raised by one atomic
statement in a transaction that ends before the attempt is judged, so sixteen guesses at once count sixteen, and what
happens to the attempt afterwards takes none of them back. One that came too early counts and does not lengthen the
wait, or whoever hammers at a door would keep it shut.
"""

from __future__ import annotations

import hmac
import ipaddress
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NamedTuple
from uuid import UUID

from tallystick.domains.guarded import Guarded
from tallystick.domains.identity.login_policy import Delay, LoginPolicy
from tallystick.entity import Entity
from tallystick.errors import Invalid
from tallystick.fields import Once
from tallystick.ids import uuid7
from tallystick.rules import Check, Index, Readable, Rules, Unique

if TYPE_CHECKING:
    from tallystick.session import Session

_LONGEST_SOURCE = 200
_IPV6_BITS = 64


class ThrottleScope(StrEnum):
    """What a count is about."""

    PAIR = "pair"
    SOURCE = "source"
    ACCOUNT = "account"
    TENANT = "tenant"


_ORDER = (ThrottleScope.PAIR, ThrottleScope.SOURCE, ThrottleScope.ACCOUNT, ThrottleScope.TENANT)


class LoginThrottle(Entity):
    """How many attempts there were, and from when on the next one is judged.

    ``key`` is a keyed hash of what it is about, so the table names neither accounts nor addresses; there may be no
    such account. ``refused`` says that the latest attempt came too early. ``known_until`` is for a source from which
    the account was entered.
    """

    scope: Annotated[ThrottleScope, Once()]
    key: Annotated[bytes, Once()]
    tries: int = 0
    since: datetime
    open_at: datetime
    refused: bool = False
    known_until: datetime | None = None

    rules = Rules(
        Unique("scope", "key"),
        Index("since", query="counts that are over"),
        Check("key", "octet_length(key) = 32"),
        Check("tries", "tries between 0 and 1000000"),
        audit=False,
        fillfactor=70,
        readable={"key": Readable.DIGEST},
    )


class Throttles(Guarded[LoginThrottle]):
    """The counts; written by ``db.logins``."""

    permission = "logins.manage"
    instead = "db.logins"


class Count(NamedTuple):
    """One count after an attempt: its row, how many, from when on the next is judged, and whether this one was not."""

    scope: ThrottleScope
    id: UUID
    tries: int
    open_at: datetime
    refused: bool


class Attempt(NamedTuple):
    """An attempt that was counted. ``failures`` are those of the account before it.

    ``early`` is the scope that it was too early for; None for one that may be judged.
    """

    counts: tuple[Count, ...]
    early: ThrottleScope | None
    failures: int


async def count(db: Session, policy: LoginPolicy, account: str, source: str) -> Attempt:
    """Count an attempt, in a transaction of its own. ``account`` names an account, whether there is one or not.

    Raises ``Invalid`` for a source that is none, and within an open transaction: one that is rolled back would forget.
    """
    if db.unit.depth:
        raise Invalid(
            "A login cannot be a part of a transaction, which might be rolled back and forget the attempt.",
            remedy="Call it outside db.transaction().",
        )
    place = network(source)
    secret = db.sealer.keyring().provider.index_key(db.tenant_id, "login_throttle", "key")
    now, early, known = db.now(), None, False
    counts: list[Count] = []
    async with db.transaction():
        # Always in this order, so that two attempts never wait for each other; the tenant's row, which all share, last.
        for scope in _ORDER:
            key = hmac.digest(secret, _named(scope, account, place), "sha256")
            found, until = await _raise(db, scope, key, getattr(policy, scope.value), now)
            counts.append(found)
            known = known or (until is not None and until > now)
            if found.refused and not (known and scope in (ThrottleScope.ACCOUNT, ThrottleScope.TENANT)):
                early = scope
                break
    mine = next((c.tries - 1 for c in counts if c.scope is ThrottleScope.ACCOUNT), 0)
    return Attempt(tuple(counts), early, mine)


async def give_back(db: Session, attempt: Attempt) -> None:
    """Take an attempt out of the counts again, in the open transaction: it was no failure."""
    now = db.now()
    for found in attempt.counts:
        await _give_back(db, found, now)


async def forgive(db: Session, policy: LoginPolicy, attempt: Attempt) -> None:
    """Begin the account's counts anew, in the open transaction, and remember the source: it was entered."""
    now = db.now()
    for found in attempt.counts:
        if found.scope in (ThrottleScope.PAIR, ThrottleScope.ACCOUNT):
            until = now + policy.known_for if found.scope is ThrottleScope.PAIR else None
            await db.unit.call(_FORGIVE, (db.tenant_id, found.id, now, until))
        else:
            await _give_back(db, found, now)


def network(source: str) -> str:
    """Who is counted as one source: an IPv4 address, the /64 of an IPv6 one, else the text itself. Raises ``Invalid``.

    A /64 is what one subscriber gets, who could otherwise come from another address each time.
    """
    if not isinstance(source, str) or not 1 <= len(source) <= _LONGEST_SOURCE:
        raise Invalid(
            "A login comes from a source.", field="source", remedy="Give the client's address as your server sees it."
        )
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address.packed, _IPV6_BITS), strict=False))
    return str(address)


def _named(scope: ThrottleScope, account: str, place: str) -> bytes:
    parts = {
        ThrottleScope.PAIR: (account, place),
        ThrottleScope.SOURCE: (place,),
        ThrottleScope.ACCOUNT: (account,),
        ThrottleScope.TENANT: (),
    }[scope]
    raw = [p.encode("utf-8", "surrogatepass") for p in (scope.value, *parts)]
    return b"".join(len(p).to_bytes(4, "big") + p for p in raw)


async def _raise(
    db: Session, scope: ThrottleScope, key: bytes, delay: Delay, now: datetime
) -> tuple[Count, datetime | None]:
    args = (db.tenant_id, uuid7(), scope.value, key, now, delay.free, delay.first, delay.most, delay.window)
    ((id, tries, open_at, refused, known_until),) = await db.unit.call(_RAISE, args)
    return Count(scope, id, tries, open_at, refused), known_until


async def _give_back(db: Session, found: Count, now: datetime) -> None:
    # A wait that others have made stays, from before this attempt or since.
    mine = None if found.refused else found.open_at
    await db.unit.call(_GIVE_BACK, (db.tenant_id, found.id, mine, now))


# What is open is open for a caller whose clock is behind, or who has waited for the row since they looked at it.
_PAST = "interval '1 hour'"
_OVER = "(t.since <= $5::timestamptz - $9::interval AND t.open_at <= $5)"
_NEXT = f"CASE WHEN {_OVER} THEN 1 ELSE least(t.tries + 1, 1000000) END"
_RAISE = (
    "INSERT INTO tally.login_throttle AS t (tenant_id, id, scope, key, tries, since, open_at, refused) "
    f"VALUES ($1, $2, $3, $4, 1, $5::timestamptz, $5 - {_PAST}, false) "
    "ON CONFLICT (tenant_id, scope, key) DO UPDATE SET "
    f"refused = t.open_at > $5, tries = {_NEXT}, since = CASE WHEN {_OVER} THEN $5 ELSE t.since END, "
    f"open_at = CASE WHEN t.open_at > $5 OR {_NEXT} <= $6::bigint THEN t.open_at "
    f"ELSE $5 + make_interval(secs => least($8::float8, $7::float8 * power(2, least({_NEXT} - $6 - 1, 60)))) END "
    "RETURNING t.id, t.tries, t.open_at, t.refused, t.known_until"
)
_GIVE_BACK = (
    "UPDATE tally.login_throttle SET tries = greatest(tries - 1, 0), open_at = CASE "
    f"WHEN open_at = $3::timestamptz THEN least(open_at, $4::timestamptz - {_PAST}) ELSE open_at END "
    "WHERE tenant_id = $1 AND id = $2"
)
_FORGIVE = (
    f"UPDATE tally.login_throttle SET tries = 0, since = $3::timestamptz, open_at = $3 - {_PAST}, "
    "known_until = coalesce($4::timestamptz, known_until) WHERE tenant_id = $1 AND id = $2"
)
