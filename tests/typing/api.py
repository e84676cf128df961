"""The public surface as type checkers see it: checked by mypy and pyright, never run."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, assert_type
from uuid import UUID

from tallystick import (
    AuditEntry,
    AuditEvent,
    Claimed,
    Community,
    CommunityMembership,
    Consent,
    Endorsement,
    Entity,
    Index,
    Mask,
    MemberRole,
    Money,
    Page,
    Personal,
    Purpose,
    Queue,
    Ref,
    Repository,
    Rules,
    Search,
    Secret,
    Session,
    Tallystick,
    Transitions,
    TrustEdge,
    Unique,
    User,
    UserProfile,
    Version,
    backref,
    desc,
    one_of,
    present,
    secret,
    usd,
)


class VisitStatus(StrEnum):
    PLANNED = "planned"
    DONE = "done"


class Visit(Entity):
    """A field visit to a borrower before a loan is approved."""

    borrower: Ref[User]
    national_id: Annotated[Secret[str], Search("digits"), Mask(4)]
    note: Personal[str] | None = None
    fee: Money
    status: VisitStatus = VisitStatus.PLANNED
    seen_at: datetime | None = None

    rules = Rules(
        Index("status", "seen_at", query="visits of a day"),
        Unique("borrower", "seen_at"),
        Transitions("status", {VisitStatus.PLANNED: [VisitStatus.DONE]}, initial=[VisitStatus.PLANNED]),
        Queue(),
        retain="lending",
    )


async def reads(db: Session, id: UUID) -> None:
    assert_type(db[Visit], Repository[Visit])
    visit = await db[Visit].get(id, load=[Visit.borrower])
    assert_type(visit, Visit)
    assert_type(visit.borrower.value, User)
    assert_type(visit.fee, Money)
    assert_type(visit.national_id, Secret[str])
    assert_type(await db[Visit].get_or_none(id), Visit | None)
    found = await db[Visit].find(
        Visit.status == VisitStatus.PLANNED, Visit.fee >= usd("5"), present(Visit.seen_at), order=desc(Visit.created_at)
    )
    assert_type(found, list[Visit])
    page = await db[Visit].page(one_of(Visit.status, [VisitStatus.DONE]), after=None, limit=20)
    assert_type(page, Page[Visit])
    where = Visit.Filter.parse({"status": "planned"})
    new = Visit.New.parse({"fee": {"units": 5, "asset": "USD"}})
    assert_type(await db[Visit].update(visit, **Visit.Change().changes()), Visit)
    assert_type(await db[Visit].add(new.entity()), Visit)
    assert_type(await db[Visit].count(where), int)
    users = await db.users.find(User.email == "ada@example.org")
    assert_type(users, list[User])
    assert_type(await db.load(found, Visit.borrower), list[Visit])
    assert_type(await db.load(users, backref(Visit, Visit.borrower)), dict[UUID, list[Visit]])
    async for streamed in db[Visit].stream(Visit.seen_at == None):  # noqa: E711
        assert_type(streamed, Visit)


async def writes(db: Session, user: User) -> None:
    visit = await db[Visit].add(Visit(borrower=user.ref, national_id=secret("1234"), fee=usd("12.50")))
    assert_type(visit, Visit)
    assert_type(await db[Visit].update(visit, fee=usd("15.00")), Visit)
    assert_type(await db[Visit].add_many([visit]), list[Visit])
    async with db.transaction("serializable"):
        assert_type(await db[Visit].lock(visit.id), Visit)
    async for item in db[Visit].claim(limit=5):
        assert_type(item, Claimed[Visit])
        async with item:
            assert_type(item.value, Visit)

    async def work(db: Session) -> int:
        return await db[Visit].update_where(Visit.created_at < datetime.now(UTC), seen_at=None)

    assert_type(await db.atomic(work), int)


async def audited(tally: Tallystick, id: UUID) -> None:
    async with tally.session("sunrise", actor="user:1", reason="case 91", request_id="r-1") as db:
        assert_type(await db.users.history(id), list[Version[User]])
        assert_type(await db[User].as_of(id, datetime.now(UTC)), User | None)
        assert_type(await db.audit.record(AuditEvent(type="t", category="c", service="s")), int)
        assert_type(await db.audit.entries(User, key=id), Page[AuditEntry])


async def communities(db: Session, user: User, loan: UUID) -> None:
    grant = await db.consents.require(user.id, Purpose.CREDIT_CHECK)
    assert_type(grant, Consent)
    assert_type(await db.consents.grant(user, Purpose.MARKETING, policy_version="1"), Consent)
    assert_type(await db.consents.given(user), list[Consent])
    assert_type(await db.profiles.of_user(user), UserProfile | None)
    club = await db.communities.create(Community(name="Sunrise", slug="sunrise", asset="USD"), founder=user)
    assert_type(club, Community)
    assert_type(club.max_loan_amount, Money | None)
    assert_type(await db.communities.join(club.id), CommunityMembership)
    await db.communities.require(club.id, MemberRole.TREASURER)
    await db.communities.check_borrowing(club.id, user.id, usd("250"))
    assert_type((await db.communities.may_borrow(club.id, user, usd("250"))).allowed, bool)
    given = await db.endorsements.endorse(user, user.ref, community=club.id, stake=usd("5"), loan=loan, key="k")
    assert_type(given, Endorsement)
    assert_type(given.stake, Money | None)
    assert_type(await db.trust.connect(user, user.id, 5), TrustEdge)
    assert_type(await db.trust.scores(club.id), dict[UUID, float])
    assert_type((await db.trust.score(user, club.id)).score, Decimal | None)
    assert_type(await db.memberships.find(CommunityMembership.role == MemberRole.ADMIN), list[CommunityMembership])


async def opens() -> None:
    async with Tallystick.open(entities=[Visit]) as tally:
        await tally.migrate()
        assert_type(tally, Tallystick)
        async with tally.session("sunrise", actor="user:42") as db:
            assert_type(db, Session)


def refused(user: User) -> None:
    Visit.fee >= 5  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    Visit(fee=usd("1"), national_id=secret("1"))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Visit(borrower=user.ref, national_id="1", fee=usd("1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    visit = Visit(borrower=user.ref, national_id=secret("1"), fee=usd("1"))
    visit.fee = usd("2")  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
