"""What a provider says about its limits: `x-ratelimit-{limit,remaining,reset}-{requests,tokens,project-tokens}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sgv_data.api.waiting import number, reset_after_s


@dataclass(frozen=True, slots=True)
class Reading:
    """One limit as announced with one reply; what the reply does not say is None. `limit` is per minute."""

    limit: float | None = None
    remaining: float | None = None
    reset_s: float | None = None


NOTHING = Reading()


def requests_reading(headers: Mapping[str, str]) -> Reading:
    return _reading(headers, "requests")


def tokens_reading(headers: Mapping[str, str]) -> Reading:
    """The narrower of the organisation's and the project's tokens: the one of which the smaller part remains."""
    own, project = _reading(headers, "tokens"), _reading(headers, "project-tokens")
    if project.limit is None:
        return own
    if own.limit is None:
        return project
    tighter = project if _left(project) < _left(own) else own
    return Reading(min(own.limit, project.limit), tighter.remaining, tighter.reset_s)


def _left(reading: Reading) -> float:
    return reading.remaining if reading.remaining is not None else reading.limit or 0.0


def _reading(headers: Mapping[str, str], name: str) -> Reading:
    limit = number(headers.get(f"x-ratelimit-limit-{name}"))
    return Reading(
        limit or None,
        number(headers.get(f"x-ratelimit-remaining-{name}")),
        reset_after_s(headers.get(f"x-ratelimit-reset-{name}")),
    )
