"""A million applications with their decisions and reviews, written as a set by the owner of the tables.

What a page shows is real: those in review are added by the application, with encrypted fields that can be opened. The
others share the ciphertext of one of them, which nothing ever opens. What the triggers would have refused or filled in
is as they would have left it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from benchmarks.place import SLUG, Place
from benchmarks.runner import progress
from tallystick import Money, User, UserStatus, secret
from tallystick.domains.identity.profiles import EmploymentStatus
from tallystick.domains.underwriting.applications import Application

APPLICATIONS, IN_REVIEW = 1_000_000, 10_000
DAYS = 730
"""Over how many days the applications came in, up to ``UNTIL``."""
UNTIL = datetime(2026, 6, 1, tzinfo=UTC)
TABLES = ("application", "decision", "review_task")

_ID = "('01900000-0{kind}-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
_APPLICATION, _DECISION, _TASK, _OPEN = (_ID.format(kind=f"{kind:03x}") for kind in (0xA10, 0xA20, 0xA30, 0xA40))
# What came in first is decided, what came last is in review: n counts from the oldest.
_AT = f"$3::timestamptz - ($2::int - n)::float8 / $2::int * interval '{DAYS} days'"
_STATUS = (
    "case when n::bigint * 7919 % 10 < 6 then 'approved' when n::bigint * 7919 % 10 < 9 then 'declined' "
    "else 'withdrawn' end"
)
_REAL = f"""
update tally.application a set status = 'review', submitted_at = x.at, created_at = x.at, updated_at = x.at,
  version = 4
from (select id, {_AT} as at from unnest($4::uuid[]) with ordinality u (id, k),
  lateral (select $2::int - $5::int + k as n) c) x
where a.tenant_id = $1 and a.id = x.id
"""
_OTHERS = f"""
insert into tally.application (tenant_id, id, product, full_legal_name, ssn, ssn_bidx, ssn_mask, annual_income, asset,
  employment_status, requested_amount, requested_months, purpose, monitoring, status, submitted_at, decided_at, version,
  created_at, updated_at)
select $1, {_APPLICATION}, 'personal', t.full_legal_name, t.ssn, sha256(int4send(n)), t.ssn_mask,
  3000000 + n % 9000000, 'USD', 'employed', 100000 + n % 4000000, 12 + n % 48, 'consolidation',
  case when n % 2 = 0 then '{{"sex": "female"}}'::jsonb else '{{"sex": "male"}}'::jsonb end,
  x.status, x.at, case when x.status <> 'withdrawn' then x.at + interval '1 hour' end, 5, x.at, x.at + interval '1 hour'
from tally.application t, generate_series(1, $2::int - $5::int) n,
  lateral (select {_STATUS} as status, {_AT} as at) x
where t.tenant_id = $1 and t.id = $4
"""
_DECISIONS = f"""
insert into tally.decision (tenant_id, id, application_id, seq, kind, outcome, is_final, risk_score, model_version,
  reasons, created_at)
select $1, {_DECISION}, {_APPLICATION}, 1, 'model', x.status, true, (n::bigint * 104729 % 1001)::int, 'v3',
  case when x.status = 'declined' then '["income_insufficient"]'::jsonb end, {_AT}
from generate_series(1, $2::int - $4::int) n, lateral (select {_STATUS} as status) x where x.status <> 'withdrawn'
"""
# One in ten of those that were decided had been looked at; all of those in review are still to be.
_RESOLVED = f"""
insert into tally.review_task (tenant_id, id, application_id, reason, state, resolved_by_id, resolved_at, decision_id,
  version, created_at)
select $1, {_TASK}, {_APPLICATION}, 'score between the lines', 'resolved', $5, {_AT}, {_DECISION}, 3, {_AT}
from generate_series(10, $2::int - $4::int, 10) n where {_STATUS} <> 'withdrawn'
"""
_OPENED = f"""
insert into tally.review_task (tenant_id, id, application_id, reason, state, created_at)
select $1, {_OPEN}, id, 'score between the lines', 'open', {_AT}
from unnest($4::uuid[]) with ordinality u (id, k), lateral (select ($2::int - $5::int + k)::int as n) c
"""


def application(number: int) -> Application:
    return Application(
        product="personal",
        full_legal_name=f"Applicant {number}",
        ssn=secret(f"{900 + number % 100}-{10 + number % 90}-{1000 + number % 9000}"),
        annual_income=Money(3_000_000 + number, "USD"),
        employment_status=EmploymentStatus.EMPLOYED,
        requested_amount=Money(100_000 + number, "USD"),
        requested_months=36,
        purpose="consolidation",
        credit_score=secret(600 + number % 250),
        email=f"applicant{number}@example.org",
        monitoring={"sex": "female" if number % 2 == 0 else "male"},
    )


async def populate(place: Place, applications: int = APPLICATIONS, in_review: int = IN_REVIEW) -> None:
    """Fill applications, decisions and tasks and their twins, once a run."""
    admin, tenant = place.admin, place.tenant
    if await admin.fetchval("select exists (select from hand.application)"):
        return
    started = time.monotonic()
    async with place.tally.session(SLUG, actor="bench", permissions=["*"]) as db:
        reviewer = await db.users.add(User(status=UserStatus.ACTIVE))
        made = await db.applications.add_many([application(n) for n in range(in_review)])
    ids = [one.id for one in made]
    async with place.bare(*TABLES), place.trusted(*TABLES):
        await admin.execute(_REAL, tenant, applications, UNTIL, ids, in_review)
        await admin.execute(_OTHERS, tenant, applications, UNTIL, ids[0], in_review)
        progress(f"{applications:,} applications")
        await admin.execute(_DECISIONS, tenant, applications, UNTIL, in_review)
        await admin.execute(_RESOLVED, tenant, applications, UNTIL, in_review, reviewer.id)
        await admin.execute(_OPENED, tenant, applications, UNTIL, ids, in_review)
        progress("decisions and reviews")
        await place.copy(*TABLES)
    await place.analyze(*TABLES, freeze=True)
    progress(f"{applications:,} applications in {time.monotonic() - started:.0f} s")
