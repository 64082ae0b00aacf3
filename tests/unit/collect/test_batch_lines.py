"""Lines of results, and files that are exactly full."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgv_data.api.batch_words import batch_limits
from sgv_data.api.outcomes import Fault
from sgv_data.collect.batch_draft import Draft, Entry, FileLimits
from sgv_data.collect.batch_lines import Answer, Undone, read_line
from sgv_data.manifest import BatchLane
from sgv_data.records import Outcome
from tests.servers.fault_server import answer


def line(response: Any, error: Any = None, custom_id: Any = "key") -> bytes:
    return json.dumps({"id": "x", "custom_id": custom_id, "response": response, "error": error}).encode()


def response(status: int, body: Any) -> dict[str, Any]:
    return {"status_code": status, "request_id": "req-1", "body": body}


def test_an_answer_is_read_like_a_live_one() -> None:
    found = read_line(line(response(200, json.loads(answer("A dog.")))))
    assert found is not None
    assert isinstance(found.result, Answer)
    assert (found.key, found.result.request_id) == ("key", "req-1")
    assert (found.result.parsed.outcome, found.result.parsed.text) == (Outcome.OK, "A dog.")


@pytest.mark.parametrize(("said", "name"), [
    (line(response(429, {"error": {"code": "rate_limit_exceeded", "message": "m"}})), "rate_limit_exceeded"),
    (line(response(500, None)), "500"),
    (line(response(502, "<html>")), "502"),
    (line(response(200, {"error": {"code": "odd", "message": "m"}})), "odd"),
    (line(None, {"code": "who_knows", "message": "m"}), "who_knows"),
])
def test_an_error_is_a_fault_with_its_name(said: bytes, name: str) -> None:
    found = read_line(said)
    assert found is not None
    assert isinstance(found.result, Fault)
    assert found.result.name == name


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled"])
def test_what_the_batch_did_not_come_to_is_undone(code: str) -> None:
    found = read_line(line(None, {"code": code, "message": "m"}))
    assert found is not None
    assert found.result == Undone()


@pytest.mark.parametrize("said", [b"{", b"[]", b'{"custom_id": 3, "response": null}', b'"text"', b"\xff\xfe"])
def test_what_is_no_result_is_none(said: bytes) -> None:
    assert read_line(said) is None


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["custom_id", "response", "error", "status_code", "body", "code", "choices"]), inner, max_size=4
    ),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode()))
def test_no_line_makes_it_fail(said: bytes) -> None:
    read_line(said)


def entry(key: str, num_bytes: int) -> Entry:
    return Entry(key, b"x" * (num_bytes - 1) + b"\n", "model", 10, 0.5)


def test_a_file_holds_exactly_so_many_bytes_and_requests(tmp_path: Path) -> None:
    with Draft(tmp_path, "model") as draft:
        draft.add(entry("a", 60))
        assert draft.has_room(entry("b", 40), FileLimits(2, 100))
        assert not draft.has_room(entry("b", 41), FileLimits(2, 100))
        assert not draft.has_room(entry("b", 40), FileLimits(1, 100))
        draft.add(entry("b", 40))
        assert (len(draft), draft.num_bytes, draft.prompt_tokens, draft.worst_usd) == (2, 100, 20, 1.0)
        draft.file.seek(0)
        assert len(draft.file.read()) == 100
        assert list(tmp_path.iterdir()) == []


def test_the_manifest_can_only_lower_the_providers_limits() -> None:
    provider = batch_limits()
    lower = FileLimits.of(BatchLane(max_requests=7, max_bytes=9), provider)
    higher = FileLimits.of(BatchLane(max_requests=10**9, max_bytes=10**12), provider)
    assert (lower.max_requests, lower.max_bytes) == (7, 9)
    assert (higher.max_requests, higher.max_bytes) == (50_000, 200_000_000)
