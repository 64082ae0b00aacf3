"""Retry rounds: what they ask, what survives a crash, and what the table makes of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgv_data.api.cache import ReplyCache, StoredFailure, StoredReply
from sgv_data.api.keys import SentImage
from sgv_data.api.reply import parse_reply
from sgv_data.collect.again import Round, all_rounds, begin, parse_outcomes
from sgv_data.collect.pending_again import pending_again
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.collect.table import CaptionTable
from sgv_data.errors import ManifestError, RunFolderError
from sgv_data.manifest import Manifest
from sgv_data.progress import Silent
from sgv_data.records import CaptionRow, FailureClass, ImageRow, Outcome, image_order
from sgv_data.run_folder import AGAIN, RunFolder
from sgv_data.stage import StageContext
from sgv_data.tables import write_table
from tests.servers.collect_run import make_index, make_manifest
from tests.servers.fault_server import answer

SESSION = "s"
REFUSED = answer("I'm sorry, but I can't help with that.")
CUT = answer("It shows", "length")
EMPTY = answer("")
GOOD = answer("A green field lies below a grey sky.")


class Folder:
    """A collect stage whose answers are put into the cache by hand."""

    def __init__(self, root: Path, cache: ReplyCache, num_pictures: int, **teacher: Any) -> None:
        self.root, self.cache = root, cache
        self.rows = make_index(root, num_pictures)
        self.set(**teacher)

    def set(self, **teacher: Any) -> None:
        self.manifest: Manifest = make_manifest(self.root, "http://127.0.0.1:9/v1", **teacher)
        self.questions = Questions(self.manifest)

    @property
    def index(self) -> Path:
        return self.root / "run" / "index"

    def begin(self, *again: str) -> tuple[Round, ...]:
        context = StageContext(RunFolder(self.root / "run"), "collect", ("index", "collect"), Silent(), again)
        context.folder.mkdir(parents=True, exist_ok=True)
        return begin(context, self.manifest, self.cache, SESSION)

    def end(self) -> None:
        """What the pipeline does after the record."""
        (self.root / "run" / "collect" / AGAIN).unlink(missing_ok=True)

    def answer(self, row: ImageRow, body: bytes, this: Round | None = None) -> str:
        """Stores an answer as if the first asking, or a round, had got it; returns its key."""
        manifest = this.manifest(self.manifest) if this else self.manifest
        questions = this.questions(self.manifest) if this else self.questions
        image = SentImage(row.sha256, "image/png", row.width_px, row.height_px, row.num_bytes)
        self.cache.put_sent(row.sha256, recipe_name(manifest.teacher), image).result()
        request = questions.request(row, image, b"")
        reply = StoredReply(request.key, body, request.model, None, 1, 0.1, "2026-11-23T00:00:00Z", 0.001)
        self.cache.put(reply, parse_reply(body)).result()
        return request.key

    def fail(self, row: ImageRow, as_sent: bool = True) -> None:
        """Stores that the first request about a picture failed, or that the picture could not be sent."""
        image = SentImage(row.sha256, "image/png", row.width_px, row.height_px, row.num_bytes)
        subject = self.questions.key(row, image) if as_sent else image_order(row.image_id)
        if as_sent:
            self.cache.put_sent(row.sha256, recipe_name(self.manifest.teacher), image).result()
        failure = StoredFailure(subject, FailureClass.SERVER_ERROR, "down", 6, "2026-11-23T00:00:00Z")
        self.cache.put_failure(SESSION, failure).result()

    def pending(self, this: Round) -> list[ImageRow]:
        rounds = all_rounds(self.root / "run" / "collect")
        parts = pending_again(self.index, self.manifest, self.questions, this, rounds, self.cache, SESSION)
        return [row for part in parts for row in part]

    def table(self) -> dict[str, CaptionRow]:
        rounds = all_rounds(self.root / "run" / "collect")
        made = CaptionTable(self.manifest, self.questions, self.cache, SESSION, rounds)
        return {row.image_id: row for row in made.rows(self.index)}


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ReplyCache]:
    with ReplyCache(tmp_path / "replies.sqlite") as opened:
        yield opened


def make_folder(tmp_path: Path, cache: ReplyCache, *bodies: bytes, **teacher: Any) -> Folder:
    """One picture per body, answered with it."""
    folder = Folder(tmp_path, cache, len(bodies), **teacher)
    for row, body in zip(folder.rows, bodies, strict=True):
        folder.answer(row, body)
    return folder


def write_prompt(tmp_path: Path, name: str, text: str = "Be neutral.") -> None:
    (tmp_path / "prompts").mkdir(exist_ok=True)
    (tmp_path / "prompts" / f"{name}.md").write_text(f"---\nid: {name}\nversion: 3\nfor: tests\n---\n{text}\n")


def test_outcomes_are_named_in_either_way() -> None:
    assert parse_outcomes("refusal, length") == parse_outcomes("truncated,refused") == ("refused", "truncated")
    assert parse_outcomes("failed") == ("failed",)


@pytest.mark.parametrize("text", ["", "ok", "refused,all", "none,refused"])
def test_other_words_are_told(text: str) -> None:
    with pytest.raises(ManifestError, match="--retry"):
        parse_outcomes(text)


def test_only_rows_that_ended_so_are_asked_again(tmp_path: Path, cache: ReplyCache) -> None:
    folder = make_folder(tmp_path, cache, GOOD, REFUSED, CUT, EMPTY)
    rounds = folder.begin("refused", "truncated")
    assert [each.outcome for each in rounds] == [Outcome.REFUSED, Outcome.TRUNCATED]
    assert [folder.pending(each) for each in rounds] == [[folder.rows[1]], [folder.rows[2]]]


def test_a_repeated_request_has_an_answer_of_its_own(tmp_path: Path, cache: ReplyCache) -> None:
    folder = make_folder(tmp_path, cache, REFUSED)
    (this,) = folder.begin("refused")
    assert this.is_repetition
    (row,) = folder.rows
    first = folder.table()[row.image_id].request_key
    second = folder.answer(row, GOOD, this)
    assert first != second
    assert folder.pending(this) == []
    made = folder.table()[row.image_id]
    assert (made.outcome, made.asked_again_for, made.request_key) == (Outcome.OK, Outcome.REFUSED, second)
    assert cache.get(first) is not None


def test_the_table_says_what_was_really_asked(tmp_path: Path, cache: ReplyCache) -> None:
    write_prompt(tmp_path, "neutral")
    rung = {"prompt": "neutral", "model": "other", "max_completion_tokens": 70, "temperature": 0.5}
    folder = make_folder(tmp_path, cache, REFUSED, retry={"refused": rung})
    (this,) = folder.begin("refused")
    folder.answer(folder.rows[0], GOOD, this)
    (made,) = folder.table().values()
    assert (made.prompt_id, made.prompt_version, made.model) == ("neutral", 3, "other")
    assert made.sampling == '{"max_completion_tokens":70,"seed":null,"temperature":0.5}'


def test_an_answer_that_is_no_caption_either_leaves_the_first(tmp_path: Path, cache: ReplyCache) -> None:
    folder = make_folder(tmp_path, cache, REFUSED)
    (this,) = folder.begin("refused")
    before = folder.table()
    folder.answer(folder.rows[0], CUT, this)
    assert folder.table() == before


def test_a_second_round_asks_those_that_are_left(tmp_path: Path, cache: ReplyCache) -> None:
    folder = make_folder(tmp_path, cache, REFUSED, REFUSED)
    (first,) = folder.begin("refused")
    folder.answer(folder.rows[0], GOOD, first)
    folder.answer(folder.rows[1], REFUSED, first)
    folder.end()
    (second,) = folder.begin("refused")
    assert folder.pending(second) == [folder.rows[1]]
    folder.answer(folder.rows[1], GOOD, second)
    assert {row.outcome for row in folder.table().values()} == {Outcome.OK}


def test_a_round_under_way_goes_on_and_asks_nothing_twice(tmp_path: Path, cache: ReplyCache) -> None:
    folder = make_folder(tmp_path, cache, REFUSED, REFUSED, REFUSED)
    (this,) = folder.begin("refused")
    folder.answer(folder.rows[0], REFUSED, this)
    folder.fail(folder.rows[2])
    assert folder.begin("refused") == folder.begin() == (this,)
    assert folder.pending(this) == folder.rows[1:]
    assert len(all_rounds(tmp_path / "run" / "collect")) == 1


def test_a_failure_of_the_round_ends_the_row_for_it(tmp_path: Path, cache: ReplyCache) -> None:
    folder = make_folder(tmp_path, cache, REFUSED)
    (this,) = folder.begin("refused")
    image = SentImage(folder.rows[0].sha256, "image/png", 32, 24, 1)
    key = this.questions(folder.manifest).key(folder.rows[0], image)
    cache.put_failure(SESSION, StoredFailure(key, FailureClass.TIMED_OUT, "late", 6, "2026-11-23T00:00:00Z")).result()
    assert folder.pending(this) == []
    (made,) = folder.table().values()
    assert made.outcome is Outcome.REFUSED


def test_a_crash_before_the_round_is_ready_changes_nothing(tmp_path: Path, cache: ReplyCache) -> None:
    folder = make_folder(tmp_path, cache, REFUSED)
    rounds = folder.begin("refused")
    marker = tmp_path / "run" / "collect" / AGAIN
    marker.write_text(marker.read_text().replace("true", "false"))
    assert folder.begin("refused") == rounds
    assert all_rounds(tmp_path / "run" / "collect") == rounds


def test_another_outcome_may_join_a_round_under_way(tmp_path: Path, cache: ReplyCache) -> None:
    folder = make_folder(tmp_path, cache, REFUSED, CUT)
    folder.begin("refused")
    both = folder.begin("truncated")
    assert [each.outcome for each in both] == [Outcome.REFUSED, Outcome.TRUNCATED]
    assert folder.begin() == both


def test_a_changed_manifest_does_not_lose_what_earlier_rounds_brought(tmp_path: Path, cache: ReplyCache) -> None:
    write_prompt(tmp_path, "neutral")
    folder = make_folder(tmp_path, cache, REFUSED, retry={"refused": {"prompt": "neutral"}})
    (this,) = folder.begin("refused")
    folder.answer(folder.rows[0], GOOD, this)
    before = folder.table()
    (tmp_path / "prompts" / "neutral.md").unlink()
    folder.set(retry={"refused": {"max_completion_tokens": 9}})
    assert folder.table() == before


def test_a_failed_request_is_open_again_and_the_row_says_so(tmp_path: Path, cache: ReplyCache) -> None:
    folder = Folder(tmp_path, cache, 3)
    folder.fail(folder.rows[0])
    folder.fail(folder.rows[1], as_sent=False)
    folder.answer(folder.rows[2], EMPTY)
    (this,) = folder.begin("failed")
    assert cache.failures(SESSION, [image_order(folder.rows[1].image_id)]) == {}
    assert folder.pending(this) == [folder.rows[2]]
    folder.answer(folder.rows[0], GOOD)
    folder.answer(folder.rows[1], GOOD)
    folder.answer(folder.rows[2], GOOD, this)
    made = folder.table()
    assert [made[row.image_id].asked_again_for for row in folder.rows] == [Outcome.FAILED, None, Outcome.FAILED]
    assert {row.outcome for row in made.values()} == {Outcome.OK}


def test_where_failures_are_asked_otherwise_the_failed_request_is_left(tmp_path: Path, cache: ReplyCache) -> None:
    folder = Folder(tmp_path, cache, 1, retry={"failed": {"max_completion_tokens": 99}})
    folder.fail(folder.rows[0])
    (this,) = folder.begin("failed")
    assert folder.pending(this) == folder.rows
    folder.answer(folder.rows[0], GOOD, this)
    (made,) = folder.table().values()
    assert (made.outcome, made.asked_again_for) == (Outcome.OK, Outcome.FAILED)


def test_a_round_can_be_given_up(tmp_path: Path, cache: ReplyCache) -> None:
    folder = Folder(tmp_path, cache, 1)
    folder.fail(folder.rows[0])
    before = folder.table()
    folder.begin("failed")
    assert folder.begin("none") == ()
    assert folder.begin() == ()
    assert folder.table() == before


def test_an_unknown_prompt_of_a_rung_is_told_before_anything_is_written(tmp_path: Path, cache: ReplyCache) -> None:
    folder = make_folder(tmp_path, cache, REFUSED, retry={"refused": {"prompt": "nothing"}})
    with pytest.raises(ManifestError, match="nothing"):
        folder.begin("refused")
    assert not (tmp_path / "run" / "collect" / AGAIN).exists()


def test_a_damaged_list_of_rounds_is_told(tmp_path: Path) -> None:
    (tmp_path / "retries.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"retries\.json"):
        all_rounds(tmp_path)


def test_the_price_of_the_manifest_is_not_taken_for_another_known_model(tmp_path: Path, cache: ReplyCache) -> None:
    price = {"input_usd": 1, "output_usd": 2}
    ladder = {"refused": {"model": "gpt-4o"}, "truncated": {"model": "x"}}
    folder = Folder(tmp_path, cache, 0, price=price, retry=ladder)
    known, unknown = folder.begin("refused", "truncated")
    assert known.manifest(folder.manifest).teacher.price is None
    assert unknown.manifest(folder.manifest).teacher.price == folder.manifest.teacher.price


def test_the_table_says_which_words_were_offered(tmp_path: Path, cache: ReplyCache) -> None:
    folder = Folder(tmp_path, cache, 2)
    texts = ["Eiffel\nTower", None]
    folder.rows = [replace(row, text=text) for row, text in zip(folder.rows, texts, strict=True)]
    write_table(folder.index, "images", ImageRow, folder.rows)
    (source,) = folder.manifest.images
    offering = source.model_copy(update={"offer_text": True})
    folder.manifest = folder.manifest.model_copy(update={"images": (offering,)})
    folder.questions = Questions(folder.manifest)
    for row in folder.rows:
        folder.answer(row, GOOD)
    made = folder.table()
    assert [made[row.image_id].offered_text for row in folder.rows] == ["Eiffel Tower", None]
