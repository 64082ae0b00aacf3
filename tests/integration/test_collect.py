"""`collect` against a scripted server on loopback: every fault ends as what it is, and nothing is paid for twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgv_data.records import FailureClass, ImageRow, Outcome, image_order
from sgv_data.tables import write_table
from tests.servers.collect_run import PRICE, captions, collect, draw, index_row, make_index, make_manifest
from tests.servers.fault_server import OK, Act, FaultServer, always, answer, caption_of, error


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
    server.latency_s = 0.05
    make_index(tmp_path, 60)
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
    "byte after byte without end": Act(drip_s=0.05),
    "an error with status 200": Act(200, b'{"error": {"message": "busy", "code": 502}}'),
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


def test_many_refusals_use_up_no_attempt(tmp_path: Path, server: FaultServer) -> None:
    server.script = always(*[error(429, None, "rate_limit_error", retry_after_ms="10")] * 6, OK)
    make_index(tmp_path, 1)
    collect(make_manifest(tmp_path, server.base_url), tmp_path)
    (caption,) = captions(tmp_path).values()
    assert (caption.outcome, caption.attempts) == (Outcome.OK, 1)


def test_a_request_that_backs_off_holds_no_place_in_flight(tmp_path: Path, server: FaultServer) -> None:
    rows = make_index(tmp_path, 12)
    bad = rows[0].sha256
    server.script = lambda sha256, asked: error(500) if sha256 == bad and not asked else OK
    retry = {"attempts": 3, "max_wait_s": 0.8}
    collect(make_manifest(tmp_path, server.base_url, limits={"in_flight": 1}, retry=retry), tmp_path)
    assert set(server.answered.values()) == {1}
    assert list(server.asked)[-1] != bad, "the others went on while it waited"
    assert [sha256 for sha256, asked in server.asked.items() if asked == 2] == [bad]


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
