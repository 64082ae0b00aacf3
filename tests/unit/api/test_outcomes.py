from __future__ import annotations

import json

import pytest

from sgv_data.api.client import Endpoint, status_fault
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


def test_a_true_status_inside_an_answer_with_200_counts() -> None:
    body = json.dumps({"error": {"message": "busy", "code": 429}}).encode()
    assert isinstance(classify(status_fault(200, {}, body)), Wait)


def test_an_error_of_unknown_kind_inside_an_answer_with_200_is_tried_again() -> None:
    decision = classify(status_fault(200, {}, b'{"error": {"message": "upstream"}}'))
    assert isinstance(decision, Retry)
    assert decision.failure is FailureClass.BAD_REPLY


@pytest.mark.parametrize("status", [429, 503])
def test_slow_down_is_told_apart_from_other_waiting(status: int) -> None:
    decision = classify(fault(status, "slow_down", "rate_limit_error", Retry_After="3"))
    if status == 429:
        assert decision == Wait(3.0, decision.detail, slow_down=True)
    else:
        assert isinstance(decision, Retry)
        assert decision.min_wait_s == 3.0


def test_only_what_time_or_money_can_mend_is_looked_at_again() -> None:
    stops = {name: classify(found) for name, found in {
        "credit": fault(429, "insufficient_quota"), "payment": fault(402), "key": fault(401), "model": fault(404),
    }.items()}  # fmt: skip
    assert {name: isinstance(stop, Stop) and stop.comes_back for name, stop in stops.items()} == {
        "credit": True, "payment": True, "key": False, "model": False,
    }  # fmt: skip


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


def test_a_refused_key_is_told_by_where_it_should_have_come_from() -> None:
    endpoint = Endpoint("http://a/v1", "none", "X_KEY")
    decision = classify(Fault(FaultKind.STATUS, "no", 401, key_words=endpoint.key_words))
    assert isinstance(decision, Stop)
    assert "No key was sent: X_KEY is not set" in decision.message
