"""The review queue and statistics among 1,000,000 applications, beside queries written by hand.

Both sides answer the same structs: tasks and applications with names and e-mail addresses decrypted, social security
numbers and scores sealed. By hand fields are decrypted with the same keys and cipher; a deep page starts behind the
place where the one before ended, for both. Tasks with their applications are two statements with Tallystick and one by
hand, a join: a row that is only reported.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from benchmarks.domains.population import APPLICATIONS, IN_REVIEW, UNTIL, populate
from benchmarks.domains.turns import MOST, Side, in_turns
from benchmarks.figures import Row
from benchmarks.place import SLUG, Place
from tallystick import Money, Ref, Session, desc
from tallystick.domains.identity.profiles import EmploymentStatus
from tallystick.domains.underwriting.applications import Application, ApplicationStatus
from tallystick.domains.underwriting.reviews import ReviewState, ReviewTask
from tallystick.domains.underwriting.statistics import Statistics
from tallystick.privacy.envelope import associated_data
from tallystick.privacy.keyring import HeldKey
from tallystick.privacy.sealed import sealed

LIMIT = 20
DEEP = 200
"""Pages before the deep one."""
CALLS = 10
"""Pages a turn."""

_TASK = (
    "tenant_id", "id", "application_id", "reason", "state", "claimed_by_id", "claimed_at", "held_until",
    "escalated_for", "resolved_by_id", "resolved_at", "decision_id", "version", "created_at", "created_by",
    "updated_at", "updated_by",
)  # fmt: skip
_APPLICATION = (
    "tenant_id", "id", "applicant_id", "product", "stripe_account_id", "plaid_verification_id", "duoplus_device_id",
    "blockchain_tx_hash", "full_legal_name", "ssn", "ssn_mask", "annual_income", "asset", "employment_status",
    "requested_amount", "requested_months", "purpose", "credit_score", "email", "phone", "address",
    "identity_verification", "credit_report", "kyc_documents", "ip_address", "user_agent", "device_fingerprint",
    "monitoring", "status", "submitted_at", "decided_at", "expires_at", "idempotency_key", "version", "created_at",
    "created_by", "updated_at", "updated_by",
)  # fmt: skip
_STATES = {str(state.value): state for state in ReviewState}
_STATUSES = {str(status.value): status for status in ApplicationStatus}
_EMPLOYMENTS = {str(status.value): status for status in EmploymentStatus}
_monitoring = msgspec.json.Decoder(dict[str, str]).decode

Pager = Callable[[Any], Awaitable[tuple[list[Any], Any]]]
"""A page behind a place: its items, and behind which place the next one starts."""


class Opener:
    """What opens encrypted fields of one tenant: people's keys, and what binds an envelope to row and person."""

    def __init__(self, place: Place, held: Mapping[bytes, HeldKey]) -> None:
        self.keys = {
            key_id: (one.key._cipher.decrypt, one.key._header, one.subject.bytes)
            for key_id, one in held.items()
            if one.key is not None
        }
        self.columns: dict[str, tuple[bytes, bytes]] = {}
        nil = UUID(int=0)
        for column in ("full_legal_name", "ssn_mask", "email", "phone", "ip_address", "user_agent"):
            bound = associated_data(place.tenant, "application", column, nil, nil)
            before, between, _ = bound.split(nil.bytes)
            self.columns[column] = (before, between)

    @staticmethod
    async def of(place: Place) -> Opener:
        """With every key of the tenant at hand, as a process has them that has been running."""
        rows = await place.admin.fetch("select key_id from tally.data_key where tenant_id = $1", place.tenant)
        async with place.opened(1) as tally, tally.session(SLUG, actor="bench") as db:
            ring = tally.keyring
            assert ring is not None
            return Opener(place, await ring.load(db.unit, [bytes(row[0]) for row in rows]))

    def text(self, column: str, envelope: bytes | None, row: UUID) -> str | None:
        if envelope is None:
            return None
        decrypt, header, person = self.keys[envelope[2:18]]
        before, between = self.columns[column]
        return decrypt(envelope[18:30], envelope[30:], header + before + row.bytes + between + person).decode()


def task_of(row: Any) -> ReviewTask:
    (
        tenant, id, application, reason, state, claimed_by, claimed, held, escalated, resolved_by, resolved, decision,
        version, created, created_by, updated, updated_by,
    ) = row  # fmt: skip
    return ReviewTask(
        id=id, tenant_id=tenant, application=Ref(application), reason=reason, state=_STATES[state],
        claimed_by=None if claimed_by is None else Ref(claimed_by), claimed_at=claimed, held_until=held,
        escalated_for=escalated, resolved_by=None if resolved_by is None else Ref(resolved_by), resolved_at=resolved,
        decision=None if decision is None else Ref(decision), version=version, created_at=created,
        created_by=created_by, updated_at=updated, updated_by=updated_by,
    )  # fmt: skip


def application_of(row: Any, opener: Opener) -> Application:
    (
        tenant, id, applicant, product, stripe, plaid, duoplus, blockchain, name, ssn, ssn_mask, income, asset,
        employment, amount, months, purpose, score, email, phone, address, identity, report, documents, ip, agent,
        fingerprint, monitoring, status, submitted, decided, expires, key, version, created, created_by, updated,
        updated_by,
    ) = row  # fmt: skip
    if not address is identity is report is documents is fingerprint is None:
        raise LookupError("documents are not read here")
    text = opener.text
    return Application(
        id=id, tenant_id=tenant, applicant=None if applicant is None else Ref(applicant), product=product,
        stripe_account_id=stripe, plaid_verification_id=plaid, duoplus_device_id=duoplus,
        blockchain_tx_hash=blockchain, full_legal_name=text("full_legal_name", name, id) or "",
        ssn=sealed(ssn, text("ssn_mask", ssn_mask, id) or ""), annual_income=Money(income, asset),
        employment_status=_EMPLOYMENTS[employment],
        requested_amount=None if amount is None else Money(amount, asset), requested_months=months, purpose=purpose,
        credit_score=None if score is None else sealed(score), email=text("email", email, id),
        phone=text("phone", phone, id), ip_address=text("ip_address", ip, id),
        user_agent=text("user_agent", agent, id), monitoring=_monitoring(monitoring), status=_STATUSES[status],
        submitted_at=submitted, decided_at=decided, expires_at=expires, idempotency_key=key, version=version,
        created_at=created, created_by=created_by, updated_at=updated, updated_by=updated_by,
    )  # fmt: skip


def _columns(table: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"{table}.{name}" for name in names)


_TASKS = (
    f"select {_columns('t', _TASK)} from hand.review_task t where t.tenant_id = $1 and t.state = 'open'{{behind}} "
    f"order by t.created_at, t.id limit {LIMIT + 1}"
)
_BEHIND = " and (t.created_at, t.id) > ($2, $3)"
_JOINED = (
    f"select {_columns('t', _TASK)}, {_columns('a', _APPLICATION)} from ({{tasks}}) t "
    "join hand.application a on a.tenant_id = $1 and a.id = t.application_id order by t.created_at, t.id"
)
_NEWEST = (
    f"select {_columns('a', _APPLICATION)} from hand.application a where a.tenant_id = $1 and a.status = 'review'"
    f"{{behind}} order by a.created_at desc, a.id desc limit {LIMIT + 1}"
)
_BEFORE = " and (a.created_at, a.id) < ($2, $3)"


def tasks(db: Session) -> Pager:
    async def page(after: Any) -> tuple[list[Any], Any]:
        found = await db.reviews.page(
            ReviewTask.state == ReviewState.OPEN, order=ReviewTask.created_at, after=after, limit=LIMIT
        )
        return found.items, found.next

    return page


def with_applications(db: Session) -> Pager:
    async def page(after: Any) -> tuple[list[Any], Any]:
        found = await db.reviews.page(
            ReviewTask.state == ReviewState.OPEN, order=ReviewTask.created_at, after=after, limit=LIMIT
        )
        await db.load(found.items, ReviewTask.application)
        return found.items, found.next

    return page


def in_review(db: Session) -> Pager:
    async def page(after: Any) -> tuple[list[Any], Any]:
        found = await db.applications.page(
            Application.status == ApplicationStatus.REVIEW, order=desc(Application.created_at), after=after, limit=LIMIT
        )
        return found.items, found.next

    return page


def by_hand(conn: asyncpg.Connection, place: Place, sql: str, behind: str, make: Callable[[Any], Any]) -> Pager:
    first, further = sql.replace("{behind}", ""), sql.replace("{behind}", behind)

    async def page(after: Any) -> tuple[list[Any], Any]:
        if after is None:
            rows = await conn.fetch(first, place.tenant)
        else:
            rows = await conn.fetch(further, place.tenant, *after)
        items = [make(row) for row in rows[:LIMIT]]
        return items, (items[-1].created_at, items[-1].id) if len(rows) > LIMIT else None

    return page


async def _deep(pager: Pager, pages: int) -> Any:
    """Where the page behind so many others starts."""
    after = None
    for _ in range(pages):
        _, after = await pager(after)
    return after


async def _paged(
    name: str, mine: Pager, theirs: Pager, pages: int, turns: int, *, most: float | None = MOST
) -> list[Row]:
    """The first page and a deep one, after both sides answered the same."""
    rows = []
    for label, depth in (("first page", 0), (f"page {pages + 1}", pages)):
        places = [await _deep(pager, depth) for pager in (mine, theirs)]
        first, second = [(await pager(at))[0] for pager, at in zip((mine, theirs), places, strict=True)]
        if [_plain(item) for item in first] != [_plain(item) for item in second] or len(first) != LIMIT:
            raise AssertionError(f"{name}, {label}: the pages differ")
        sides = [_calling(pager, at) for pager, at in zip((mine, theirs), places, strict=True)]
        rows.append(await in_turns(f"{name}, {label}", *sides, turns, calls=CALLS, most=most))
    return rows


def _plain(item: Any) -> Any:
    loaded = getattr(getattr(item, "application", None), "loaded", None)
    return item, repr(item), loaded, repr(loaded)


def _calling(pager: Pager, after: Any) -> Side:
    async def call(_: int) -> None:
        for _ in range(CALLS):
            await pager(after)

    return call


async def measure_queue(
    place: Place, *, quick: bool, applications: int = APPLICATIONS, review: int = IN_REVIEW,
    pages: int = DEEP, turns: int | None = None,
) -> list[Row]:  # fmt: skip
    """Medians of ten pages of 20 in a row, in turns."""
    await populate(place, applications, review)
    count = turns or (21 if quick else 61)
    opener = await Opener.of(place)

    def both(row: Any) -> ReviewTask:
        task = task_of(row[: len(_TASK)])
        task.application.loaded = application_of(row[len(_TASK) :], opener)
        return task

    joined = _JOINED.replace("{tasks}", _TASKS)
    async with AsyncExitStack() as stack:
        tally = await stack.enter_async_context(place.opened(1))
        db = await stack.enter_async_context(tally.session(SLUG, actor="bench"))
        (conn,) = await stack.enter_async_context(place.by_hand())
        return [
            *await _paged("review queue", tasks(db), by_hand(conn, place, _TASKS, _BEHIND, task_of), pages, count),
            *await _paged(
                "review queue with applications", with_applications(db), by_hand(conn, place, joined, _BEHIND, both),
                pages, count, most=None,
            ),
            *await _paged(
                "applications in review", in_review(db),
                by_hand(conn, place, _NEWEST, _BEFORE, lambda row: application_of(row, opener)), pages, count,
            ),
        ]  # fmt: skip


_ALL = """
select count(*), count(*) filter (where status = 'approved'), count(*) filter (where status = 'declined'),
  (select avg(risk_score) from hand.decision where tenant_id = $1 and is_final)
from hand.application where tenant_id = $1
"""
_PERIOD = """
select count(*), count(*) filter (where a.status = 'approved'), count(*) filter (where a.status = 'declined'),
  avg(d.risk_score)
from hand.application a
left join hand.decision d on d.tenant_id = $1 and d.application_id = a.id and d.is_final
where a.tenant_id = $1 and a.created_at >= $2 and a.created_at < $3
"""


async def measure_statistics(
    place: Place, *, quick: bool, applications: int = APPLICATIONS, review: int = IN_REVIEW, turns: int | None = None
) -> list[Row]:
    """Medians of whole answers, in turns, after both sides answered the same."""
    await populate(place, applications, review)
    count = turns or (7 if quick else 21)
    month = (UNTIL - timedelta(days=61), UNTIL - timedelta(days=31))
    rows = []
    async with AsyncExitStack() as stack:
        tally = await stack.enter_async_context(place.opened(1))
        db = await stack.enter_async_context(tally.session(SLUG, actor="bench"))
        (conn,) = await stack.enter_async_context(place.by_hand())
        for name, sql, period in (("", _ALL, ()), (" of a month", _PERIOD, month)):

            async def mine(_: int, period: tuple[datetime, ...] = period) -> Statistics:
                return await db.applications.statistics(*period)

            async def theirs(_: int, sql: str = sql, period: tuple[datetime, ...] = period) -> Statistics:
                # All rows are asked for: with a limit, as fetchrow sets one, the server starts no workers.
                ((total, approved, declined, risk),) = await conn.fetch(sql, place.tenant, *period)
                return Statistics(total=total, approved=approved, declined=declined, average_risk=Decimal(risk))

            first, second = await mine(0), await theirs(0)
            if first != second or not first.approved or not first.declined:
                raise AssertionError(f"statistics{name}: {first} is not {second}")
            rows.append(await in_turns(f"statistics{name}, {applications:,} applications", mine, theirs, count))
    return rows
