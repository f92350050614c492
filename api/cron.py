"""Cron expressions in a time zone: when next, and what was missed. The reading is cronsim's."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from autosparse.errors import ConfigError

_FIELDS = 5
_MOST_COUNTED = 1000


class Cron:
    """Five fields of cron (minute, hour, day of month, month, day of week) in a time zone.

    Where clocks are put forward, a time that does not exist is taken just after the gap; where
    they are put back, a time that exists twice is taken once, as Debian's cron does.

    Args:
        expression: for example `0 3 * * MON`.
        time_zone: a name of the IANA database, for example `Europe/Berlin`.

    Raises:
        ConfigError: it is none, or there is no such time zone.
    """

    def __init__(self, expression: str, time_zone: str) -> None:
        self.expression = " ".join(expression.split())
        try:
            self._zone = ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(
                f"there is no time zone {time_zone!r}", hint="for example UTC, or Europe/Berlin"
            ) from error
        if len(self.expression.split()) != _FIELDS:
            raise ConfigError(
                f"{expression!r} is no cron expression of five fields",
                hint="minute, hour, day of month, month, day of week: `0 3 * * MON`",
            )
        try:
            CronSim(self.expression, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ConfigError(
                f"{expression!r} is no cron expression: {error}",
                hint="minute, hour, day of month, month, day of week: `0 3 * * MON`",
            ) from error

    def explain(self) -> str:
        """The expression in words."""
        return CronSim(self.expression, datetime(2000, 1, 1, tzinfo=UTC)).explain()

    def next_after(self, seconds: float) -> float | None:
        """The first time after another, in seconds since 1970; None where there is none."""
        found = next(CronSim(self.expression, self._local(seconds)), None)
        return None if found is None else found.timestamp()

    def due_between(self, first: float, now: float) -> tuple[float, int]:
        """The last time until now, and how many there were before it from the first one on.

        Counting ends at a thousand: a schedule of every minute may have been away for a year.

        Args:
            first: a time of this expression, not after now.
            now: seconds since 1970.
        """
        last, missed = first, 0
        every = CronSim(self.expression, self._local(first))
        for found in every:
            if found.timestamp() > now:
                return last, missed
            last, missed = found.timestamp(), missed + 1
            if missed >= _MOST_COUNTED:
                break
        latest = self.last_before(now + 1e-3)  # far away: look from the other end
        return (last if latest is None else latest), missed

    def last_before(self, seconds: float) -> float | None:
        """The last time before another, in seconds since 1970."""
        reverse = CronSim(self.expression, self._local(seconds), reverse=True)
        return next((t.timestamp() for t in reverse if t.timestamp() < seconds), None)

    def _local(self, seconds: float) -> datetime:
        return datetime.fromtimestamp(seconds, self._zone)
