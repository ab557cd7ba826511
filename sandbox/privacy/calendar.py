"""Dates as counts of days from 1970-01-01, within the years 1 to 9999; pure arithmetic, no clock."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator

EPOCH = dt.date(1970, 1, 1)
FIRST_DAY = (dt.date(1, 1, 1) - EPOCH).days
LAST_DAY = (dt.date(9999, 12, 31) - EPOCH).days
STEPS = ("day", "week", "month", "quarter", "year")
PARTS = ("year", "quarter", "month", "day", "isodow")

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}")


def parse_day(text: str) -> int | None:
    """Return the day that `YYYY-MM-DD` writes, or None where it is no such date."""
    if not _ISO.fullmatch(text):
        return None
    try:
        return (dt.date.fromisoformat(text) - EPOCH).days
    except ValueError:
        return None


def format_day(day: int) -> str:
    """Return a day as `YYYY-MM-DD`."""
    return to_date(day).isoformat()


def to_date(day: int) -> dt.date:
    """Return a day as a date."""
    return EPOCH + dt.timedelta(days=day)


def start_of(step: str, day: int) -> int:
    """Return the first day of the step that holds `day`; a week starts on Monday, and never before year 1."""
    date = to_date(day)
    match step:
        case "day":
            return day
        case "week":
            return max(FIRST_DAY, day - date.weekday())
        case "month":
            date = date.replace(day=1)
        case "quarter":
            date = date.replace(month=date.month - (date.month - 1) % 3, day=1)
        case "year":
            date = date.replace(month=1, day=1)
        case _:
            raise AssertionError(f"unknown step {step}")
    return (date - EPOCH).days


def starts_between(step: str, lower: int, upper: int) -> Iterator[int]:
    """Yield every first day of a step from `lower` (itself one) to `upper`, ascending."""
    longest = {"day": 1, "week": 7, "month": 31, "quarter": 92, "year": 366}[step]
    day = lower
    while day <= upper:
        yield day
        if day + longest > LAST_DAY:
            return
        day = start_of(step, day + longest)


def part_range(part: str, lower: int, upper: int) -> tuple[int, int]:
    """Return the least and greatest value of a date part over the days from `lower` to `upper`."""
    first, last = to_date(lower), to_date(upper)
    if part == "year":
        return first.year, last.year
    if first.year == last.year and part == "month":
        return first.month, last.month
    if first.year == last.year and part == "quarter":
        return (first.month + 2) // 3, (last.month + 2) // 3
    return {"quarter": (1, 4), "month": (1, 12), "day": (1, 31), "isodow": (1, 7)}[part]
