"""The kept captions, in order, by position, and split by hash."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from sgv_data.errors import TrainingError
from sgv_data.records import ImageRow, image_order
from sgv_data.tables import read_table
from sgv_data.train.kept import KeptFile, kept_captions, split_held_out, write_kept
from tests.captioner_run import captioner_run


@pytest.fixture
def kept(tmp_path: Path) -> KeptFile:
    _, run = captioner_run(tmp_path)
    rows = kept_captions(run.stage("index"), run.stage("collect"), run.stage("filter-teacher"))
    return write_kept(tmp_path / "kept.arrow", rows)


def test_only_kept_captions_are_there_with_their_pictures_in_hash_order(tmp_path: Path, kept: KeptFile) -> None:
    index = read_table(tmp_path / "run" / "index", "images", ImageRow)
    wanted = [row for row in index if row.for_teacher and int(row.key[:4]) % 6]

    assert [kept[place].row for place in range(len(kept))] == wanted
    assert list(kept.names()) == sorted(kept.names(), key=image_order)
    assert all("rectangle" in caption for caption in kept.captions())


def test_lengths_are_those_of_the_captions(kept: KeptFile) -> None:
    assert kept.num_chars().tolist() == [len(caption) for caption in kept.captions()]


def test_a_copy_for_another_process_reads_the_same(kept: KeptFile) -> None:
    assert len(kept) == 20

    copy = pickle.loads(pickle.dumps(kept))

    assert copy[5] == kept[5]


def test_the_split_takes_every_caption_once(kept: KeptFile) -> None:
    split = split_held_out(kept, 0.25, seed=3)

    assert len(split.held_out) == 5
    assert sorted([*split.trained, *split.held_out]) == list(range(len(kept)))


def test_the_split_depends_on_seed_and_ids_and_not_on_what_else_is_there(tmp_path: Path, kept: KeptFile) -> None:
    fewer = write_kept(tmp_path / "fewer.arrow", (kept[place] for place in range(0, len(kept), 2)))
    held_out = {kept[int(place)].row.image_id for place in split_held_out(kept, 0.5, seed=3).held_out}
    first_of_fewer = split_held_out(fewer, 0.1, seed=3).held_out

    assert fewer[int(first_of_fewer[0])].row.image_id in held_out
    assert not np.array_equal(split_held_out(kept, 0.25, 3).held_out, split_held_out(kept, 0.25, 4).held_out)


def test_at_least_one_caption_is_held_out_and_one_trained_on(tmp_path: Path, kept: KeptFile) -> None:
    two = write_kept(tmp_path / "two.arrow", (kept[place] for place in range(2)))

    for share in (0.001, 0.999):
        split = split_held_out(two, share, seed=0)
        assert (len(split.trained), len(split.held_out)) == (1, 1)


@pytest.mark.parametrize(("num_kept", "words"), [(0, "0 kept teacher captions"), (1, "1 kept teacher caption:")])
def test_too_few_captions_are_refused_with_their_number(
    tmp_path: Path, kept: KeptFile, num_kept: int, words: str
) -> None:
    few = write_kept(tmp_path / "few.arrow", (kept[place] for place in range(num_kept)))

    with pytest.raises(TrainingError, match=words):
        split_held_out(few, 0.05, seed=0)
