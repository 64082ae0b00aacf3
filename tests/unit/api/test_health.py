"""What several faults together tell of an endpoint, against a clock that the tests drive."""

from __future__ import annotations

import pytest

from sgv_data.api.health import FAILURES_IN_A_ROW, LOOKS_PER_TRY, PATIENCE_S, SAME_CONFIG_FAULTS, Health
from sgv_data.api.outcomes import EndRow, Fault, FaultKind, Retry, Wait, classify
from sgv_data.records import FailureClass

UNREACHABLE = Fault(FaultKind.UNREACHABLE, "refused")
DOWN = Fault(FaultKind.STATUS, "HTTP 500", 500)
AGAIN = Retry(FailureClass.SERVER_ERROR, "HTTP 500")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health("there", tries=3, longest_rest_s=60.0, clock=clock)


def fail(health: Health, number: int) -> None:
    for each in range(number):
        assert health.failed(f"row {each}", DOWN, AGAIN, was_look=False) is None


def test_one_row_that_always_fails_speaks_of_the_row_not_of_the_server(health: Health) -> None:
    for _ in range(100):
        assert health.failed("row", DOWN, AGAIN, was_look=False) is None
    assert health.is_well


def test_failures_of_many_rows_in_a_row_open_a_rest_and_an_answer_between_them_does_not(health: Health) -> None:
    fail(health, FAILURES_IN_A_ROW - 1)
    health.answered()
    fail(health, FAILURES_IN_A_ROW - 1)
    assert health.is_well
    fail(health, FAILURES_IN_A_ROW)
    assert (health.is_well, health.rest_s()) == (False, 1.0)


def test_what_left_before_the_rest_does_not_lengthen_it(health: Health) -> None:
    fail(health, FAILURES_IN_A_ROW + 60)
    assert health.rest_s() == 1.0


def test_looks_come_in_ever_longer_intervals_and_then_it_stops(health: Health, clock: Clock) -> None:
    fail(health, FAILURES_IN_A_ROW)
    rests = []
    stop = None
    while stop is None:
        rests.append(health.rest_s())
        clock.now += health.rest_s()
        stop = health.failed("row", DOWN, AGAIN, was_look=True)
    assert rests == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert len(rests) == LOOKS_PER_TRY * 3
    assert "in a row" in stop.message
    assert stop.comes_back


def test_an_answer_ends_the_rest(health: Health) -> None:
    fail(health, FAILURES_IN_A_ROW)
    health.answered()
    assert (health.is_well, health.rest_s()) == (True, 0.0)


def test_a_rest_is_never_shorter_than_the_server_asks(health: Health) -> None:
    for each in range(FAILURES_IN_A_ROW):
        health.failed(f"row {each}", DOWN, Retry(FailureClass.SERVER_ERROR, "", 7.0), was_look=False)
    assert health.rest_s() == 7.0


def test_nobody_there_before_the_first_answer_stops_at_the_third_look(health: Health, clock: Clock) -> None:
    assert health.failed("row", UNREACHABLE, AGAIN, was_look=False) is None
    assert health.rest_s() == 1.0
    assert health.failed("row", UNREACHABLE, AGAIN, was_look=True) is None
    stop = health.failed("row", UNREACHABLE, AGAIN, was_look=True)
    assert stop is not None
    assert stop.message.startswith("no server answers at there")


def test_after_a_stop_one_failed_look_is_another(health: Health) -> None:
    fail(health, FAILURES_IN_A_ROW)
    health.looks_again()
    assert (health.is_well, health.rest_s()) == (False, 0.0)
    assert health.failed("row", DOWN, AGAIN, was_look=True) is not None


def test_the_same_configuration_fault_again_and_again_stops(health: Health) -> None:
    found = Fault(FaultKind.STATUS, "no", 400, "unsupported_value")
    decision = classify(found)
    assert isinstance(decision, EndRow)
    stops = [health.refused(found, decision) for _ in range(SAME_CONFIG_FAULTS)]
    assert [stop is not None for stop in stops] == [False] * (SAME_CONFIG_FAULTS - 1) + [True]


@pytest.mark.parametrize("code", ["image_too_small", "content_policy_violation"])
def test_pictures_that_are_turned_down_never_stop_it(health: Health, code: str) -> None:
    found = Fault(FaultKind.STATUS, "no", 400, code)
    decision = classify(found)
    assert isinstance(decision, EndRow)
    assert all(health.refused(found, decision) is None for _ in range(100))


def test_nothing_but_too_many_requests_for_too_long_stops(health: Health, clock: Clock) -> None:
    assert health.waits(Wait(10.0, "")) is None
    clock.now = PATIENCE_S + 1
    assert health.waits(Wait(10.0, "")) is not None
    health.answered()
    assert health.waits(Wait(10.0, "")) is None


def test_being_asked_to_wait_for_hours_stops(health: Health) -> None:
    assert health.waits(Wait(7200.0, "")) is not None
