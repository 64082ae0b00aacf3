"""The batch lane against a provider on loopback: whatever goes wrong, every picture ends once with its own caption."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sgv_data.api.batch_ledger import Batch, BatchState, Ledger
from sgv_data.api.reply import parse_reply
from sgv_data.cli.app import app
from sgv_data.collect.batch import check_none_waiting, has_batches, take_batches, without_waiting
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.collect.scan import pending_rows
from sgv_data.errors import AlarmRaised, BudgetReached, ProviderError, StillWaiting
from sgv_data.manifest import Manifest
from sgv_data.records import FailureClass, ImageRow, Lane, Outcome
from tests.servers.batch_run import (
    SESSION,
    Listener,
    all_rounds,
    batch_manifest,
    num_pending,
    one_round,
    open_cache,
)
from tests.servers.batch_server import BatchServer, Fate, Trouble
from tests.servers.collect_run import PRICE, collect, make_index, make_manifest
from tests.servers.collect_run import captions as table
from tests.servers.fault_server import Act, answer, caption_of, error

EACH_USD = (100 * PRICE["input_usd"] + 20 * PRICE["output_usd"]) / 1e6


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as running:
        yield running


def captions(manifest: Manifest, folder: Path, rows: list[ImageRow]) -> dict[str, str]:
    """The text of every picture that has an answer, by image id; nothing is there twice."""
    questions = Questions(manifest)
    with open_cache(folder) as cache:
        finished = [reply for reply in cache.iterate() if parse_reply(reply.body).finished]
        assert len({reply.request_key for reply in finished}) == len(finished)
        assert {reply.lane for reply in finished} <= {Lane.BATCH}
        texts = {reply.request_key: parse_reply(reply.body).text for reply in finished}
        sent = cache.sent(recipe_name(manifest.teacher), [row.sha256 for row in rows])
        keys = {row.image_id: questions.key(row, sent[row.sha256]) for row in rows if row.sha256 in sent}
        return {image_id: texts[key] for image_id, key in keys.items() if key in texts}


def failures(manifest: Manifest, folder: Path, rows: list[ImageRow]) -> dict[str, FailureClass]:
    questions = Questions(manifest)
    with open_cache(folder) as cache:
        sent = cache.sent(recipe_name(manifest.teacher), [row.sha256 for row in rows])
        keys = {row.image_id: questions.key(row, sent[row.sha256]) for row in rows if row.sha256 in sent}
        found = cache.failures(SESSION, keys.values())
        return {image_id: found[key].failure for image_id, key in keys.items() if key in found}


def wanted(rows: list[ImageRow]) -> dict[str, str]:
    return {row.image_id: caption_of(row.sha256) for row in rows}


def ledger_of(folder: Path) -> list[Batch]:
    with open_cache(folder) as cache:
        return Ledger(cache, cache.run).batches()


def spent_usd(folder: Path) -> float:
    with open_cache(folder) as cache:
        return cache.spent_usd(None)


def each_was_sent_once(server: BatchServer) -> bool:
    return set(server.submitted.values()) == {1} and not server.waiting_twice


# --- results ---


def test_every_picture_gets_its_own_caption_whatever_the_order(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 30)
    manifest, told = batch_manifest(tmp_path, server.base_url, {"max_requests": 7}), Listener()
    assert one_round(manifest, tmp_path, told) == 30
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert [len(batch.lines) for batch in server.batches.values()] == [7, 7, 7, 7, 2]
    assert (len(told.ends), max(told.in_flight)) == (30, 30)
    assert each_was_sent_once(server)


def test_a_second_command_sends_nothing(tmp_path: Path, server: BatchServer) -> None:
    make_index(tmp_path, 5)
    manifest = batch_manifest(tmp_path, server.base_url)
    one_round(manifest, tmp_path)
    assert one_round(manifest, tmp_path) == 0
    assert len(server.batches) == 1


def test_results_that_come_twice_count_once_and_strangers_are_told(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 12)
    server.fate = lambda _: Fate(twice=4, strangers=3, rubbish=2)
    manifest, told = batch_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=1.0), Listener()
    assert one_round(manifest, tmp_path, told) == 12
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert spent_usd(tmp_path) == pytest.approx(12 * EACH_USD)
    (line,) = [line for line in told.said if "answered" in line]
    assert "12 answered" in line
    assert "3 results of requests that are not in it" in line
    assert "4 results that came twice" in line
    assert "2 lines that cannot be read" in line


def test_a_request_without_a_result_is_sent_again(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 12)
    server.fate = lambda number: Fate(holes=5) if number == 0 else Fate()
    manifest = batch_manifest(tmp_path, server.base_url)
    assert all_rounds(manifest, tmp_path) == 2
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert [len(batch.lines) for batch in server.batches.values()] == [12, 5]


def test_a_result_that_never_comes_counts_as_billed(tmp_path: Path, server: BatchServer) -> None:
    make_index(tmp_path, 6)
    server.fate = lambda number: Fate(holes=2)
    manifest = batch_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=1.0)
    one_round(manifest, tmp_path)
    assert sum(server.worked.values()) == 6
    assert spent_usd(tmp_path) > 6 * EACH_USD


def test_a_request_that_never_gets_a_result_fails_after_its_tries(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 3)
    server.fate = lambda _: Fate(holes=3)
    manifest = batch_manifest(tmp_path, server.base_url)
    assert all_rounds(manifest, tmp_path) == 3
    assert set(failures(manifest, tmp_path, rows).values()) == {FailureClass.SERVER_ERROR}
    assert len(server.batches) == 3


@pytest.mark.parametrize("status", ["expired", "cancelled"])
@pytest.mark.parametrize("leave_out_rest", [False, True])
def test_finished_rows_of_a_batch_that_was_cut_short_are_taken_and_the_rest_sent_again(
    tmp_path: Path, server: BatchServer, status: str, leave_out_rest: bool
) -> None:
    rows = make_index(tmp_path, 20)
    server.fate = lambda number: Fate(status, worked=8, leave_out_rest=leave_out_rest) if not number else Fate()
    manifest = batch_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=1.0)
    assert one_round(manifest, tmp_path) == 8
    assert spent_usd(tmp_path) == pytest.approx(8 * EACH_USD)
    assert all_rounds(manifest, tmp_path) == 1
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert [len(batch.lines) for batch in server.batches.values()] == [20, 12]
    assert sum(server.worked.values()) == 20


def test_a_batch_that_expires_again_and_again_uses_up_no_tries(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 4)
    server.fate = lambda number: Fate("expired", worked=0) if number < 6 else Fate()
    manifest = batch_manifest(tmp_path, server.base_url)
    assert all_rounds(manifest, tmp_path) == 7
    assert captions(manifest, tmp_path, rows) == wanted(rows)


LINES: dict[str, tuple[tuple[int, Any], FailureClass | None]] = {
    "overloaded": ((503, {"error": {"code": "server_is_overloaded", "message": "busy"}}), None),
    "asked to wait": ((429, {"error": {"code": "rate_limit_exceeded", "message": "slow"}}), None),
    "HTML": ((502, "<html>bad gateway</html>"), None),
    "no choices": ((200, {"id": "x", "choices": []}), None),
    "an error as answer": ((200, {"error": {"message": "odd", "code": 503}}), None),
    "blocked": ((400, {"error": {"code": "content_policy_violation", "message": "no"}}), FailureClass.BLOCKED),
    "bad image": ((400, {"error": {"code": "invalid_image_format", "message": "no"}}), FailureClass.BAD_IMAGE),
    "bad request": ((400, {"error": {"code": "string_above_max_length", "message": "no"}}), FailureClass.BAD_REQUEST),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_with_an_error_ends_as_what_it_is(tmp_path: Path, server: BatchServer, name: str) -> None:
    line, failure = LINES[name]
    rows = make_index(tmp_path, 9)
    bad = rows[4].sha256
    server.judge = lambda sha256, before: (
        line if sha256 == bad and not before else (200, json.loads(answer(caption_of(sha256))))
    )
    manifest = batch_manifest(tmp_path, server.base_url)
    assert all_rounds(manifest, tmp_path) == (2 if failure is None else 1)
    expected = wanted(rows)
    if failure is not None:
        del expected[rows[4].image_id]
    assert captions(manifest, tmp_path, rows) == expected
    assert failures(manifest, tmp_path, rows) == ({rows[4].image_id: failure} if failure else {})


def test_an_error_that_lasts_ends_the_picture_after_its_tries(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 3)
    server.judge = lambda sha256, _: (
        (500, {}) if sha256 == rows[0].sha256 else (200, json.loads(answer(caption_of(sha256))))
    )
    manifest, told = batch_manifest(tmp_path, server.base_url), Listener()
    assert all_rounds(manifest, tmp_path, told) == 3
    assert failures(manifest, tmp_path, rows) == {rows[0].image_id: FailureClass.SERVER_ERROR}
    assert Counter(told.ends) == {(Outcome.OK, None): 2, (Outcome.FAILED, FailureClass.SERVER_ERROR): 1}


ENDINGS = {
    "cut off": (answer("It shows", "length"), Outcome.TRUNCATED),
    "refused": (answer(None, "stop", "I cannot help."), Outcome.REFUSED),
    "empty": (answer(None), Outcome.FAILED),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_whole_answer_ends_as_what_it_is_and_is_not_bought_again(
    tmp_path: Path, server: BatchServer, name: str
) -> None:
    body, outcome = ENDINGS[name]
    make_index(tmp_path, 2)
    server.judge = lambda *_: (200, json.loads(body))
    manifest, told = batch_manifest(tmp_path, server.base_url), Listener()
    assert all_rounds(manifest, tmp_path, told) == 1
    assert [end for end, _ in told.ends] == [outcome, outcome]
    assert len(server.batches) == 1


def test_no_credit_in_the_results_stops_the_run_after_taking_what_was_answered(
    tmp_path: Path, server: BatchServer
) -> None:
    rows = make_index(tmp_path, 10)
    empty = {rows[number].sha256 for number in (2, 5)}
    out_of_credit = (429, {"error": {"type": "insufficient_quota", "message": "no credit", "code": None}})
    server.judge = lambda sha256, before: (
        out_of_credit if sha256 in empty and not before else (200, json.loads(answer(caption_of(sha256))))
    )
    manifest = batch_manifest(tmp_path, server.base_url)
    with pytest.raises(ProviderError, match="credit"):
        one_round(manifest, tmp_path)
    assert len(captions(manifest, tmp_path, rows)) == 8
    assert all_rounds(manifest, tmp_path) == 1
    assert captions(manifest, tmp_path, rows) == wanted(rows)


def test_settings_that_every_request_is_turned_down_for_stop_the_run(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 10)
    server.judge = lambda *_: (400, {"error": {"code": "unsupported_parameter", "message": "no max_tokens"}})
    manifest = batch_manifest(tmp_path, server.base_url)
    with pytest.raises(ProviderError, match="unsupported_parameter"):
        one_round(manifest, tmp_path)
    assert num_pending(manifest, tmp_path) == len(rows)


def test_an_alarm_stops_only_after_all_that_is_paid_for_was_taken(
    tmp_path: Path, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sgv_data.collect.batch_take._LINES_AT_ONCE", 4)
    rows = make_index(tmp_path, 20)
    manifest = batch_manifest(tmp_path, server.base_url)
    with pytest.raises(AlarmRaised):
        one_round(manifest, tmp_path, Listener(alarm_at=5))
    assert captions(manifest, tmp_path, rows) == wanted(rows)


# --- what is sent ---


def test_no_path_and_no_key_is_in_anything_sent(
    tmp_path: Path, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-verysecret123")
    make_index(tmp_path, 4)
    one_round(batch_manifest(tmp_path, server.base_url), tmp_path)
    sent = b"".join(server.uploads) + json.dumps([batch.metadata for batch in server.batches.values()]).encode()
    names = " ".join(file.name for file in server.files.values()).encode()
    for secret in (b"verysecret", str(tmp_path).encode(), tmp_path.name.encode(), b"numbers/", b".png"):
        assert secret not in sent + names
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer sk-verysecret123"}


def test_a_file_is_full_at_exactly_the_byte(tmp_path: Path, server: BatchServer) -> None:
    make_index(tmp_path, 3)
    one_round(batch_manifest(tmp_path, server.base_url), tmp_path)
    total = len(server.uploads[0])
    for max_bytes, num_files in ((total, 1), (total - 1, 2)):
        folder = tmp_path / str(max_bytes)
        make_index(folder, 3)
        before = len(server.uploads)
        one_round(batch_manifest(folder, server.base_url, {"max_bytes": max_bytes}), folder)
        uploads = server.uploads[before:]
        assert len(uploads) == num_files
        assert all(len(upload) <= max_bytes for upload in uploads)


def test_a_picture_too_large_for_any_file_fails_alone(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 4)
    one_round(batch_manifest(tmp_path, server.base_url), tmp_path)
    longest = max(len(line) for line in server.uploads[0].splitlines(keepends=True))
    folder = tmp_path / "again"
    make_index(folder, 4)
    manifest = batch_manifest(folder, server.base_url, {"max_bytes": longest - 1})
    one_round(manifest, folder)
    failed = failures(manifest, folder, rows)
    assert failed
    assert set(failed.values()) == {FailureClass.BAD_IMAGE}
    assert len(failed) + len(captions(manifest, folder, rows)) == 4


def test_equal_bytes_under_two_names_are_sent_once(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 2)
    (tmp_path / "pictures" / rows[0].location).write_bytes((tmp_path / "pictures" / rows[1].location).read_bytes())
    from dataclasses import replace

    from sgv_data.tables import write_table

    write_table(tmp_path / "run" / "index", "images", ImageRow, [replace(rows[0], sha256=rows[1].sha256), rows[1]])
    one_round(batch_manifest(tmp_path, server.base_url), tmp_path)
    assert len(server.submitted) == 1


def test_a_picture_that_cannot_be_read_fails_alone(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 3)
    (tmp_path / "pictures" / rows[0].location).write_bytes(b"other")
    told = Listener()
    assert one_round(batch_manifest(tmp_path, server.base_url), tmp_path, told) == 3
    assert (Outcome.FAILED, FailureClass.IMAGE_CHANGED) in told.ends


def test_files_are_deleted_at_the_provider_when_their_batch_is_taken(tmp_path: Path, server: BatchServer) -> None:
    make_index(tmp_path, 3)
    one_round(batch_manifest(tmp_path, server.base_url), tmp_path)
    assert not [file for file in server.files.values() if file.name.startswith("sgv-")]


# --- the provider's queue, and money ---


def tokens_per_request(server: BatchServer, folder: Path) -> int:
    """What one of the test's requests counts for, as the ledger has it."""
    make_index(folder, 1)
    one_round(batch_manifest(folder, server.base_url), folder)
    server.most_enqueued = 0
    server.worked.clear()
    return ledger_of(folder)[0].prompt_tokens


def test_no_more_tokens_wait_than_allowed(tmp_path: Path, server: BatchServer) -> None:
    each = tokens_per_request(server, tmp_path / "one")
    rows = make_index(tmp_path, 20)
    manifest = batch_manifest(tmp_path, server.base_url, {"max_enqueued_tokens": 6 * each, "max_requests": 4})
    one_round(manifest, tmp_path)
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert server.most_enqueued == 6


def test_a_full_queue_at_the_provider_is_waited_for(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 20)
    server.max_enqueued_requests = 8
    server.fate = lambda _: Fate(looks=3)
    manifest = batch_manifest(tmp_path, server.base_url, {"max_requests": 3})
    all_rounds(manifest, tmp_path)
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert server.most_enqueued <= 8
    assert set(server.worked.values()) == {1}


def test_room_is_learned_from_what_was_taken_at_the_same_time(tmp_path: Path, server: BatchServer) -> None:
    """Seen together the next day: some batches are finished, the rest was turned down."""
    rows = make_index(tmp_path, 20)
    server.max_enqueued_requests = 9
    manifest = batch_manifest(tmp_path, server.base_url, {"max_requests": 3, "wait": False})
    for _ in range(12):
        try:
            one_round(manifest, tmp_path)
        except StillWaiting:
            server.most_enqueued = 0
            continue
        break
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert set(server.worked.values()) == {1}
    assert len(server.batches) <= 12


def test_a_queue_too_small_for_one_file_stops_with_the_remedy(tmp_path: Path, server: BatchServer) -> None:
    make_index(tmp_path, 5)
    server.max_enqueued_requests = 4
    with pytest.raises(ProviderError, match="max_enqueued_tokens"):
        one_round(batch_manifest(tmp_path, server.base_url), tmp_path)


def test_a_file_that_the_provider_does_not_take_stops_the_run_with_its_reasons(
    tmp_path: Path, server: BatchServer
) -> None:
    rows = make_index(tmp_path, 5)
    server.fate = lambda _: Fate("failed", problems=(("invalid_json_line", "Line 1 is no JSON"), ("x", "nor 2")))
    manifest = batch_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=1.0)
    with pytest.raises(ProviderError, match=r"Line 1 is no JSON; nor 2"):
        one_round(manifest, tmp_path)
    assert spent_usd(tmp_path) == 0
    server.fate = lambda _: Fate()
    all_rounds(manifest, tmp_path)
    assert captions(manifest, tmp_path, rows) == wanted(rows)


def test_a_batch_that_fails_by_the_providers_own_fault_is_sent_again_a_few_times(
    tmp_path: Path, server: BatchServer
) -> None:
    rows = make_index(tmp_path, 6)
    broke = Fate("failed", problems=(("internal_error", "could not be processed"),))
    server.fate = lambda number: broke if number in (0, 1) else Fate()
    manifest = batch_manifest(tmp_path, server.base_url, {"max_requests": 3})
    assert all_rounds(manifest, tmp_path) == 2
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert len(server.batches) == 4
    server.fate = lambda _: broke
    make_index(tmp_path, 7)
    with pytest.raises(ProviderError, match="could not be processed"):
        all_rounds(manifest, tmp_path)
    assert len(server.batches) == 4 + 3


def test_the_budget_is_never_exceeded_and_what_is_open_counts_at_its_worst(
    tmp_path: Path, server: BatchServer
) -> None:
    rows = make_index(tmp_path, 60)
    cap_usd = 20.5 * EACH_USD
    manifest = batch_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=cap_usd)
    with pytest.raises(BudgetReached):
        one_round(manifest, tmp_path)
    for batch in ledger_of(tmp_path):
        assert batch.worst_usd <= cap_usd
    spent = sum(server.worked.values()) * EACH_USD
    worst_usd = (6 + 21 + 16 + 1 + 50 * 2) / 1e6
    assert cap_usd - worst_usd - EACH_USD <= spent <= cap_usd
    assert spent_usd(tmp_path) == pytest.approx(spent)
    manifest = batch_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=1.0)
    all_rounds(manifest, tmp_path)
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert set(server.worked.values()) == {1}


def test_money_of_batches_under_way_is_set_aside_across_commands(tmp_path: Path, server: BatchServer) -> None:
    make_index(tmp_path, 10)
    server.fate = lambda _: Fate(looks=1000)
    manifest = batch_manifest(tmp_path, server.base_url, {"wait": False}, price=PRICE, budget_usd=1.0)
    with pytest.raises(StillWaiting):
        one_round(manifest, tmp_path)
    (batch,) = ledger_of(tmp_path)
    assert spent_usd(tmp_path) == pytest.approx(batch.worst_usd)
    assert batch.worst_usd > 10 * EACH_USD


# --- stopped and collected later ---


def test_a_run_is_stopped_after_submitting_and_collected_the_next_day(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 15)
    server.fate = lambda _: Fate(looks=3)
    manifest = batch_manifest(tmp_path, server.base_url, {"wait": False, "max_requests": 6})
    with pytest.raises(StillWaiting, match=r"3 batches with 15 pictures.*same command"):
        one_round(manifest, tmp_path)
    with pytest.raises(StillWaiting):
        one_round(manifest, tmp_path)
    assert each_was_sent_once(server)
    assert not sum(server.worked.values())
    server.fate = lambda _: Fate()
    for _ in range(3):
        try:
            one_round(manifest, tmp_path)
        except StillWaiting:
            continue
        break
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert each_was_sent_once(server)


def test_without_waiting_the_rest_is_sent_by_later_commands(tmp_path: Path, server: BatchServer) -> None:
    each = tokens_per_request(server, tmp_path / "one")
    rows = make_index(tmp_path, 10)
    manifest = batch_manifest(tmp_path, server.base_url, {"wait": False, "max_enqueued_tokens": 4 * each})
    for _ in range(12):
        try:
            one_round(manifest, tmp_path)
        except StillWaiting:
            continue
        break
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert set(server.worked.values()) == {1}


async def _nothing_live(manifest: Manifest, folder: Path) -> int:
    with open_cache(folder) as cache:
        return await take_batches(manifest, manifest.teacher.base_url, cache, SESSION, Listener(), Listener())


def test_the_live_lane_leaves_out_what_waits_in_a_batch(tmp_path: Path, server: BatchServer) -> None:
    import asyncio

    rows = make_index(tmp_path, 8)
    server.fate = lambda number: Fate(looks=2 if number == 0 else 1000)
    manifest = batch_manifest(tmp_path, server.base_url, {"wait": False, "max_requests": 5})
    with pytest.raises(StillWaiting):
        one_round(manifest, tmp_path)
    assert asyncio.run(_nothing_live(manifest, tmp_path)) == 0
    assert asyncio.run(_nothing_live(manifest, tmp_path)) == 5
    questions = Questions(manifest)
    with open_cache(tmp_path) as cache:
        pending = list(pending_rows(tmp_path / "run" / "index", manifest, questions, cache, SESSION))
        assert sum(map(len, pending)) == len(rows) - 5
        assert list(without_waiting(iter(pending), questions, cache, manifest.teacher, SESSION)) == []
        assert has_batches(cache)
        with pytest.raises(StillWaiting, match="--cancel"):
            check_none_waiting(cache)


# --- the stage as a whole ---


def collected(folder: Path) -> dict[str, tuple[str, Lane | None]]:
    return {row.image_id: (row.text, row.lane) for row in table(folder).values()}


def test_the_stage_ends_with_the_table_of_the_batch_lane(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 12, not_asked=2)
    server.fate = lambda number: Fate("expired", worked=2) if number == 0 else Fate(looks=2)
    report = collect(batch_manifest(tmp_path, server.base_url, {"max_requests": 6}, price=PRICE), tmp_path)
    assert (report.num_in, report.num_out, report.skipped, report.failed) == (12, 10, 2, {})
    assert report.notes["spent_usd"] == pytest.approx(10 * EACH_USD)
    assert collected(tmp_path) == {
        row.image_id: (caption_of(row.sha256), Lane.BATCH) for row in rows if row.for_teacher
    }


def test_leftovers_go_live_where_the_manifest_says_so(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 9)
    server.fate = lambda _: Fate("expired", worked=5)
    collect(batch_manifest(tmp_path, server.base_url, {"leftovers": "live"}, price=PRICE), tmp_path)
    found = collected(tmp_path)
    assert {image_id: text for image_id, (text, _) in found.items()} == wanted(rows)
    assert Counter(lane for _, lane in found.values()) == {Lane.BATCH: 5, Lane.LIVE: 4}
    assert (len(server.batches), set(server.worked.values())) == (1, {1})


def test_a_lane_changed_on_the_way_pays_for_nothing_twice(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 9)
    server.fate = lambda _: Fate(looks=2)
    each = {"max_requests": 4, "wait": False}
    with pytest.raises(StillWaiting):
        collect(batch_manifest(tmp_path, server.base_url, each, price=PRICE, budget_usd=1.0), tmp_path)
    live = make_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=1.0)
    with pytest.raises(StillWaiting, match="--cancel"):
        collect(live, tmp_path)
    assert not server.calls["chat"]
    collect(live, tmp_path)
    assert {image_id: text for image_id, (text, _) in collected(tmp_path).items()} == wanted(rows)
    assert set(server.worked.values()) == {1}


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    path = folder / "manifest.yaml"
    path.write_text(manifest.model_dump_json(exclude_unset=True))
    return path


def test_batches_are_shown_and_cancelled_and_their_rest_is_collected_live(
    tmp_path: Path, server: BatchServer
) -> None:
    rows = make_index(tmp_path, 9)
    server.fate = lambda _: Fate(looks=1000, worked=3)
    waiting = batch_manifest(tmp_path, server.base_url, {"wait": False}, price=PRICE)
    path = write_manifest(tmp_path, waiting.model_copy(update={"name": "run"}))
    command = ["batches", str(path), "--runs", str(tmp_path)]
    assert "no batches" in CliRunner().invoke(app, command).output
    with pytest.raises(StillWaiting):
        collect(waiting, tmp_path)
    shown = CliRunner().invoke(app, command).output
    assert "batch_1" in shown
    assert "validating" in shown
    cancelled = CliRunner().invoke(app, [*command, "--cancel"])
    assert (cancelled.exit_code, "batch_1: cancelling" in cancelled.output) == (0, True)
    collect(make_manifest(tmp_path, server.base_url, price=PRICE), tmp_path)
    found = collected(tmp_path)
    assert {image_id: text for image_id, (text, _) in found.items()} == wanted(rows)
    assert Counter(lane for _, lane in found.values()) == {Lane.BATCH: 3, Lane.LIVE: 6}
    assert set(server.worked.values()) == {1}
    assert "cancelled, taken" in CliRunner().invoke(app, command).output


def test_a_batch_that_the_provider_lost_is_written_off_on_request(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 4)
    server.fate = lambda _: Fate(looks=1000)
    waiting = batch_manifest(tmp_path, server.base_url, {"wait": False}, price=PRICE)
    path = write_manifest(tmp_path, waiting.model_copy(update={"name": "run"}))
    with pytest.raises(StillWaiting):
        collect(waiting, tmp_path)
    server.batches.clear()
    with pytest.raises(ProviderError, match=r"batch_1.*--forget"):
        collect(waiting, tmp_path)
    command = ["batches", str(path), "--runs", str(tmp_path), "--forget"]
    assert CliRunner().invoke(app, [*command, "batch_7"]).exit_code == 2
    assert "written off" in CliRunner().invoke(app, [*command, "batch_1"]).output
    server.fate = lambda _: Fate()
    report = collect(batch_manifest(tmp_path, server.base_url, price=PRICE), tmp_path)
    assert {image_id: text for image_id, (text, _) in collected(tmp_path).items()} == wanted(rows)
    spent = report.notes["spent_usd"]
    assert isinstance(spent, float)
    assert spent > 2 * 4 * EACH_USD


# --- faults of the calls ---

CALLS = ("upload", "create", "look", "download", "delete")
TROUBLES = {
    "an error": Trouble(Act(500, b"<html>down</html>")),
    "an error after it worked": Trouble(Act(502, b"<html>down</html>"), after=True),
    "asked to wait": Trouble(error(429, "rate_limit_exceeded", retry_after_ms="1")),
    "the connection breaks after it worked": Trouble(after=True, cut=10),
    "HTML with status 200": Trouble(Act(200, b"<html>hello</html>"), after=True),
    "silence after it worked": Trouble(Act(200, b"{}", sleep_s=0.5), after=True),
}


@pytest.mark.parametrize("name", TROUBLES)
@pytest.mark.parametrize("call", CALLS)
def test_a_passing_fault_of_any_call_changes_nothing(
    tmp_path: Path, server: BatchServer, call: str, name: str
) -> None:
    if call == "download" and name == "HTML with status 200":
        pytest.skip("no provider sends results as a page")
    rows = make_index(tmp_path, 6)
    server.trouble = lambda named, number: TROUBLES[name] if named == call and number <= 1 else None
    manifest = batch_manifest(tmp_path, server.base_url, {"max_requests": 3}, timeout_s=0.2)
    assert all_rounds(manifest, tmp_path) == 1
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert each_was_sent_once(server)
    assert all(len(batches) == 1 for batches in server.of_intent().values())


def test_a_server_without_batches_is_named(tmp_path: Path, server: BatchServer) -> None:
    make_index(tmp_path, 1)
    server.trouble = lambda call, _: Trouble(Act(404, b"not found"))
    with pytest.raises(ProviderError, match=r"no Batch API.*live"):
        one_round(batch_manifest(tmp_path, server.base_url), tmp_path)


def test_a_server_that_cannot_list_files_is_sent_the_file_again(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 3)
    troubles = {("upload", 1): Trouble(Act(502), after=True), ("list files", 1): Trouble(Act(405))}
    server.trouble = lambda call, number: troubles.get((call, number))
    manifest = batch_manifest(tmp_path, server.base_url)
    all_rounds(manifest, tmp_path)
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert (len(server.uploads), len(server.batches)) == (2, 1)


def test_a_server_that_is_not_there_stops_the_run_and_a_later_one_goes_on(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 4)
    with pytest.raises(ProviderError, match="127"):
        one_round(batch_manifest(tmp_path, "http://127.0.0.1:9/v1"), tmp_path)
    manifest = batch_manifest(tmp_path, server.base_url)
    all_rounds(manifest, tmp_path)
    assert captions(manifest, tmp_path, rows) == wanted(rows)


def test_results_that_the_provider_no_longer_has_are_asked_for_anew(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 4)
    server.trouble = lambda call, number: Trouble(Act(404)) if call == "download" and number == 1 else None
    manifest = batch_manifest(tmp_path, server.base_url)
    assert all_rounds(manifest, tmp_path) == 2
    assert captions(manifest, tmp_path, rows) == wanted(rows)


# --- crashes ---


def crash_at(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Lets the ledger fail as if the process had died just before this write."""

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, method, dies)


@pytest.mark.parametrize("step", ["uploaded", "submitted"])
def test_a_crash_before_an_id_is_written_down_orphans_and_doubles_nothing(
    tmp_path: Path, server: BatchServer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from sgv_data.collect.batch_send import Sender

    rows = make_index(tmp_path, 6)
    manifest = batch_manifest(tmp_path, server.base_url)
    with monkeypatch.context() as broken:

        async def dies(*_: object) -> None:
            raise KeyboardInterrupt

        broken.setattr(Sender, f"_{step}", dies)
        with pytest.raises(KeyboardInterrupt):
            one_round(manifest, tmp_path)
    assert (len(server.uploads), len(server.batches)) == (1, 1 if step == "submitted" else 0)
    told = Listener()
    all_rounds(manifest, tmp_path, told)
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert (len(server.uploads), len(server.batches)) == (1, 1)
    assert any("found again 1 batch with 6 pictures" in line for line in told.said)


def test_a_crash_before_the_upload_drops_the_intent_and_its_money(
    tmp_path: Path, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sgv_data.api.batches import BatchClient

    rows = make_index(tmp_path, 6)
    manifest = batch_manifest(tmp_path, server.base_url, price=PRICE, budget_usd=1.0)
    with monkeypatch.context() as broken:

        async def dies(*_: object) -> None:
            raise KeyboardInterrupt

        broken.setattr(BatchClient, "upload", dies)
        with pytest.raises(KeyboardInterrupt):
            one_round(manifest, tmp_path)
    assert spent_usd(tmp_path) > 0
    all_rounds(manifest, tmp_path)
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert spent_usd(tmp_path) == pytest.approx(6 * EACH_USD)
    assert [batch.state for batch in ledger_of(tmp_path)].count(BatchState.DROPPED) == 1
    assert each_was_sent_once(server)


def start(folder: Path, server: BatchServer, batch: dict[str, Any], **teacher: Any) -> subprocess.Popen[bytes]:
    arguments = {"folder": str(folder), "base_url": server.base_url, "batch": batch, "teacher": teacher}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.servers.batch_run", json.dumps(arguments)], start_new_session=True,
        stderr=subprocess.PIPE,
    )


def kill_again_and_again(
    folder: Path, server: BatchServer, num_kills: int, seed: int, num_pictures: int
) -> tuple[Manifest, list[ImageRow]]:
    """Kills the batch lane at random calls, then lets it come to its end."""
    rows = make_index(folder, num_pictures)
    rng, batch = random.Random(seed), {"max_requests": 5}
    server.fate = lambda number: Fate("expired", looks=2, worked=3) if number % 4 == 1 else Fate(looks=1, twice=1)
    more = {"price": PRICE, "budget_usd": 1.0}
    for _ in range(num_kills):
        child = start(folder, server, batch, **more)
        goal = server.calls.total() + rng.randrange(1, 14)
        while server.calls.total() < goal and child.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        child.send_signal(signal.SIGKILL)
        child.wait()
    manifest = batch_manifest(folder, server.base_url, batch, **more)
    all_rounds(manifest, folder)
    return manifest, rows


def test_killed_at_random_it_ends_like_an_undisturbed_run(tmp_path: Path, server: BatchServer) -> None:
    server.latency_s = 0.01
    manifest, rows = kill_again_and_again(tmp_path, server, 3, seed=3, num_pictures=40)
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert set(server.worked.values()) == {1}
    assert not server.waiting_twice
    assert all(len(batches) == 1 for batches in server.of_intent().values())
    assert spent_usd(tmp_path) == pytest.approx(40 * EACH_USD)
    assert not list((tmp_path / "run").rglob("tmp*"))


def test_ctrl_c_while_waiting_keeps_all_and_says_how_to_go_on(tmp_path: Path, server: BatchServer) -> None:
    rows = make_index(tmp_path, 8)
    server.fate = lambda number: Fate(looks=1) if number == 0 else Fate(looks=10**6)
    child = start(tmp_path, server, {"max_requests": 4})
    while server.calls["look"] < 12:
        assert child.poll() is None
        time.sleep(0.005)
    began_s = time.monotonic()
    child.send_signal(signal.SIGINT)
    child.wait(10)
    assert time.monotonic() - began_s < 2
    for batch in server.batches.values():
        batch.fate = Fate()
    manifest = batch_manifest(tmp_path, server.base_url, {"max_requests": 4})
    all_rounds(manifest, tmp_path)
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert each_was_sent_once(server)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_dozens_of_times_it_ends_like_an_undisturbed_run(
    tmp_path: Path, server: BatchServer, seed: int
) -> None:
    server.latency_s = 0.01
    manifest, rows = kill_again_and_again(tmp_path, server, 8, seed=seed, num_pictures=100)
    assert captions(manifest, tmp_path, rows) == wanted(rows)
    assert set(server.worked.values()) == {1}
    assert not server.waiting_twice
    assert all(len(batches) == 1 for batches in server.of_intent().values())
    assert spent_usd(tmp_path) == pytest.approx(100 * EACH_USD)
