from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgv_data.api.waiting import asked_wait_s, go_duration_s

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(("text", "seconds"), [
    ("12ms", 0.012), ("1s", 1.0), ("6m0s", 360.0), ("1h2m3.5s", 3723.5), ("0s", 0.0), ("0", 0.0), ("250us", 0.00025),
])  # fmt: skip
def test_go_durations_are_read(text: str, seconds: float) -> None:
    assert go_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "5", "1s later", "-1s", "1x", "m"])
def test_what_is_no_duration_counts_as_absent(text: str) -> None:
    assert go_duration_s(text) is None


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_every_duration_is_the_sum_of_its_parts(hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    total = go_duration_s(f"{hours}h{minutes}m{seconds}s{milliseconds}ms")
    assert total == pytest.approx(hours * 3600 + minutes * 60 + seconds + milliseconds / 1000)


@pytest.mark.parametrize(("headers", "seconds"), [
    ({"retry-after": "2"}, 2.0),
    ({"retry-after": "0.5"}, 0.5),
    ({"retry-after-ms": "120", "retry-after": "1"}, 0.12),
    ({"retry-after": "Fri, 02 Jan 2026 03:04:35 GMT"}, 30.0),
    ({"retry-after": "Fri, 02 Jan 2026 03:00:00 GMT"}, 0.0),
    ({"retry-after": "tomorrow"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "-3"}, None),
    ({}, None),
])  # fmt: skip
def test_the_pause_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait_s(headers, NOW) == seconds


def test_without_retry_after_the_reset_of_the_exhausted_limit_counts() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "99", "x-ratelimit-reset-requests": "1h",
        "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s",
    }  # fmt: skip
    assert asked_wait_s(headers) == 360.0


def test_limits_with_something_left_ask_for_nothing() -> None:
    assert asked_wait_s({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "1h"}) is None


@given(st.timedeltas(timedelta(0), timedelta(days=2)))
def test_dates_are_read_to_the_second(ahead: timedelta) -> None:
    when = NOW + ahead
    header = when.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert asked_wait_s({"retry-after": header}, NOW) == pytest.approx(ahead.total_seconds(), abs=1)
