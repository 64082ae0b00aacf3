"""`collect` against a scripted server on loopback: every fault ends as what it is, and nothing is paid for twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sgv_data.errors import BudgetReached, ManifestError, ProviderError
from sgv_data.records import FailureClass, ImageRow, Outcome, image_order
from sgv_data.tables import write_table
from tests.servers.collect_run import PRICE, captions, collect, draw, index_row, make_index, make_manifest
from tests.servers.fault_server import OK, Act, FaultServer, always, answer, caption_of, error


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def test_every_picture_gets_the_caption_of_its_own_bytes(tmp_path: Path, server: FaultServer) -> None:
    rows = make_index(tmp_path, 80, not_asked=10)
    report = collect(make_manifest(tmp_path, server.base_url), tmp_path)
    assert (report.num_in, report.num_out, report.skipped) == (80, 70, 10)
    found = captions(tmp_path)
    assert {row.image_id: row.text for row in found.values()} == {
        row.image_id: caption_of(row.sha256) for row in rows if row.for_teacher
    }
    assert set(server.answered.values()) == {1}


def test_a_second_run_asks_nothing_and_gives_equal_rows(tmp_path: Path, server: FaultServer) -> None:
    make_index(tmp_path, 9)
    manifest = make_manifest(tmp_path, server.base_url)
    collect(manifest, tmp_path)
    first = captions(tmp_path)
    again = collect(manifest, tmp_path)
    assert captions(tmp_path) == first
    assert again.from_cache == 9
    assert sum(server.asked.values()) == 9


def test_an_answered_picture_is_not_read_again(tmp_path: Path, server: FaultServer) -> None:
    make_index(tmp_path, 3)
    manifest = make_manifest(tmp_path, server.base_url)
    collect(manifest, tmp_path)
    for path in (tmp_path / "pictures").iterdir():
        path.unlink()
    assert collect(manifest, tmp_path).num_out == 3


def test_no_pictures_for_the_teacher_gives_an_empty_table_and_needs_no_server(tmp_path: Path) -> None:
    make_index(tmp_path, 2, not_asked=2)
    report = collect(make_manifest(tmp_path, "http://127.0.0.1:9/v1"), tmp_path)
    assert (report.num_in, report.skipped, captions(tmp_path)) == (2, 2, {})


def test_workers_are_never_more_than_the_limit(tmp_path: Path, server: FaultServer) -> None:
    server.latency_s = 0.01
    make_index(tmp_path, 30)
    collect(make_manifest(tmp_path, server.base_url, limits={"in_flight": 3}), tmp_path)
    assert server.most_in_flight == 3


RETRIED = {
    "500 with a page of HTML": Act(500, b"<html><h1>502 Bad Gateway</h1></html>"),
    "overloaded": error(503, "server_is_overloaded", "service_unavailable_error"),
    "HTML in place of JSON": Act(200, b"<!doctype html><html></html>"),
    "cut JSON": Act(200, answer("The picture")[:60]),
    "reset before the answer": Act(200, answer("x"), cut=0),
    "reset in mid-answer": Act(200, answer("x"), cut=30),
    "no choices": Act(200, b'{"id": "1", "choices": []}'),
    "hang": Act(sleep_s=1.0),
}


@pytest.mark.parametrize("name", RETRIED)
def test_a_passing_fault_is_met_with_the_same_request_again(tmp_path: Path, server: FaultServer, name: str) -> None:
    server.script = always(RETRIED[name], OK)
    (row,) = make_index(tmp_path, 1)
    collect(make_manifest(tmp_path, server.base_url, timeout_s=0.2), tmp_path)
    (caption,) = captions(tmp_path).values()
    assert (caption.outcome, caption.text, caption.attempts) == (Outcome.OK, caption_of(row.sha256), 2)
    first, second = server.bodies[row.sha256]
    assert first == second


LASTING = {
    "500": (Act(500, b"<html></html>"), FailureClass.SERVER_ERROR),
    "cut JSON": (Act(200, b'{"choices": [{"mess'), FailureClass.BAD_REPLY),
    "hang": (Act(sleep_s=0.5), FailureClass.TIMED_OUT),
    "reset": (Act(200, answer("x"), cut=30), FailureClass.SERVER_ERROR),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_fault_ends_the_row_with_its_class(tmp_path: Path, server: FaultServer, name: str) -> None:
    act, failure = LASTING[name]
    server.script = always(act)
    make_index(tmp_path, 1)
    report = collect(make_manifest(tmp_path, server.base_url, timeout_s=0.1), tmp_path)
    (caption,) = captions(tmp_path).values()
    assert (caption.outcome, caption.failure, caption.attempts) == (Outcome.FAILED, failure, 3)
    assert report.failed == {failure.value: 1}


ENDINGS = {
    "length": (answer("It shows", "length"), Outcome.TRUNCATED, "It shows"),
    "length without text": (answer(None, "length"), Outcome.TRUNCATED, ""),
    "content filter": (answer(None, "content_filter"), Outcome.REFUSED, ""),
    "refusal field": (answer(None, "stop", "I cannot help."), Outcome.REFUSED, "I cannot help."),
    "null content": (answer(None), Outcome.FAILED, ""),
    "empty content": (answer("  "), Outcome.FAILED, ""),
    "content in parts": (answer([{"type": "text", "text": "A dog."}]), Outcome.OK, "A dog."),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_whole_answer_ends_as_what_it_is_and_is_not_bought_again(
    tmp_path: Path, server: FaultServer, name: str
) -> None:
    body, outcome, text = ENDINGS[name]
    server.script = always(Act(200, body))
    make_index(tmp_path, 1)
    manifest = make_manifest(tmp_path, server.base_url)
    collect(manifest, tmp_path)
    collect(manifest, tmp_path)
    (caption,) = captions(tmp_path).values()
    assert (caption.outcome, caption.text) == (outcome, text)
    assert caption.completion_tokens == 20
    assert sum(server.asked.values()) == 1


@pytest.mark.parametrize("headers", [{"Retry_After": "0.3"}, {"retry_after_ms": "300"},
                                     {"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "300ms"}])
def test_nothing_is_sent_while_the_server_asks_to_wait(
    tmp_path: Path, server: FaultServer, headers: dict[str, str]
) -> None:
    rows = make_index(tmp_path, 12)
    refused: list[str] = []

    def script(sha256: str, asked: int) -> Act:
        if len(server.times) == 5:
            refused.append(sha256)
            return error(429, "rate_limit_exceeded", "requests", **headers)
        return OK

    server.script = script
    collect(make_manifest(tmp_path, server.base_url, limits={"in_flight": 1}), tmp_path)
    assert server.times[5] - server.times[4] >= 0.3
    assert {caption.attempts for caption in captions(tmp_path).values()} == {1}
    assert (len(refused), len(captions(tmp_path))) == (1, len(rows))


def test_many_refusals_without_a_time_use_up_no_attempt(tmp_path: Path, server: FaultServer) -> None:
    server.script = always(*[error(429, None, "rate_limit_error")] * 6, OK)
    make_index(tmp_path, 1)
    collect(make_manifest(tmp_path, server.base_url), tmp_path)
    (caption,) = captions(tmp_path).values()
    assert (caption.outcome, caption.attempts) == (Outcome.OK, 1)


STOPS = {
    "no credit": error(429, "insufficient_quota", "insufficient_quota"),
    "no credit, type only": error(429, None, "insufficient_quota"),
    "billing limit as 400": error(400, "billing_hard_limit_reached", "invalid_request_error"),
    "wrong key": error(401, "invalid_api_key"),
    "forbidden": error(403),
    "unknown model": error(404, "model_not_found"),
}


@pytest.mark.parametrize("name", STOPS)
def test_a_fault_of_the_whole_run_stops_it_and_rows_stay_pending(
    tmp_path: Path, server: FaultServer, name: str
) -> None:
    server.script = lambda _, __: STOPS[name] if len(server.times) > 10 else OK
    make_index(tmp_path, 60)
    manifest = make_manifest(tmp_path, server.base_url)
    with pytest.raises(ProviderError):
        collect(manifest, tmp_path)
    assert len(server.times) <= 10 + 4
    server.script = always(OK)
    collect(manifest, tmp_path)
    assert set(server.answered.values()) == {1}
    assert {caption.outcome for caption in captions(tmp_path).values()} == {Outcome.OK}


def test_what_is_in_the_air_when_the_run_stops_is_stored(tmp_path: Path, server: FaultServer) -> None:
    server.script = lambda _, __: error(401) if len(server.times) == 4 else Act(sleep_s=0.2)
    make_index(tmp_path, 20)
    manifest = make_manifest(tmp_path, server.base_url)
    with pytest.raises(ProviderError):
        collect(manifest, tmp_path)
    server.script = always(OK)
    collect(manifest, tmp_path)
    assert set(server.answered.values()) == {1}


def test_settings_that_every_request_is_turned_down_for_stop_the_run(tmp_path: Path, server: FaultServer) -> None:
    server.script = always(error(400, "unsupported_parameter", "invalid_request_error"))
    make_index(tmp_path, 40)
    with pytest.raises(ProviderError, match="unsupported_parameter"):
        collect(make_manifest(tmp_path, server.base_url), tmp_path)
    assert len(server.times) <= 5 + 4


@pytest.mark.parametrize(("code", "failure"), [
    ("content_policy_violation", FailureClass.BLOCKED),
    ("invalid_image_format", FailureClass.BAD_IMAGE),
    ("string_above_max_length", FailureClass.BAD_REQUEST),
])
def test_a_refused_picture_ends_alone(tmp_path: Path, server: FaultServer, code: str, failure: FailureClass) -> None:
    rows = make_index(tmp_path, 10)
    server.script = lambda sha256, _: error(400, code, "invalid_request_error") if sha256 == rows[3].sha256 else OK
    collect(make_manifest(tmp_path, server.base_url), tmp_path)
    failed = {row.image_id: row.failure for row in captions(tmp_path).values() if row.failure}
    assert failed == {rows[3].image_id: failure}


def test_a_server_that_is_not_there_stops_the_run_with_its_address(tmp_path: Path) -> None:
    make_index(tmp_path, 30)
    with pytest.raises(ProviderError, match=r"no server answers at http://127\.0\.0\.1:9/v1"):
        collect(make_manifest(tmp_path, "http://127.0.0.1:9/v1"), tmp_path)


def test_a_server_that_goes_down_leaves_the_rest_pending(tmp_path: Path, server: FaultServer) -> None:
    server.script = lambda _, __: Act(503, b"down") if len(server.times) > 20 else OK
    make_index(tmp_path, 60)
    manifest = make_manifest(tmp_path, server.base_url)
    with pytest.raises(ProviderError, match="in a row"):
        collect(manifest, tmp_path)
    server.script = always(OK)
    assert collect(manifest, tmp_path).failed == {}
    assert set(server.answered.values()) == {1}


def test_without_a_key_the_providers_own_address_is_never_called(tmp_path: Path) -> None:
    make_index(tmp_path, 1)
    manifest = make_manifest(tmp_path, "http://unused").model_dump()
    manifest["teacher"] |= {"base_url": None, "api_key_env": "MY_API_KEY"}
    with pytest.raises(ProviderError, match="MY_API_KEY"):
        collect(make_manifest(tmp_path, "http://unused").model_validate(manifest), tmp_path)


def test_the_key_comes_from_the_named_variable_and_stays_out_of_files(
    tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "sk-verysecret123")
    make_index(tmp_path, 2)
    collect(make_manifest(tmp_path, server.base_url, api_key_env="MY_API_KEY"), tmp_path)
    assert server.keys == {"Bearer sk-verysecret123"}
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or b"verysecret" not in path.read_bytes()


# --- money ---


def test_the_budget_is_never_exceeded_and_the_run_goes_on_when_it_is_raised(
    tmp_path: Path, server: FaultServer
) -> None:
    make_index(tmp_path, 60)
    each_usd = (100 * 1 + 20 * 2) / 1e6
    manifest = make_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=20.5 * each_usd)
    with pytest.raises(BudgetReached):
        collect(manifest, tmp_path)
    spent_usd = sum(server.answered.values()) * each_usd
    worst_usd = (6 + 21 + 16 + 1 + 50 * 2) / 1e6  # 6 tokens of image, 21 bytes of prompt, overhead, 50 tokens out
    assert 20.5 * each_usd - worst_usd - each_usd <= spent_usd <= 20.5 * each_usd
    num_before = sum(server.asked.values())
    with pytest.raises(BudgetReached):
        collect(manifest, tmp_path)
    assert sum(server.asked.values()) == num_before
    report = collect(make_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=1.0), tmp_path)
    assert report.notes["spent_usd"] == pytest.approx(60 * each_usd)
    assert set(server.answered.values()) == {1}


def test_a_request_without_an_answer_counts_as_billed(tmp_path: Path, server: FaultServer) -> None:
    server.script = always(Act(sleep_s=0.3), OK)
    make_index(tmp_path, 1)
    report = collect(
        make_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=1.0, timeout_s=0.1), tmp_path
    )
    spent_usd = report.notes["spent_usd"]
    assert isinstance(spent_usd, float)
    assert spent_usd > 140e-6 + 100e-6


def test_a_budget_without_a_known_price_is_refused_before_anything_is_sent(
    tmp_path: Path, server: FaultServer
) -> None:
    make_index(tmp_path, 1)
    with pytest.raises(ManifestError, match=r"teacher\.price"):
        collect(make_manifest(tmp_path, server.base_url, budget_usd=1.0), tmp_path)
    assert not server.times


# --- pictures ---


def test_pictures_that_changed_or_cannot_be_read_end_as_failed_rows(tmp_path: Path, server: FaultServer) -> None:
    rows = make_index(tmp_path, 6)
    (tmp_path / "pictures" / rows[0].location).write_bytes(b"other")
    (tmp_path / "pictures" / rows[1].location).unlink()
    report = collect(make_manifest(tmp_path, server.base_url), tmp_path)
    assert report.failed == {"image_changed": 2}
    assert {row.image_id for row in captions(tmp_path).values() if row.failure} == {rows[0].image_id, rows[1].image_id}


def test_a_moved_picture_is_not_paid_for_again(tmp_path: Path, server: FaultServer) -> None:
    (row,) = make_index(tmp_path, 1)
    manifest = make_manifest(tmp_path, server.base_url)
    collect(manifest, tmp_path)
    moved = (tmp_path / "pictures" / row.location).rename(tmp_path / "pictures" / "elsewhere.png")
    write_table(tmp_path / "run" / "index", "images", ImageRow, [index_row(moved)])
    collect(manifest, tmp_path)
    assert list(captions(tmp_path)) == ["numbers/elsewhere"]
    assert sum(server.asked.values()) == 1


def test_new_bytes_under_the_same_name_are_asked_about(tmp_path: Path, server: FaultServer) -> None:
    (row,) = make_index(tmp_path, 1)
    manifest = make_manifest(tmp_path, server.base_url)
    collect(manifest, tmp_path)
    draw(77).save(tmp_path / "pictures" / row.location)
    changed = index_row(tmp_path / "pictures" / row.location)
    write_table(tmp_path / "run" / "index", "images", ImageRow, [changed])
    collect(manifest, tmp_path)
    assert captions(tmp_path)[row.image_id].text == caption_of(changed.sha256)


@pytest.mark.parametrize("change", [
    {"model": "other"}, {"temperature": 0.1}, {"seed": 4}, {"max_completion_tokens": 60},
    {"image": {"detail": "low"}},
])
def test_what_changes_the_request_asks_again(tmp_path: Path, server: FaultServer, change: dict[str, object]) -> None:
    make_index(tmp_path, 1)
    collect(make_manifest(tmp_path, server.base_url), tmp_path)
    collect(make_manifest(tmp_path, server.base_url, **change), tmp_path)
    assert sum(server.asked.values()) == 2


@pytest.mark.parametrize("change", [
    {"timeout_s": 3.0}, {"limits": {"in_flight": 2, "requests_per_minute": 60_000}}, {"retry": {"attempts": 9}},
    {"price": PRICE, "budget_usd": 1.0},
])
def test_what_only_changes_the_manner_of_asking_does_not(
    tmp_path: Path, server: FaultServer, change: dict[str, object]
) -> None:
    make_index(tmp_path, 1)
    collect(make_manifest(tmp_path, server.base_url), tmp_path)
    collect(make_manifest(tmp_path, server.base_url, **change), tmp_path)
    assert sum(server.asked.values()) == 1


def test_equal_bytes_under_two_names_are_asked_about_once(tmp_path: Path, server: FaultServer) -> None:
    make_index(tmp_path, 1)
    paths = [tmp_path / "pictures" / name for name in ("a.png", "b.png")]
    for path in paths:
        draw(5).save(path)
    rows = sorted(map(index_row, paths), key=lambda row: image_order(row.image_id))
    write_table(tmp_path / "run" / "index", "images", ImageRow, rows)
    assert collect(make_manifest(tmp_path, server.base_url), tmp_path).num_out == 2
    assert sum(server.asked.values()) == 1


def test_redo_asks_failed_rows_again_and_answered_ones_not(tmp_path: Path, server: FaultServer) -> None:
    rows = make_index(tmp_path, 5)
    server.script = lambda sha256, _: error(400, "image_too_small") if sha256 == rows[0].sha256 else OK
    manifest = make_manifest(tmp_path, server.base_url)
    collect(manifest, tmp_path)
    collect(manifest, tmp_path)
    assert server.asked[rows[0].sha256] == 1
    (tmp_path / "run" / "collect" / ".session").unlink()
    server.script = always(OK)
    assert collect(manifest, tmp_path).num_out == 5
    assert sum(server.asked.values()) == 6


# --- interruptions ---


def start(folder: Path, server: FaultServer, **teacher: object) -> subprocess.Popen[bytes]:
    arguments = json.dumps({"folder": str(folder), "base_url": server.base_url, "teacher": teacher})
    return subprocess.Popen(
        [sys.executable, "-m", "tests.servers.collect_run", arguments], start_new_session=True, stderr=subprocess.PIPE
    )


def wait_until_asked(server: FaultServer, number: int, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while len(server.times) < number:
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.002)


def no_process_left(session: int) -> bool:
    """Whether the process group of a child is empty."""
    for _ in range(100):
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_killed_anywhere_it_goes_on_and_pays_only_for_what_was_in_the_air(tmp_path: Path, server: FaultServer) -> None:
    server.latency_s = 0.004
    rows = make_index(tmp_path, 60)
    rng, num_kills, in_flight = random.Random(1), 2, 4
    for kill in range(num_kills):
        child = start(tmp_path, server)
        wait_until_asked(server, 25 * kill + rng.randrange(1, 20), child)
        child.send_signal(signal.SIGKILL)
        child.wait()
    collect(make_manifest(tmp_path, server.base_url), tmp_path)
    found = captions(tmp_path)
    assert {row.image_id: row.text for row in found.values()} == {row.image_id: caption_of(row.sha256) for row in rows}
    assert sum(server.answered.values()) <= len(rows) + num_kills * in_flight


def test_an_interrupted_run_gives_the_rows_of_an_undisturbed_one(tmp_path: Path, server: FaultServer) -> None:
    rows = make_index(tmp_path / "a", 70)
    make_index(tmp_path / "b", 70)
    bad = rows[7].sha256
    server.script = lambda sha256, _: error(400, "image_too_large") if sha256 == bad else Act(sleep_s=0.005)
    child = start(tmp_path / "a", server)
    wait_until_asked(server, 25, child)
    child.kill()
    child.wait()
    assert no_process_left(child.pid)
    plain = {}
    for name in ("a", "b"):
        collect(make_manifest(tmp_path / name, server.base_url), tmp_path / name)
        plain[name] = [
            replace(row, created_utc="", latency_s=0.0, request_id=None, attempts=1)
            for row in captions(tmp_path / name).values()
        ]
    assert plain["a"] == plain["b"]


def test_ctrl_c_ends_within_two_seconds_and_leaves_no_process(tmp_path: Path, server: FaultServer) -> None:
    server.script = lambda _, __: Act(sleep_s=30) if len(server.times) > 20 else OK
    make_index(tmp_path, 80)
    child = start(tmp_path, server)
    wait_until_asked(server, 23, child)
    began = time.monotonic()
    os.killpg(child.pid, signal.SIGINT)
    child.wait(10)
    assert time.monotonic() - began < 2
    assert no_process_left(child.pid)
    server.script = always(OK)
    collect(make_manifest(tmp_path, server.base_url), tmp_path)
    assert set(server.answered.values()) == {1}
