"""When a cron expression is due: in its time zone, also where clocks change."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from api.cron import Cron


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> float:
    return datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()


def test_a_time_zone_decides() -> None:
    assert Cron("0 3 * * *", "Asia/Tokyo").next_after(utc(2026, 6, 1)) == utc(2026, 6, 1, 18)
    assert Cron("0 3 * * *", "UTC").next_after(utc(2026, 6, 1, 3)) == utc(2026, 6, 2, 3)


def test_where_clocks_are_put_forward_it_is_taken_after_the_gap() -> None:
    cron = Cron("30 2 * * *", "Europe/Berlin")
    assert cron.next_after(utc(2026, 3, 28, 12)) == utc(2026, 3, 29, 1)
    assert cron.next_after(utc(2026, 3, 29, 1)) == utc(2026, 3, 30, 0, 30)


def test_where_clocks_are_put_back_it_is_taken_once() -> None:
    cron = Cron("30 2 * * *", "Europe/Berlin")
    first = cron.next_after(utc(2026, 10, 24, 12))
    assert first == utc(2026, 10, 25, 0, 30)
    assert cron.next_after(first) == utc(2026, 10, 26, 1, 30)


@pytest.mark.parametrize(
    ("now", "expected"), [(0, (0, 0)), (59, (0, 0)), (60, (1, 1)), (185, (3, 3))]
)
def test_what_was_due_is_counted(now: int, expected: tuple[int, int]) -> None:
    last, before = Cron("* * * * *", "UTC").due_between(0.0, now)
    assert (last / 60, before) == expected


def test_a_year_of_minutes_is_looked_at_from_its_end() -> None:
    year = 365 * 86400
    assert Cron("* * * * *", "UTC").due_between(0.0, year + 30.0) == (year, 1000)


def test_times_in_words() -> None:
    assert Cron("0 3 * * MON", "UTC").explain() == "At 03:00 on Monday"
