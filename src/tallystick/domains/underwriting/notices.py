"""Adverse action notices: what an applicant who was declined has to be told, and by when."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from tallystick.domains.guarded import Guarded, alter
from tallystick.domains.underwriting.applications import Application
from tallystick.domains.underwriting.decisions import Decision
from tallystick.entity import Entity
from tallystick.errors import Conflict, Invalid
from tallystick.fields import Length, Once, Ref
from tallystick.query import at_most, missing
from tallystick.rules import Check, Index, Readable, Rules, Unique, kept

if TYPE_CHECKING:
    from uuid import UUID

NOTICE_DAYS = timedelta(days=30)
"""How long after adverse action the applicant is told at the latest. Source: 12 CFR 1002.9(a)(1)."""


class NoticeChannel(StrEnum):
    """How a notice went out."""

    MAIL = "mail"
    EMAIL = "email"
    PORTAL = "portal"
    IN_PERSON = "in_person"


class AdverseActionNotice(Entity):
    """What is owed to an applicant after a final decline: one for each such decision, due in thirty days.

    ``due_on`` is a day of the tenant's calendar. The reasons to tell are those of the decision. ``bureau`` names whose
    report was used, as 15 USC 1681m asks.
    """

    application: Annotated[Ref[Application], Once()]
    decision: Annotated[Ref[Decision], Once()]
    decided_on: Annotated[date, Once()]
    due_on: Annotated[date, Once()]
    sent_at: datetime | None = None
    channel: NoticeChannel | None = None
    bureau: Annotated[str, Length(100, min=1)] | None = None

    rules = Rules(
        Unique("decision"),
        Index("due_on", query="notices that are due", where="sent_at is null"),
        Index("application", query="the notices of an application"),
        Check("due", "due_on = decided_on + 30"),
        Check("sent", "(sent_at is null) = (channel is null)"),
        kept(),
        retain="lending",
        readable={"bureau": Readable.CODE},
    )


class AdverseActionNotices(Guarded[AdverseActionNotice]):
    """The notices that the tenant owes or has sent; a final decline makes one."""

    permission = "applications.decide"
    instead = "db.applications.decide() and db.notices.sent()"

    async def due(self, on: date | None = None, *, limit: int | None = None) -> list[AdverseActionNotice]:
        """Notices not sent whose last day is ``on`` (today when left out) or before, the most urgent first."""
        day = self.db.today() if on is None else on
        if day.__class__ is not date:
            raise Invalid("A day is a date.", field="on", entity="AdverseActionNotice")
        where = (missing(AdverseActionNotice.sent_at), at_most(AdverseActionNotice.due_on, day))
        return await self.find(*where, order=AdverseActionNotice.due_on, limit=limit)

    async def sent(
        self, notice: AdverseActionNotice | UUID, channel: NoticeChannel, *, bureau: str | None = None
    ) -> AdverseActionNotice:
        """Record that a notice went out, once. Needs the permission "applications.review".

        Raises ``Conflict`` when it went out before, ``NotFound``.
        """
        db = self.db
        await db.require("applications.review")
        async with db.transaction():
            found = await self.lock(notice.id if isinstance(notice, AdverseActionNotice) else notice)
            if found.sent_at is not None:
                raise Conflict("The notice was sent before.", entity="AdverseActionNotice", remedy="Send no second.")
            return await alter(self, found, sent_at=db.now(), channel=channel, bureau=bureau)
