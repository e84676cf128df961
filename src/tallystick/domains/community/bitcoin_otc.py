"""The trust network of Bitcoin OTC (SNAP soc-sign-bitcoin-otc) as users and trust edges.

People who traded bitcoins over the counter rated each other from -10 to 10, because they had nothing else to go by:
35,592 ratings by 5,881 members from 2010 to 2016 (S. Kumar, F. Spezzano, V. S. Subrahmanian, C. Faloutsos, "Edge Weight
Prediction in Weighted Signed Networks", ICDM 2016). The file numbers its members and says nothing else of them.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from tallystick.domains.community.graph import TrustGraph
from tallystick.domains.community.trust_edges import LEAST_WEIGHT, MOST_WEIGHT, TrustEdge
from tallystick.domains.identity.users import User, UserStatus
from tallystick.errors import Invalid
from tallystick.fields import Ref
from tallystick.ids import uuid_of
from tallystick.query import one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tallystick.session import Session

FILE: Final = "soc-sign-bitcoinotc.csv"
_LARGEST: Final = 64 * 1024 * 1024
_AT_ONCE: Final = 5_000
_DAWN: Final = int(datetime(2010, 11, 8, tzinfo=UTC).timestamp() * 1000)
_THERE = "SELECT from_user_id, to_user_id FROM tally.trust_edge WHERE tenant_id = $1 AND community_id IS NULL"


class Rating(msgspec.Struct, frozen=True):
    """One line of the file: the numbers of who rated and of who was rated, how, and on which day (UTC)."""

    source: int
    target: int
    weight: int
    day: date


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading did: the file's name, its ratings, what of them and of their members was new, and the graph now."""

    file: str
    ratings: int
    members_added: int
    edges_added: int
    graph: TrustGraph


def find(path: Path) -> Path:
    """The data file that a path means: itself, or the file of its usual name in that folder. Raises ``Invalid``."""
    found = next((f for f in (path / FILE, path / "bitcoin_otc" / FILE) if f.is_file()), path)
    if found.is_file():
        return found
    raise Invalid(
        "There is no Bitcoin OTC file at that path.", field="path", remedy=f"Name {FILE}, or the folder it is in."
    )


def read(path: Path) -> list[Rating]:
    """Every rating of the file. Raises ``Invalid`` with the number of the first line that is not what it should be."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise Invalid(
            f"The Bitcoin OTC file cannot be read ({error.strerror}).", field="path", remedy="Check its rights."
        ) from None
    if len(raw) > _LARGEST:
        raise Invalid("The file is far larger than the Bitcoin OTC data.", field="path", remedy="Check the path.")
    ratings: list[Rating] = []
    pairs: set[tuple[int, int]] = set()
    for at, line in enumerate(raw.splitlines(), 1):
        rating = _rating(at, line)
        if (rating.source, rating.target) in pairs:
            raise _bad(at, "rates a member a second time")
        pairs.add((rating.source, rating.target))
        ratings.append(rating)
    if not ratings:
        raise Invalid("The file holds no ratings.", field="path", remedy="Check that the download is complete.")
    return ratings


def member_id(tenant: UUID, number: int) -> UUID:
    """The id of a member of the file within a tenant: always the same one, so that loading again finds them.

    A UUIDv7 of the day on which the data begins, with a hash where others have random bits.
    """
    bits = int.from_bytes(hashlib.sha256(tenant.bytes + b"bitcoin-otc" + str(number).encode()).digest()[:10])
    low = (_DAWN << 80) | bits
    return uuid_of(((low & ~(0xF << 76) & ~(0x3 << 62)) | (7 << 76) | (2 << 62)).to_bytes(16))


async def load(db: Session, path: Path, told: Callable[[int], None] | None = None) -> Loaded:
    """Store the members and ratings of a file that the tenant does not have yet, all or none.

    Needs the permission "communities.manage". ``told`` hears how many ratings more are stored. Raises ``Invalid`` with
    the line number for a file that is damaged.
    """
    await db.require("communities.manage")
    file = find(path)
    ratings = read(file)
    ids = {number: member_id(db.tenant_id, number) for r in ratings for number in (r.source, r.target)}
    async with db.transaction():
        members = await _members(db, list(ids.values()))
        there = {(row[0], row[1]) for row in await db.unit.call(_THERE, (db.tenant_id,))}
        added = 0
        for start in range(0, len(ratings), _AT_ONCE):
            part = ratings[start : start + _AT_ONCE]
            fresh = [
                TrustEdge(from_user=Ref(ids[r.source]), to_user=Ref(ids[r.target]), weight=r.weight, valid_from=r.day)
                for r in part
                if (ids[r.source], ids[r.target]) not in there
            ]
            added += len(await db.trust.add_many(fresh))
            if told is not None:
                told(len(part))
        graph = await db.trust.graph()
    return Loaded(file=file.name, ratings=len(ratings), members_added=members, edges_added=added, graph=graph)


async def _members(db: Session, ids: Sequence[UUID]) -> int:
    """Add the members that are not there; answers how many."""
    added = 0
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        known = {user.id for user in await db.users.find(one_of(User.id, part))}
        fresh = [User(id=id, status=UserStatus.ACTIVE) for id in part if id not in known]
        added += len(await db.users.add_many(fresh))
    return added


def _rating(at: int, line: bytes) -> Rating:
    try:
        source, target, weight, moment = line.decode("ascii").split(",")
    except (UnicodeDecodeError, ValueError):
        raise _bad(at, "is not four values separated by commas") from None
    if not all(n.isdigit() and 0 < len(n) < 10 for n in (source, target)) or source == target:
        raise _bad(at, "does not number two members")
    if not weight.lstrip("-").isdigit() or len(weight) > 3 or not LEAST_WEIGHT <= int(weight) <= MOST_WEIGHT:
        raise _bad(at, f"has no rating from {LEAST_WEIGHT} to {MOST_WEIGHT}")
    try:
        day = datetime.fromtimestamp(int(Decimal(moment)), UTC).date()
    except (InvalidOperation, ValueError, OverflowError, OSError):
        raise _bad(at, "has no moment in seconds since 1970") from None
    return Rating(int(source), int(target), int(weight), day)


def _bad(line: int, problem: str) -> Invalid:
    return Invalid(
        f"Line {line} of the Bitcoin OTC file {problem}.",
        field="path",
        remedy="Nothing was loaded; get the file again.",
    )
