"""Dealing samples into tars."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sgv_data.dataset_format import split_of
from sgv_data.errors import RunFolderError
from sgv_data.manifest import Shard
from sgv_data.progress import Silent
from sgv_data.provenance import Lineage
from sgv_data.records import CaptionReject, FailureClass, ImageRow, image_order
from sgv_data.shard import plan
from sgv_data.shard.choose import CaptionTables, Chosen, choices
from sgv_data.shard.plan import PlannedSample, make_plan, read_plan
from sgv_data.shard.run import _caption_tables
from sgv_data.stage import StageContext
from sgv_data.tables import read_table, write_table
from tests.small_run import SmallRun, small_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    return small_run(tmp_path_factory.mktemp("plan"), num_images=60)


def tables(made: SmallRun) -> list[CaptionTables]:
    active = ("index", "collect", "filter-teacher", "train", "expand", "filter-student", "shard")
    return _caption_tables(made.manifest, StageContext(made.run, "shard", active, Silent()))


@pytest.fixture
def chosen(made: SmallRun) -> list[Chosen]:
    return [each for each in choices(made.stage("index"), tables(made)) if isinstance(each, Chosen)]


def planned(folder: Path) -> Iterator[list[PlannedSample]]:
    whole = read_plan(folder)
    assert whole is not None
    for shard in whole.shards:
        yield list(read_table(folder, shard.name, PlannedSample))


def test_tars_are_closed_by_samples(chosen: list[Chosen], tmp_path: Path) -> None:
    made = make_plan(tmp_path, chosen, Shard(max_samples=7), 0, Lineage(), Silent())
    sizes = [shard.num_samples for shard in made.shards]
    assert sizes[:-1] == [7] * (len(sizes) - 1)
    assert sum(sizes) == len(chosen)
    assert [shard.name for shard in made.shards[:2]] == ["train-00000.tar", "train-00001.tar"]


def test_a_sample_larger_than_max_bytes_gets_a_tar_of_its_own(chosen: list[Chosen], tmp_path: Path) -> None:
    made = make_plan(tmp_path, chosen, Shard(max_bytes=1), 0, Lineage(), Silent())
    assert [shard.num_samples for shard in made.shards] == [1] * len(chosen)


def test_the_plan_holds_every_sample_once_in_hash_order(chosen: list[Chosen], tmp_path: Path) -> None:
    make_plan(tmp_path, chosen, Shard(max_samples=5, validation=0.3), 0, Lineage(), Silent())
    ids = [sample.image_id for samples in planned(tmp_path) for sample in samples]
    assert sorted(ids, key=image_order) == [each.image.image_id for each in chosen]
    assert all(samples == sorted(samples, key=lambda sample: sample.key) for samples in planned(tmp_path))


def test_what_gets_no_sample_is_counted(tmp_path: Path) -> None:
    given = [CaptionReject.REFUSAL, CaptionReject.REFUSAL, FailureClass.BLOCKED, None]
    made = make_plan(tmp_path, given, Shard(), 0, Lineage(), Silent())
    assert (made.num_images, made.rejected, made.failed, made.skipped) == (4, {"refusal": 2}, {"blocked": 1}, 1)
    assert made.shards == []


def test_no_plan_is_whole_before_its_end(chosen: list[Chosen], tmp_path: Path) -> None:
    def broken() -> Iterator[Chosen]:
        yield from chosen[:3]
        raise OSError

    with pytest.raises(OSError):
        make_plan(tmp_path, broken(), Shard(max_samples=2), 0, Lineage(), Silent())
    assert read_plan(tmp_path) is None


def test_two_pictures_with_one_key_are_an_error(
    chosen: list[Chosen], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "image_order", lambda image_id: "0" * 20)
    with pytest.raises(RunFolderError, match="have the same key 00000000000000000000"):
        make_plan(tmp_path, chosen, Shard(), 0, Lineage(), Silent())


def test_a_picture_without_the_caption_that_was_asked_for_is_an_error(tmp_path: Path) -> None:
    made = small_run(tmp_path, num_images=10)
    rows = list(read_table(made.stage("index"), "images", ImageRow))
    changed = [replace(row, for_teacher=True) for row in rows]
    write_table(made.stage("index"), "images", ImageRow, changed)
    with pytest.raises(RunFolderError, match="has no row for pics/"):
        list(choices(made.stage("index"), tables(made)))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_a_split_is_a_share_of_ids_and_depends_on_the_seed(share: float) -> None:
    ids = [f"source/{number}" for number in range(4_000)]
    validation = {each for each in ids if split_of(each, 1, share) == "validation"}
    assert abs(len(validation) / len(ids) - share) < 0.03
    if share:
        assert validation != {each for each in ids if split_of(each, 2, share) == "validation"}
