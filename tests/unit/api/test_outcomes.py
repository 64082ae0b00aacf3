from __future__ import annotations

import json

import pytest

from sgv_data.api.client import status_fault
from sgv_data.api.health import FAILURES_IN_A_ROW, PATIENCE_S, SAME_CONFIG_FAULTS, Health
from sgv_data.api.outcomes import NO_CREDIT, EndRow, Fault, FaultKind, Retry, Stop, Wait, classify
from sgv_data.records import FailureClass


def fault(status: int, code: str | None = None, kind: str | None = None, **headers: str) -> Fault:
    body = json.dumps({"error": {"message": "words", "type": kind, "param": None, "code": code}}).encode()
    return status_fault(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.mark.parametrize(("found", "decision"), [
    (fault(429, "rate_limit_exceeded", "requests", Retry_After="2"), Wait),
    (fault(429, "rate_limit_exceeded", "tokens"), Wait),
    (fault(429, None, "rate_limit_error"), Wait),
    (fault(429, "slow_down", "rate_limit_error"), Wait),
    (fault(429, "resource_unavailable"), Wait),
    (fault(503, "server_is_overloaded", "service_unavailable_error"), Retry),
    (fault(503, "slow_down"), Retry),
    (fault(500), Retry), (fault(502), Retry), (fault(504), Retry), (fault(520), Retry), (fault(529), Retry),
    (fault(408), Retry), (fault(409), Retry),
    (fault(400, "failed_to_download_image"), Retry),
    (fault(401, "invalid_api_key"), Stop), (fault(403), Stop), (fault(402), Stop),
    (fault(404, "model_not_found"), Stop), (fault(404), Stop),
    (fault(400, "context_length_exceeded"), EndRow), (fault(422), EndRow),
])  # fmt: skip
def test_each_answer_has_its_class(found: Fault, decision: type) -> None:
    assert isinstance(classify(found), decision)


@pytest.mark.parametrize("name", sorted(NO_CREDIT))
@pytest.mark.parametrize("status", [429, 400, 403])
def test_an_empty_account_stops_the_run_whatever_the_status(name: str, status: int) -> None:
    assert isinstance(classify(fault(status, name)), Stop)
    assert isinstance(classify(fault(status, None, name)), Stop)


@pytest.mark.parametrize(("code", "failure"), [
    ("invalid_image_format", FailureClass.BAD_IMAGE), ("empty_image_file", FailureClass.BAD_IMAGE),
    ("content_policy_violation", FailureClass.BLOCKED), ("content_filter", FailureClass.BLOCKED),
    ("whatever", FailureClass.BAD_REQUEST),
])  # fmt: skip
def test_a_request_turned_down_names_its_failure(code: str, failure: FailureClass) -> None:
    decision = classify(fault(400, code, "invalid_request_error"))
    assert isinstance(decision, EndRow)
    assert decision.failure is failure


def test_the_message_decides_nothing() -> None:
    body = json.dumps({"error": {"message": "insufficient_quota invalid_api_key", "code": "rate_limit_exceeded"}})
    assert isinstance(classify(status_fault(429, {}, body.encode())), Wait)


def test_retry_after_of_an_overloaded_server_is_kept() -> None:
    decision = classify(fault(503, "server_is_overloaded", Retry_After="7"))
    assert isinstance(decision, Retry)
    assert decision.min_wait_s == 7.0


@pytest.mark.parametrize("content", [
    b"<html>gone</html>", b"", b"[1]", b'{"error": "text"}', b'{"detail": "no"}', b"\xff",
])  # fmt: skip
def test_error_pages_of_any_form_are_told_by_their_status(content: bytes) -> None:
    assert isinstance(classify(status_fault(500, {}, content)), Retry)
    assert isinstance(classify(status_fault(429, {}, content)), Wait)


def test_keys_in_messages_are_not_repeated() -> None:
    content = json.dumps({"error": {"message": "Incorrect API key provided: sk-abcdefgh1234", "code": None}}).encode()
    decision = classify(status_fault(401, {}, content))
    assert isinstance(decision, Stop)
    assert "abcdefgh" not in decision.message


@pytest.mark.parametrize(("kind", "failure", "billed"), [
    (FaultKind.TIMED_OUT, FailureClass.TIMED_OUT, True),
    (FaultKind.UNREACHABLE, FailureClass.SERVER_ERROR, False),
    (FaultKind.LOST, FailureClass.SERVER_ERROR, True),
])  # fmt: skip
def test_broken_connections_are_tried_again(kind: FaultKind, failure: FailureClass, billed: bool) -> None:
    found = Fault(kind, "broke")
    decision = classify(found)
    assert isinstance(decision, Retry)
    assert (decision.failure, found.may_be_billed) == (failure, billed)


# --- what several faults tell ---

UNREACHABLE = Fault(FaultKind.UNREACHABLE, "refused")


def test_nobody_there_before_the_first_answer_stops() -> None:
    assert Health[str]("there").gave_up(UNREACHABLE, "row") is not None


def test_failures_are_held_back_until_something_is_answered() -> None:
    health = Health[str]("there")
    health.answered()
    assert health.gave_up(fault(500), "a") is None
    assert health.gave_up(UNREACHABLE, "b") is None
    assert health.answered() == ["a", "b"]
    assert health.release() == []


def test_failures_in_a_row_stop_and_an_answer_in_between_does_not() -> None:
    health = Health[int]("there")
    for _ in range(3):
        assert all(health.gave_up(fault(500), row) is None for row in range(FAILURES_IN_A_ROW - 1))
        health.answered()
    stops = [health.gave_up(fault(500), row) for row in range(FAILURES_IN_A_ROW)]
    assert [stop is not None for stop in stops] == [False] * (FAILURES_IN_A_ROW - 1) + [True]


def test_the_same_configuration_fault_again_and_again_stops() -> None:
    health = Health[str]("there")
    found = fault(400, "unsupported_value")
    decision = classify(found)
    assert isinstance(decision, EndRow)
    stops = [health.refused(found, decision) for _ in range(SAME_CONFIG_FAULTS)]
    assert [stop is not None for stop in stops] == [False] * (SAME_CONFIG_FAULTS - 1) + [True]


def test_refused_pictures_never_stop_the_run() -> None:
    health = Health[str]("there")
    found = fault(400, "image_too_small")
    decision = classify(found)
    assert isinstance(decision, EndRow)
    assert all(health.refused(found, decision) is None for _ in range(100))


def test_nothing_but_too_many_requests_for_too_long_stops() -> None:
    now = [0.0]
    health = Health[str]("there", clock=lambda: now[0])
    assert health.waits(Wait(10.0, "")) is None
    now[0] = PATIENCE_S + 1
    assert health.waits(Wait(10.0, "")) is not None
    health.answered()
    assert health.waits(Wait(10.0, "")) is None


def test_being_asked_to_wait_for_hours_stops() -> None:
    assert Health[str]("there").waits(Wait(7200.0, "")) is not None
