from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgv_data.api.reply import parse_reply
from sgv_data.records import Outcome
from tests.servers.fault_server import answer


@pytest.mark.parametrize(("body", "outcome"), [
    (answer("A dog."), Outcome.OK),
    (answer("A dog.", "length"), Outcome.TRUNCATED),
    (answer(None, "length"), Outcome.TRUNCATED),
    (answer("A d", "content_filter"), Outcome.REFUSED),
    (answer(None, "stop", "I cannot."), Outcome.REFUSED),
    (answer(None), Outcome.FAILED),
    (answer(""), Outcome.FAILED),
    (answer(None, "tool_calls"), Outcome.FAILED),
    (answer("I'm sorry, but I can't help with that."), Outcome.REFUSED),
    (answer("I'm sorry, but I can't", "length"), Outcome.REFUSED),
    (answer("抱歉，我无法描述这张图片。"), Outcome.REFUSED),
    (answer("A card in a shop door says SORRY; the time cannot be determined."), Outcome.OK),
    (answer("A dog.", "SAFETY"), Outcome.REFUSED),
    (answer("A dog", "MAX_TOKENS"), Outcome.TRUNCATED),
    (answer("A dog.", ""), Outcome.OK),
    (answer([{"type": "text", "text": "A "}, {"type": "text", "text": "dog."}]), Outcome.OK),
    (answer(["A dog."]), Outcome.OK),
    (answer([{"type": "refusal", "refusal": "No."}]), Outcome.REFUSED),
    (answer([]), Outcome.FAILED),
])  # fmt: skip
def test_a_whole_answer_is_finished_and_judged(body: bytes, outcome: Outcome) -> None:
    parsed = parse_reply(body)
    assert (parsed.finished, parsed.outcome, parsed.prompt_tokens) == (True, outcome, 100)


@pytest.mark.parametrize("body", [
    b"", b"<html>", json.dumps({"choices": [{"message": {"content": "A d"}, "error": {"message": "gone"}}]}).encode(),
 b"null", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": [null]}',
    answer("A dog.")[:-5], b'{"error": {"message": "over"}}', b"[" * 100_000,
])  # fmt: skip
def test_what_is_no_whole_answer_is_not_finished(body: bytes) -> None:
    parsed = parse_reply(body)
    assert (parsed.finished, parsed.outcome) == (False, Outcome.FAILED)
    assert parsed.problem


def test_an_error_sent_as_an_answer_keeps_its_code() -> None:
    parsed = parse_reply(json.dumps({"error": {"message": "m", "code": "insufficient_quota", "type": None}}).encode())
    assert parsed.error is not None
    assert parsed.error.code == "insufficient_quota"


@pytest.mark.parametrize("count", ["NaN", "Infinity", "-1", "1e300", '"12"', str(10**30)])
def test_unbelievable_usage_counts_as_missing(count: str) -> None:
    body = b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": %s}}' % count.encode()
    parsed = parse_reply(body)
    assert (parsed.finished, parsed.prompt_tokens, parsed.has_usage) == (True, 0, False)


def test_missing_usage_is_told_from_free() -> None:
    assert not parse_reply(json.dumps({"choices": [{"message": {"content": "x"}}]}).encode()).has_usage
    assert parse_reply(answer("x")).has_usage


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(10**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["choices", "message", "content", "usage", "finish_reason", "error"]), inner),
    max_leaves=20,
)


@given(JSON)
def test_no_json_makes_the_parser_fail(value: object) -> None:
    parsed = parse_reply(json.dumps(value).encode())
    assert parsed.outcome in Outcome


@given(JSON, JSON, JSON)
def test_no_message_makes_the_parser_fail(content: object, refusal: object, usage: object) -> None:
    choice = {"message": {"content": content, "refusal": refusal}, "finish_reason": content}
    reply = {"choices": [choice], "usage": usage}
    assert parse_reply(json.dumps(reply).encode()).finished


def test_a_refusal_says_why_in_the_providers_words() -> None:
    assert parse_reply(answer(None, "stop", "No.")).text == "No."
    assert parse_reply(answer([{"type": "refusal", "refusal": "No."}])).refusal == "No."


def test_what_a_filter_stopped_needs_no_message() -> None:
    parsed = parse_reply(json.dumps({"choices": [{"finish_reason": "content_filter"}]}).encode())
    assert (parsed.finished, parsed.outcome) == (True, Outcome.REFUSED)


def test_a_model_that_thinks_until_its_limit_is_cut_off_and_told() -> None:
    body = json.loads(answer("", "length"))
    body["usage"]["completion_tokens_details"] = {"reasoning_tokens": 50}
    parsed = parse_reply(json.dumps(body).encode())
    assert (parsed.outcome, parsed.text) == (Outcome.TRUNCATED, "")
    assert parsed.problem == "the token limit was used up before the first word; 50 tokens went into thinking"


@pytest.mark.parametrize("field", [None, "", "  ", [], False])
def test_an_empty_refusal_field_is_none(field: object) -> None:
    body = json.loads(answer("A dog."))
    body["choices"][0]["message"]["refusal"] = field
    assert parse_reply(json.dumps(body).encode()).outcome is Outcome.OK
