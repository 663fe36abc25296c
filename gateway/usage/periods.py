"""Hours, days and months in UTC, as seconds since 1970. Pure."""

from datetime import UTC, datetime
from typing import Literal

Period = Literal["day", "month"]

HOUR = 3600
DAY = 86_400


def hour_of(time: float) -> int:
    """When the hour of this time began."""
    return int(time) // HOUR * HOUR


def start_of(period: Period, time: float) -> int:
    """When the day or the month of this time began."""
    if period == "day":
        return int(time) // DAY * DAY
    first = datetime.fromtimestamp(time, UTC).replace(day=1, hour=0, minute=0, second=0)
    return int(first.timestamp())


def end_of(period: Period, time: float) -> int:
    """When the day or the month of this time ends and the next one begins."""
    start = start_of(period, time)
    return start + DAY if period == "day" else start_of("month", start + 32 * DAY)
