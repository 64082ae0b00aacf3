"""Shards read back by other people's readers, written twice, and written by processes that are killed."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sgv_data.dataset_format import SampleFailure
from sgv_data.errors import InputError, ManifestError
from sgv_data.progress import Silent
from sgv_data.provenance import SCHEMA_VERSION
from sgv_data.records import CaptionRow, CaptionSet, FailureClass, ImageRow, SampleRow, ShardRow, image_order
from sgv_data.shard.scan import TarScan
from sgv_data.shard.verify import verify_dataset
from sgv_data.tables import read_table
from tests.small_run import SAMPLING, SmallRun, hashes, small_run

SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Sample:
    """What a reader must give for one key."""

    picture: bytes
    text: str
    record: Any


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    made = small_run(tmp_path_factory.mktemp("published"), num_images=120)
    made.make("shard", "publish")
    return made


@pytest.fixture(scope="module")
def expected(published: SmallRun) -> dict[str, Sample]:
    """From the inputs: the picture's file, the caption's row, and the record as parsed from the tar."""
    return dict(_expected(published))


def _expected(made: SmallRun) -> Iterator[tuple[str, Sample]]:
    images = {row.image_id: row for row in read_table(made.stage("index"), "images", ImageRow)}
    captions = {
        (row.image_id, row.producer): row
        for stage in ("collect", "expand")
        for row in read_table(made.stage(stage), "captions", CaptionRow)
    }
    for row in _rows(made):
        picture = (made.pictures / images[row.image_id].location).read_bytes()
        tar = (made.stage("shard") / "data" / row.shard).read_bytes()
        record = json.loads(tar[row.json_offset_bytes : row.json_offset_bytes + row.json_num_bytes])
        yield row.key, Sample(picture, captions[row.image_id, row.producer].text, record)


def _rows(made: SmallRun) -> list[SampleRow]:
    return list(read_table(made.stage("shard") / "metadata", "samples", SampleRow))


def _tars(made: SmallRun, split: str) -> list[str]:
    return sorted(str(path) for path in (made.stage("shard") / "data").glob(f"{split}-*.tar"))


# --- other readers -----------------------------------------------------------------------------------------------


def test_tarfile_gives_every_sample_unchanged(published: SmallRun, expected: dict[str, Sample]) -> None:
    members: dict[str, bytes] = {}
    for split in SPLITS:
        for path in _tars(published, split):
            with tarfile.open(path) as tar:
                members |= {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    rows = {row.key: row for row in _rows(published)}
    assert len(members) == 3 * len(expected)
    for key, sample in expected.items():
        assert members[rows[key].image_name] == sample.picture
        assert members[f"{key}.txt"].decode("utf-8") == sample.text
        assert json.loads(members[f"{key}.json"]) == sample.record


def test_webdataset_gives_every_sample_unchanged(published: SmallRun, expected: dict[str, Sample]) -> None:
    import webdataset

    found = {}
    for split in SPLITS:
        for sample in webdataset.WebDataset(_tars(published, split), shardshuffle=False):
            picture = next(sample[name] for name in ("jpg", "png", "webp", "gif") if name in sample)
            found[sample["__key__"]] = Sample(picture, sample["txt"].decode("utf-8"), json.loads(sample["json"]))
    assert found == expected


@pytest.mark.parametrize("streaming", [True, False])
def test_datasets_gives_every_sample_unchanged(
    published: SmallRun, expected: dict[str, Sample], streaming: bool, tmp_path: Path
) -> None:
    import datasets

    datasets.disable_progress_bars()
    folder = str(published.run.root / "dataset")
    found = {}
    for split in SPLITS:
        loaded = datasets.load_dataset(folder, split=split, streaming=streaming, cache_dir=str(tmp_path))
        for name in ("jpg", "png", "webp", "gif"):
            loaded = loaded.cast_column(name, datasets.Image(decode=False))
        for row in loaded:
            picture = next(row[name]["bytes"] for name in ("jpg", "png", "webp", "gif") if row[name] is not None)
            found[row["__key__"]] = Sample(picture, row["txt"], _without_nulls(row["json"]))
    assert found == expected


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return value


def test_the_index_points_at_every_member(published: SmallRun, expected: dict[str, Sample]) -> None:
    for row in _rows(published):
        tar = (published.stage("shard") / "data" / row.shard).read_bytes()
        picture = tar[row.image_offset_bytes : row.image_offset_bytes + row.image_num_bytes]
        text = tar[row.text_offset_bytes : row.text_offset_bytes + row.text_num_bytes]
        assert (picture, text.decode("utf-8")) == (expected[row.key].picture, expected[row.key].text)
        assert hashlib.sha256(picture).hexdigest() == row.image_sha256
        assert hashlib.sha256(text).hexdigest() == row.text_sha256


def test_sha256sum_accepts_the_checksums(published: SmallRun) -> None:
    for folder in (published.stage("shard"), published.run.root / "dataset"):
        subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=folder, check=True)


# --- what is in a sample, and what is not ------------------------------------------------------------------------


def test_a_record_tells_where_picture_and_caption_come_from(published: SmallRun, expected: dict[str, Sample]) -> None:
    for row in _rows(published):
        record = expected[row.key].record
        assert record["schema_version"] == SCHEMA_VERSION
        assert record["image_id"] == row.image_id
        assert record["image"]["sha256"] == record["image"]["original_sha256"] == row.image_sha256
        assert record["caption"]["sha256"] == row.text_sha256
        assert record["caption"]["sampling"] == json.loads(SAMPLING[row.producer])
        assert record["captioner"]["base_model"] == ("tiny" if row.producer is CaptionSet.STUDENT else "")


def test_no_record_holds_a_null_or_what_differs_between_runs(expected: dict[str, Sample]) -> None:
    for sample in expected.values():
        assert sample.record == _without_nulls(sample.record)
        text = json.dumps(sample.record)
        assert not any(word in text for word in ("_utc", "latency", "request", "attempts", "location"))


def test_every_picture_is_accounted_for(published: SmallRun) -> None:
    report = published.run.record("shard").report  # type: ignore[union-attr]
    assert report is not None
    usable = [row for row in read_table(published.stage("index"), "images", ImageRow) if row.reject is None]
    assert report.num_in == len(usable) == report.balance().num_in
    assert report.num_out == len(_rows(published)) == sum(
        row.num_samples for row in read_table(published.stage("shard") / "metadata", "shards", ShardRow)
    )
    assert report.rejected["too_short"] > 0
    assert report.failed["timed_out"] > 0
    assert report.skipped == sum(not (row.for_teacher or row.for_expand) for row in usable) > 0


def test_the_first_set_with_a_kept_caption_gives_it(published: SmallRun, tmp_path: Path) -> None:
    turned = small_run(tmp_path, num_images=120, shard={"captions": ["student", "teacher"]})
    turned.make("shard")
    first = {row.key: row.producer for row in _rows(published)}
    second = {row.key: row.producer for row in _rows(turned)}
    assert first.keys() == second.keys()
    both = [key for key in first if first[key] != second[key]]
    assert both
    assert all(first[key] is CaptionSet.TEACHER for key in both)


def test_splits_share_no_sample_and_follow_the_share(tmp_path: Path) -> None:
    made = small_run(tmp_path, num_images=400, shard={"validation": 0.25})
    made.make("shard")
    splits = [row.split for row in _rows(made)]
    assert 0.15 < splits.count("validation") / len(splits) < 0.35
    assert [row.key for row in _rows(made)] == sorted({row.key for row in _rows(made)})


def test_max_bytes_bounds_every_tar(tmp_path: Path) -> None:
    made = small_run(tmp_path, num_images=60, shard={"max_bytes": 90_000})
    made.make("shard")
    shards = list(read_table(made.stage("shard") / "metadata", "shards", ShardRow))
    assert len(shards) > 3
    assert all(row.num_bytes <= 90_000 or row.num_samples == 1 for row in shards)


def test_reencoding_is_recorded_in_the_sample(tmp_path: Path) -> None:
    made = small_run(tmp_path, num_images=20, shard={"reencode": "png", "max_side_px": 32})
    made.make("shard")
    for path in _tars(made, "train"):
        with tarfile.open(path) as tar:
            for info in tar:
                if info.name.endswith(".json"):
                    picture = tar.extractfile(info.name.replace(".json", ".png")).read()  # type: ignore[union-attr]
                    facts = json.loads(tar.extractfile(info).read())["image"]  # type: ignore[union-attr]
                    assert facts["sha256"] == hashlib.sha256(picture).hexdigest() != facts["original_sha256"]
                    assert (facts["format"], facts["reencoded"]) == ("png", True)
                    assert max(facts["width_px"], facts["height_px"]) <= 32
    assert verify_dataset(made.run.root, Silent()).findings == ()


def test_scaling_without_reencoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"shard\.max_side_px \(got 32\) needs shard\.reencode"):
        small_run(tmp_path, num_images=3, shard={"max_side_px": 32}).make("shard")


def test_a_picture_that_is_gone_or_changed_fails_alone(tmp_path: Path) -> None:
    whole = small_run(tmp_path / "whole")
    num_whole = whole.make("shard").num_out
    made = small_run(tmp_path / "hurt")
    gone, changed = sorted(row.image_id for row in _rows(whole))[:2]
    (made.pictures / gone.removeprefix("pics/")).unlink()
    Image.new("RGB", (30, 30), "red").save(made.pictures / changed.removeprefix("pics/"))
    report = made.make("shard")
    assert report.num_out == num_whole - 2
    assert report.failed["image_changed"] == 2
    failures = {row.image_id: row for row in read_table(made.stage("shard"), "failures", SampleFailure)}
    assert failures.keys() == {gone, changed}
    assert {row.failure for row in failures.values()} == {FailureClass.IMAGE_CHANGED}
    assert verify_dataset(made.run.root, Silent()).is_sound


def test_when_no_picture_can_be_read_the_stage_stops_and_can_be_run_again(tmp_path: Path) -> None:
    made = small_run(tmp_path)
    away = made.pictures.rename(tmp_path / "away")
    with pytest.raises(InputError, match="not one picture can be read"):
        made.make("shard")
    away.rename(made.pictures)
    assert made.make("shard").num_out > 0


# --- the same bytes, whatever happens ----------------------------------------------------------------------------


def test_two_runs_with_other_folders_and_processes_give_the_same_files(published: SmallRun, tmp_path: Path) -> None:
    parallel = {"max_samples": 10, "validation": 0.2, "workers": 2}
    again = small_run(tmp_path / "elsewhere", num_images=120, shard=parallel)
    again.make("shard", "publish")
    assert hashes(again.stage("shard")) == hashes(published.stage("shard"))
    assert hashes(again.run.root / "dataset") == hashes(published.run.root / "dataset")


def test_killed_again_and_again_it_ends_with_the_same_files(tmp_path: Path) -> None:
    undisturbed = small_run(tmp_path / "undisturbed", shard={"max_samples": 4, "workers": 1})
    undisturbed.make("shard")
    killed = small_run(tmp_path / "killed", shard={"max_samples": 4, "workers": 1})
    drawn = random.Random(11)
    num_kills = 0
    planned = killed.stage("shard") / ".work" / "plan" / "plan.json"
    # About 60 events make the plan, about 12 a tar.
    while _attempt(tmp_path / "killed", drawn.randint(2, 24) if planned.exists() else drawn.randint(40, 80)) < 0:
        num_kills += 1
        for path in (killed.stage("shard") / "data").glob("[!.]*"):
            assert len(list(TarScan(path).members())) % 3 == 0
        assert num_kills < 60
    assert num_kills >= 6
    assert hashes(killed.stage("shard")) == hashes(undisturbed.stage("shard"))
    assert killed.run.record("shard").report == undisturbed.run.record("shard").report  # type: ignore[union-attr]


def _attempt(root: Path, event: int) -> int:
    return subprocess.run([sys.executable, "-m", "tests.small_run", str(root), str(event)], check=False).returncode


def test_a_finished_tar_that_was_damaged_meanwhile_is_written_again(tmp_path: Path) -> None:
    undisturbed = small_run(tmp_path / "undisturbed", shard={"max_samples": 4, "workers": 1})
    undisturbed.make("shard")
    made = small_run(tmp_path / "made", shard={"max_samples": 4, "workers": 1})
    # By event 110 the first tars are finished: 34 for the plan, 12 for each tar.
    assert _attempt(tmp_path / "made", 110) == -signal.SIGKILL
    first = made.stage("shard") / "data" / "train-00000.tar"
    assert (made.stage("shard") / ".work" / "notes" / first.name / "done.json").is_file()
    first.write_bytes(first.read_bytes()[:-10_240])
    made.make("shard")
    assert hashes(made.stage("shard")) == hashes(undisturbed.stage("shard"))


def test_keys_are_the_hash_order_of_ids(published: SmallRun) -> None:
    assert all(row.key == image_order(row.image_id) for row in _rows(published))
