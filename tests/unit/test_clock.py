"""Clocks and business dates, with the zones that make them hard."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.clock import MIDNIGHT, Clock, FixedClock, SystemClock, business_date, find_zone
from tallystick.errors import Invalid

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def test_the_system_clock_is_aware_and_in_utc() -> None:
    clock: Clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_fixed_clock_stands_still_until_moved() -> None:
    clock: Clock
    clock = fixed = FixedClock(datetime(2026, 3, 10, 13, 0, tzinfo=timezone(timedelta(hours=1))))
    assert clock.now() == clock.now() == NOON
    assert clock.now().tzinfo is UTC
    assert fixed.advance(timedelta(days=1)) == NOON + timedelta(days=1) == clock.now()
    fixed.set(NOON)
    assert clock.now() == NOON


@pytest.mark.parametrize("at", [datetime(2026, 1, 1), date(2026, 1, 1), None, "2026-01-01"])
def test_a_moment_without_a_zone_is_refused(at: Any) -> None:
    with pytest.raises(Invalid):
        FixedClock(at)
    with pytest.raises(Invalid):
        FixedClock(NOON).set(at)
    with pytest.raises(Invalid):
        business_date(at, "UTC")


def test_the_calendar_day_where_the_tenant_is() -> None:
    late = datetime(2026, 3, 10, 23, 30, tzinfo=UTC)
    assert business_date(late, "UTC") == date(2026, 3, 10)
    assert business_date(late, "Africa/Lagos") == date(2026, 3, 11)
    assert business_date(late, "America/New_York") == date(2026, 3, 10)
    assert business_date(late.astimezone(ZoneInfo("Asia/Tokyo")), ZoneInfo("UTC")) == date(2026, 3, 10)


@pytest.mark.parametrize(
    ("at", "day"),
    [(time(0, 0), 10), (time(16, 59, 59, 999999), 10), (time(17, 0), 11), (time(23, 59), 11)],
)
def test_the_cut_off_starts_the_next_day(at: time, day: int) -> None:
    now = datetime.combine(date(2026, 3, 10), at, ZoneInfo("Africa/Nairobi"))
    assert business_date(now, "Africa/Nairobi", time(17, 0)) == date(2026, 3, day)


def test_the_end_of_a_month_and_a_year() -> None:
    assert business_date(datetime(2026, 12, 31, 18, tzinfo=UTC), "UTC", time(17)) == date(2027, 1, 1)
    assert business_date(datetime(2028, 2, 28, 18, tzinfo=UTC), "UTC", time(17)) == date(2028, 2, 29)


def test_a_cut_off_that_happens_twice_is_passed_the_first_time() -> None:
    # New York, 2026-11-01: 01:59:59 EDT is followed by 01:00:00 EST.
    cut_off = time(1, 30)
    first_pass = datetime(2026, 11, 1, 5, 29, tzinfo=UTC)
    assert business_date(first_pass, "America/New_York", cut_off) == date(2026, 11, 1)
    assert business_date(first_pass + timedelta(minutes=1), "America/New_York", cut_off) == date(2026, 11, 2)
    second_pass = datetime(2026, 11, 1, 6, 5, tzinfo=UTC)  # 01:05 again
    assert business_date(second_pass, "America/New_York", cut_off) == date(2026, 11, 2)


def test_a_cut_off_that_is_skipped_is_passed_at_the_jump() -> None:
    # New York, 2026-03-08: 01:59:59 EST is followed by 03:00:00 EDT, at 07:00 UTC.
    jump = datetime(2026, 3, 8, 7, 0, tzinfo=UTC)
    assert business_date(jump - timedelta(seconds=1), "America/New_York", time(2, 30)) == date(2026, 3, 8)
    assert business_date(jump, "America/New_York", time(2, 30)) == date(2026, 3, 9)


def test_clocks_set_back_over_midnight_do_not_bring_yesterday_back() -> None:
    # Goose Bay, 2010-11-07: at 00:01 the clocks went back to 23:01 of the day before (03:01 UTC).
    back = datetime(2010, 11, 7, 3, 1, tzinfo=UTC)
    assert back.astimezone(ZoneInfo("America/Goose_Bay")).date() == date(2010, 11, 6)
    assert business_date(back, "America/Goose_Bay") == date(2010, 11, 7)


ZONES = ["UTC", "America/New_York", "America/Goose_Bay", "America/Havana", "Asia/Kathmandu", "Australia/Lord_Howe",
         "Pacific/Apia", "America/Sao_Paulo", "Africa/Casablanca", "Europe/London", "Antarctica/Troll"]  # fmt: skip


@given(
    st.datetimes(datetime(1995, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(ZONES),
    st.times().map(lambda at: at.replace(microsecond=0)) | st.just(MIDNIGHT),
    st.timedeltas(timedelta(0), timedelta(days=3)),
)
def test_the_date_never_goes_back(now: datetime, zone: str, cut_off: time, later: timedelta) -> None:
    assert business_date(now, zone, cut_off) <= business_date(now + later, zone, cut_off)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cut_off", [MIDNIGHT, time(0, 0, 30), time(1, 30), time(23, 30)])
def test_the_date_never_goes_back_through_a_change_of_clocks(zone: str, cut_off: time) -> None:
    # A few days around every kind of change: forwards, back, by half an hour, and a day left out (Apia, 2011-12-30).
    changes = ((2010, 3, 13), (2010, 3, 27), (2010, 4, 3), (2010, 10, 2), (2010, 10, 30), (2010, 11, 6), (2011, 12, 29))
    for year, month, day in changes:
        start = datetime(year, month, day, tzinfo=UTC)
        dates = [business_date(start + timedelta(minutes=10 * step + 1), zone, cut_off) for step in range(3 * 144)]
        assert dates == sorted(dates)


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "Europe", "../etc/passwd", "/etc/passwd", "UTC\x00", None, 5, "a" * 5000]
)
def test_unknown_zones(zone: Any) -> None:
    with pytest.raises(Invalid):
        find_zone(zone)
    with pytest.raises(Invalid):
        business_date(NOON, zone)


@pytest.mark.parametrize("cut_off", [time(17, tzinfo=UTC), "17:00", 17, None])
def test_cut_offs_that_are_none(cut_off: Any) -> None:
    with pytest.raises(Invalid):
        business_date(NOON, "UTC", cut_off)
