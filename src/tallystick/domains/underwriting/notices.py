"""Notices that are owed to applicants: of adverse action, of what an application lacks, and by when."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from tallystick.clock import business_date
from tallystick.domains.guarded import Guarded, alter, put
from tallystick.domains.named import id_of
from tallystick.domains.underwriting.applications import Application
from tallystick.domains.underwriting.decisions import Decision
from tallystick.entity import Entity
from tallystick.errors import Conflict, Invalid
from tallystick.fields import Length, Once, Ref
from tallystick.privacy.sealed import Secret
from tallystick.query import at_most, missing
from tallystick.rules import Check, Index, Readable, Rules, Unique, kept

if TYPE_CHECKING:
    from uuid import UUID

    from tallystick.session import Session

NOTICE_DAYS = timedelta(days=30)
"""How long after receiving a completed application, or one that lacks something, the applicant is told at the latest.

Source: 12 CFR 1002.9(a)(1)(i) and (c)(1).
"""
OFFER_DAYS = timedelta(days=90)
"""How long after a counter-offer that was not taken. Source: 12 CFR 1002.9(a)(1)(iv)."""


class NoticeBasis(StrEnum):
    """Why a notice is owed, which says what its days are counted from."""

    APPLICATION = "application"
    COUNTER_OFFER = "counter_offer"
    INCOMPLETE = "incomplete"


class NoticeChannel(StrEnum):
    """How a notice went out."""

    MAIL = "mail"
    EMAIL = "email"
    PORTAL = "portal"
    IN_PERSON = "in_person"


class AdverseActionNotice(Entity):
    """A notice that is owed to an applicant, and whether it went out.

    After a final decline it is due thirty days after the completed application came in, after a counter-offer that was
    not taken ninety days after it was made: the reasons to tell are those of ``decision``. For an application that
    lacks something it is due thirty days after it came in and tells what is ``needed``; it is moot once the applicant
    answers. Days are of the tenant's calendar and all count: the rule knows no holidays. ``bureau`` names whose
    report was used and ``credit_score`` the score that is told with it, as 15 USC 1681m asks.
    """

    application: Annotated[Ref[Application], Once()]
    decision: Annotated[Ref[Decision], Once()] | None = None
    basis: Annotated[NoticeBasis, Once()]
    needed: Annotated[str, Length(2000, min=1), Once()] | None = None
    decided_on: Annotated[date, Once()]
    counted_from: Annotated[date, Once()]
    due_on: Annotated[date, Once()]
    moot_at: datetime | None = None
    sent_at: datetime | None = None
    channel: NoticeChannel | None = None
    bureau: Annotated[str, Length(100, min=1)] | None = None
    credit_score: Secret[int] | None = None

    rules = Rules(
        Unique("decision"),
        Index("due_on", query="notices that are due", where="sent_at is null and moot_at is null"),
        Index("application", query="the notices of an application"),
        Check("due", "due_on = counted_from + case basis when 'counter_offer' then 90 else 30 end"),
        Check("counted", "counted_from <= decided_on"),
        Check("about", "(basis = 'incomplete') = (decision_id is null)"),
        Check("needed", "(basis = 'incomplete') = (needed is not null)"),
        Check("moot", "moot_at is null or (basis = 'incomplete' and sent_at is null)"),
        Check("sent", "(sent_at is null) = (channel is null)"),
        kept(),
        retain="lending",
        subject="application",
        readable={"bureau": Readable.CODE, "needed": Readable.NOTE},
    )


class AdverseActionNotices(Guarded[AdverseActionNotice]):
    """The notices that the tenant owes or has sent.

    A final decline, an offer that was not taken and ``applications.incomplete`` make them.
    """

    permission = "applications.decide"
    instead = "db.applications.decide() and db.notices.sent()"

    async def due(self, on: date | None = None, *, limit: int | None = None) -> list[AdverseActionNotice]:
        """Notices not sent whose last day is ``on`` (today when left out) or before, the most urgent first."""
        day = self.db.today() if on is None else on
        if day.__class__ is not date:
            raise Invalid("A day is a date.", field="on", entity="AdverseActionNotice")
        notice = AdverseActionNotice
        where = (missing(notice.sent_at), missing(notice.moot_at), at_most(notice.due_on, day))
        return await self.find(*where, order=AdverseActionNotice.due_on, limit=limit)

    async def sent(
        self,
        notice: AdverseActionNotice | UUID,
        channel: NoticeChannel,
        *,
        bureau: str | None = None,
        credit_score: Secret[int] | None = None,
    ) -> AdverseActionNotice:
        """Record that a notice went out, once. Needs the permission "applications.review".

        Raises ``Conflict`` when it went out before or is moot, ``NotFound``.
        """
        db = self.db
        await db.require("applications.review")
        async with db.transaction():
            found = await self.lock(id_of(notice, AdverseActionNotice, "notice"))
            if found.sent_at is not None:
                raise Conflict("The notice was sent before.", entity="AdverseActionNotice", remedy="Send no second.")
            if found.moot_at is not None:
                raise Conflict(
                    "The applicant answered before the notice went out.",
                    entity="AdverseActionNotice",
                    remedy="Send none.",
                )
            return await alter(self, found, sent_at=db.now(), channel=channel, bureau=bureau, credit_score=credit_score)


async def owe(
    db: Session,
    application: Application,
    basis: NoticeBasis,
    *,
    since: datetime | None,
    decision: Ref[Decision] | None = None,
    needed: str | None = None,
) -> AdverseActionNotice:
    """Note that a notice is owed; its days count from the tenant's day of ``since``, or from today."""
    today = db.today()
    start = today if since is None else min(today, business_date(since, db.tenant.time_zone, db.tenant.cut_off))
    notice = AdverseActionNotice(
        application=application.ref,
        decision=decision,
        basis=basis,
        needed=needed,
        decided_on=today,
        counted_from=start,
        due_on=start + (OFFER_DAYS if basis is NoticeBasis.COUNTER_OFFER else NOTICE_DAYS),
    )
    return await put(db.notices, notice)
