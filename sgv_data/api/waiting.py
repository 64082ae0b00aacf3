"""How long a server asks to wait: `Retry-After` and its relatives, read from headers.

Forms: seconds, milliseconds (`retry-after-ms`), an HTTP date, and the durations of Go (`12ms`, `6m0s`, `1h2m3.5s`).
What cannot be read counts as absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|us|µs|ns|h|m|s)")
_RESETS = (("requests", "x-ratelimit-remaining-requests"), ("tokens", "x-ratelimit-remaining-tokens"),
           ("project-tokens", "x-ratelimit-remaining-project-tokens"))


def go_duration_s(text: str) -> float | None:
    """Seconds of a Go duration such as `1m30s`, or None if it is none."""
    text = text.strip()
    if text == "0":
        return 0.0
    seconds, place = 0.0, 0
    while place < len(text):
        part = _PART.match(text, place)
        if part is None:
            return None
        seconds += float(part[1]) * _UNITS_S[part[2]]
        place = part.end()
    return seconds if text else None


def asked_wait_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The pause a response asks for in seconds, or None. `Retry-After` wins over the reset of an exhausted limit."""
    milliseconds = number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    written = headers.get("retry-after")
    if written is not None:
        seconds = number(written)
        seconds = _until_date_s(written, now or datetime.now(UTC)) if seconds is None else seconds
        if seconds is not None:
            return seconds
    return _reset_s(headers)


def reset_after_s(text: str | None) -> float | None:
    """Seconds until a limit is fresh again: a Go duration, or plain seconds. None: not said, or not readable."""
    if text is None:
        return None
    seconds = go_duration_s(text)
    return number(text) if seconds is None else seconds


def number(text: str | None) -> float | None:
    """A header that is a finite number of 0 or more; anything else counts as absent."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _reset_s(headers: Mapping[str, str]) -> float | None:
    """The longest reset among the limits of which nothing remains."""
    waits = []
    for name, remaining in _RESETS:
        left, seconds = number(headers.get(remaining)), reset_after_s(headers.get(f"x-ratelimit-reset-{name}"))
        if left is not None and left <= 0 and seconds is not None:
            waits.append(seconds)
    return max(waits, default=None)


def _until_date_s(text: str, now: datetime) -> float | None:
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())
