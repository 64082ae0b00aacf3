from __future__ import annotations

from collections.abc import Callable

import pytest

from sgv_data.collect.pace import Pace


def drive(rate: Callable[[float], float], until_s: float, tokens: int = 10) -> Pace:
    """A pace that was told of `rate(second)` endings in every second, evenly spread. Starts at 1000."""
    pace = Pace(1000.0)
    for second in range(int(until_s)):
        count = int(rate(second))
        for number in range(count):
            pace.ended(1000.0 + second + number / count, tokens)
    return pace


def test_the_rate_is_that_of_the_last_minute() -> None:
    pace = drive(lambda second: 5 if second < 300 else 20, 400)
    assert pace.per_s(1400.0) == pytest.approx(20, rel=0.03)
    assert pace.tokens_per_minute(1400.0) == pytest.approx(20 * 10 * 60, rel=0.03)


def test_the_rate_of_a_young_run_is_over_its_age() -> None:
    assert drive(lambda _: 8, 5).per_s(1005.0) == pytest.approx(8)


def test_the_rate_falls_to_nothing_when_nothing_ends() -> None:
    assert drive(lambda _: 8, 60).per_s(1200.0) == 0.0


def test_no_time_is_told_at_the_start() -> None:
    pace = Pace(1000.0)
    assert pace.eta_s(1000.0, 50) is None
    for _ in range(100):
        pace.ended(1001.0, 0)
    assert pace.eta_s(1002.0, 50) is None


def test_no_time_is_told_from_a_few_answers() -> None:
    pace = Pace(1000.0)
    for _ in range(5):
        pace.ended(1100.0, 0)
    assert pace.eta_s(1300.0, 1000) is None


def test_a_slow_start_does_not_spoil_the_estimate() -> None:
    pace = drive(lambda second: 1 if second < 120 else 40, 480)
    assert pace.eta_s(1480.0, 4000) == pytest.approx(100, rel=0.03)


def test_a_pause_of_a_minute_in_a_long_run_changes_the_estimate_little() -> None:
    pace = drive(lambda second: 0 if second >= 3540 else 10, 3600)
    assert pace.eta_s(4600.0, 10_000) == pytest.approx(1000, rel=0.1)


def test_where_one_ends_every_minute_the_hour_tells() -> None:
    pace = drive(lambda second: 1 if second % 60 == 0 else 0, 3600)
    assert pace.eta_s(4600.0, 60) == pytest.approx(3600, rel=0.05)


def test_nothing_left_takes_no_time() -> None:
    assert Pace(0.0).eta_s(0.0, 0) == 0.0


def test_memory_does_not_grow_with_the_length_of_a_run() -> None:
    pace = Pace(0.0)
    for second in range(200_000):
        pace.ended(float(second), 1)
    assert len(pace._seconds) < 4000
