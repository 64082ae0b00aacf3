"""However many processes make the table, its files are the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sgv_data.api.cache import ReplyCache, StoredFailure, StoredReply
from sgv_data.api.keys import SentImage
from sgv_data.api.reply import parse_reply
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.collect.table import CaptionTable
from sgv_data.collect.table_parts import Making, write_captions
from sgv_data.errors import BalanceError
from sgv_data.records import CaptionRow, FailureClass, ImageRow, Outcome
from sgv_data.tables import read_table, table_files, write_table
from tests.servers.collect_run import make_index, make_manifest
from tests.servers.fault_server import answer

NUM_ROWS = 9_000


class Large:
    """More pictures than two row groups hold, by making copies of a few rows; some are not for the teacher."""

    def __init__(self, folder: Path) -> None:
        self.manifest, self.folder = make_manifest(folder, "http://127.0.0.1:9/v1"), folder / "run" / "collect"
        self.index = folder / "run" / "index"
        few = make_index(folder, 5)
        self.rows = [_copy(few[number % 5], number) for number in range(NUM_ROWS)]
        write_table(self.index, "images", ImageRow, self.rows)
        self.cache = ReplyCache(self.folder / "replies.sqlite", run="payer")

    def fill(self, most: int) -> None:
        """Answers, but for every hundredth picture, which failed."""
        questions, recipe, last = Questions(self.manifest), recipe_name(self.manifest.teacher), None
        for number, row in enumerate(row for row in self.rows[:most] if row.for_teacher):
            image = SentImage(row.sha256, "image/png", 32, 24, row.num_bytes)
            self.cache.put_sent(row.sha256, recipe, image)
            key, body = questions.key(row, image), answer(f"caption {number}")
            if number % 100 == 7:
                last = self.cache.put_failure("now", StoredFailure(key, FailureClass.BLOCKED, "", 1, "2026"))
            else:
                last = self.cache.put(StoredReply(key, body, "m", None, 1, 0.1, "2026", 0.1), parse_reply(body))
        assert last is not None
        last.result(30)

    def write(self, num_processes: int) -> tuple[CaptionTable, list[bytes]]:
        table = CaptionTable(self.manifest, Questions(self.manifest), self.cache, "now")
        making = Making.of(self.manifest, self.cache, "now", self.folder)
        num_rows = write_captions(table, making, self.index, num_processes)
        assert num_rows == sum(table.outcomes.values())
        return table, [path.read_bytes() for path in table_files(self.folder, "captions")]


def _copy(row: ImageRow, number: int) -> ImageRow:
    values = {name: getattr(row, name) for name in ImageRow.__slots__}
    values |= {
        "image_id": f"numbers/{number}", "key": f"{number}", "for_teacher": number % 7 != 3,
        "sha256": hashlib.sha256(f"{number}".encode()).hexdigest(),
    }  # fmt: skip
    return ImageRow(**values)


@pytest.fixture
def large(tmp_path: Path) -> Large:
    return Large(tmp_path)


def test_two_processes_make_the_files_that_one_makes(large: Large) -> None:
    large.fill(NUM_ROWS)
    with large.cache:
        alone, expected = large.write(1)
        together, found = large.write(2)
    assert found == expected
    assert (together.outcomes, together.failures) == (alone.outcomes, alone.failures)
    assert together.outcomes[Outcome.FAILED] == len([0 for row in _captions(large) if row.outcome == "failed"]) > 50


def test_a_picture_without_an_end_is_told_by_a_process_too(large: Large) -> None:
    large.fill(NUM_ROWS - 100)
    with large.cache, pytest.raises(BalanceError, match="neither an answer nor a failure"):
        large.write(2)
    assert not table_files(large.folder, "captions")


def _captions(large: Large) -> list[CaptionRow]:
    return list(read_table(large.folder, "captions", CaptionRow))
