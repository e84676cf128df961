"""Clocks and business dates: when something was recorded, and the day it counts for.

The two differ: a payment recorded at 23:30 in London may count for tomorrow in Lagos. Interest, delinquency and
statements follow the business date only.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from tallystick.errors import Invalid

__all__ = ["MIDNIGHT", "Clock", "FixedClock", "SystemClock", "business_date", "find_zone"]

MIDNIGHT: Final = time(0, 0)
"""The cut-off of a tenant whose business day is the calendar day."""

_DAY: Final = timedelta(days=1)


class Clock(Protocol):
    """Where the library takes the time from; replace it to test what happens at a month's end."""

    def now(self) -> datetime:
        """Return the present moment, aware and in UTC."""
        ...


class SystemClock:
    """The clock of the machine."""

    __slots__ = ()

    def now(self) -> datetime:
        """Return the present moment, aware and in UTC."""
        return datetime.now(UTC)


class FixedClock:
    """A clock that stands still until it is moved; for tests and for replaying a day.

    Raises ``Invalid`` for a time without a zone.
    """

    __slots__ = ("_now",)

    def __init__(self, at: datetime) -> None:
        self._now = _aware(at).astimezone(UTC)

    def now(self) -> datetime:
        """Return the moment it stands at, in UTC."""
        return self._now

    def set(self, at: datetime) -> None:
        """Move to a moment, forwards or back; raises ``Invalid`` for a time without a zone."""
        self._now = _aware(at).astimezone(UTC)

    def advance(self, by: timedelta) -> datetime:
        """Move by a duration and return the new moment."""
        self._now += by
        return self._now


def find_zone(name: str | ZoneInfo) -> ZoneInfo:
    """Return the IANA time zone of this name; raises ``Invalid`` when there is none."""
    if isinstance(name, ZoneInfo):
        return name
    try:
        return ZoneInfo(name)
    # Names of folders, of files outside and of other types each fail in a way of their own.
    except (KeyError, ValueError, TypeError, OSError, AttributeError):
        raise Invalid(
            "There is no time zone by that name.",
            field="time_zone",
            remedy="Use an IANA name such as Africa/Lagos; without a system database install the tzdata package.",
        ) from None


def business_date(now: datetime, time_zone: str | ZoneInfo, cut_off: time = MIDNIGHT) -> date:
    """Return the business date that a moment counts for, in a tenant's time zone.

    From ``cut_off`` on, by the wall clock there, a moment counts for the next calendar day; with the cut-off at
    midnight the business day is the calendar day. The date never goes back while time goes on: once a cut-off was
    passed, it stays passed when clocks are set back over it, and one that clocks skip is passed at the jump. Weekends
    and holidays are the calendar's business, not the clock's.

    Raises ``Invalid`` for a ``now`` without a zone, a ``cut_off`` with one, and an unknown time zone.
    """
    if not isinstance(cut_off, time) or cut_off.tzinfo is not None:
        raise Invalid(
            "A cut-off is a time of day without a zone.",
            field="cut_off",
            remedy="Pass datetime.time(17, 0); the zone is the tenant's.",
        )
    zone = find_zone(time_zone)
    moment = _aware(now).astimezone(UTC)
    wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
    start = cut_off.replace(fold=0)
    lead = timedelta(0) if start == MIDNIGHT else _DAY

    # Clocks set back just after midnight show yesterday again, so two days ahead can have begun already.
    for ahead in (2, 1):
        day = wall.date() + ahead * _DAY
        begins = datetime.combine(day - lead, start)
        if wall >= begins or moment >= begins.replace(tzinfo=zone).astimezone(UTC):
            return day
    return wall.date()


def _aware(at: datetime) -> datetime:
    if not isinstance(at, datetime) or at.utcoffset() is None:
        raise Invalid(
            "A moment needs a time zone.", field="now", remedy="Use datetime.now(UTC), or attach the zone it was in."
        )
    return at
