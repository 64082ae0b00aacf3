"""What is pending follows from the replies alone; what is remembered beside them only makes finding it faster."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgv_data.api.cache import ReplyCache, StoredFailure, StoredReply
from sgv_data.api.keys import SentImage
from sgv_data.api.prices import TokenPrice
from sgv_data.api.reply import parse_reply
from sgv_data.collect import scan
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.collect.scan import KEYS, pending_rows, tally
from sgv_data.manifest import Manifest
from sgv_data.records import FailureClass, ImageRow, image_order
from tests.servers.collect_run import make_index, make_manifest
from tests.servers.fault_server import answer


class Run:
    """An index of ten pictures, and a cache in which the first six have been prepared and the first four answered."""

    def __init__(self, folder: Path) -> None:
        self.manifest: Manifest = make_manifest(folder, "http://127.0.0.1:9/v1")
        self.rows: list[ImageRow] = make_index(folder, 12, not_asked=2)
        self.asked = [row for row in self.rows if row.for_teacher]
        self.index, self.stage = folder / "run" / "index", folder / "run" / "collect"
        self.stage.mkdir(parents=True)
        self.questions = Questions(self.manifest)
        self.path = self.stage / "replies.sqlite"
        with ReplyCache(self.path) as cache:
            for row in self.asked[:6]:
                cache.put_sent(row.sha256, recipe_name(self.manifest.teacher), self.sent(row)).result(5)
            for row in self.asked[:4]:
                self.answer(cache, row)

    def sent(self, row: ImageRow) -> SentImage:
        return SentImage(row.sha256, "image/png", 32, 24, row.num_bytes)

    def answer(self, cache: ReplyCache, row: ImageRow) -> None:
        key, body = self.questions.key(row, self.sent(row)), answer("x")
        cache.put(StoredReply(key, body, "fake", None, 1, 0.1, "2026", 0.1), parse_reply(body)).result(5)

    def pending(self, session: str = "now") -> list[str]:
        with ReplyCache(self.path) as cache:
            found = pending_rows(self.index, self.manifest, self.questions, cache, session)
            rows = [row.image_id for part in found for row in part]
            assert found.num_done == len(self.asked) - len(rows)
        assert len(rows) == len(set(rows))
        return sorted(rows)

    def ids(self, start: int) -> list[str]:
        return sorted(row.image_id for row in self.asked[start:])


@pytest.fixture(params=[20_000, 0], ids=["few unknown", "many unknown"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(scan, "_FEW", request.param)
    return Run(tmp_path)


def test_what_has_no_answer_is_pending_also_when_keys_are_remembered(run: Run) -> None:
    assert run.pending() == run.ids(4)
    assert run.pending() == run.ids(4)


@pytest.mark.parametrize("harm", [lambda data: b"", lambda data: data[:70], lambda data: data[:64] + b"\xff" * 96])
def test_a_key_file_that_is_torn_or_wrong_loses_no_picture(run: Run, harm: object) -> None:
    run.pending()
    keys = run.stage / KEYS
    keys.write_bytes(harm(keys.read_bytes()))  # type: ignore[operator]
    assert set(run.pending()) >= set(run.ids(4))


def test_remembered_keys_never_stand_for_replies(run: Run) -> None:
    run.pending()
    with ReplyCache(run.path) as cache:
        cache.submit([("DELETE FROM replies", ())]).result(5)
    assert run.pending() == run.ids(0)


def test_other_questions_have_other_keys(run: Run) -> None:
    run.pending()
    teacher = run.manifest.teacher.model_copy(update={"model": "another"})
    run.manifest = run.manifest.model_copy(update={"teacher": teacher})
    run.questions = Questions(run.manifest)
    assert run.pending() == run.ids(0)


def test_failures_of_this_session_are_not_pending(run: Run) -> None:
    with ReplyCache(run.path) as cache:
        subjects = [run.questions.key(run.asked[4], run.sent(run.asked[4])), image_order(run.asked[9].image_id)]
        for subject in subjects:
            cache.put_failure("now", StoredFailure(subject, FailureClass.BLOCKED, "", 1, "2026")).result(5)
    expected = sorted(row.image_id for row in run.asked[5:9])
    assert run.pending() == expected
    assert run.pending() == expected
    assert run.pending("later") == run.ids(4)


def test_answers_that_an_older_parser_judged_are_judged_anew(run: Run) -> None:
    run.pending()
    with ReplyCache(run.path) as cache:
        cache.submit([("UPDATE replies SET parser = parser - 1, finished = 0", ())]).result(5)
    assert run.pending() == run.ids(4)
    (run.stage / KEYS).unlink()
    with ReplyCache(run.path) as cache:
        cache.submit([("UPDATE replies SET parser = parser - 1, finished = 0", ())]).result(5)
    assert run.pending() == run.ids(4)


def test_the_tally_multiplies_what_each_size_costs(run: Run) -> None:
    price = TokenPrice(1.0, 2.0)
    count = tally(run.index, run.questions, price)
    assert (count.num_usable, count.num_asked) == (12, 10)
    assert count.worst_usd == pytest.approx(10 * run.questions.worst_usd("numbers", 32, 24, price))
