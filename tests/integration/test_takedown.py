"""Samples removed on request: gone from tars, tables and card, nothing else changed, and gone for good."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sgv_data.cli.app import app
from sgv_data.errors import InputError
from sgv_data.pipeline import find_stage, run_stage
from sgv_data.progress import Silent
from sgv_data.records import SampleRow, ShardRow, StageReport
from sgv_data.shard import takedown
from sgv_data.shard.show import fetch_sample
from sgv_data.shard.verify import verify_dataset
from sgv_data.tables import read_table
from tests.small_run import SmallRun, hashes, small_run


def take_down(made: SmallRun, *names: str) -> StageReport:
    return run_stage(
        find_stage(made.manifest, "shard"), made.manifest, made.run, Silent(), again=names
    ).report  # fmt: skip


def rows_of(made: SmallRun) -> list[SampleRow]:
    return list(read_table(made.stage("shard") / "metadata", "samples", SampleRow))


@pytest.fixture
def made(tmp_path: Path) -> SmallRun:
    run = small_run(tmp_path, num_images=80)
    run.make("shard")
    return run


def test_only_the_shards_with_removed_samples_change(made: SmallRun) -> None:
    before, rows = hashes(made.stage("shard")), rows_of(made)
    report = take_down(made, rows[0].key, rows[1].image_id)
    after = hashes(made.stage("shard"))
    touched = {f"data/{rows[0].shard}", f"data/{rows[1].shard}"}
    assert {name for name in before if name.startswith("data/") and before[name] != after[name]} == touched
    assert [row.key for row in rows_of(made)] == [row.key for row in rows[2:]]
    assert report.rejected["taken_down"] == 2
    assert report.num_out == len(rows) - 2
    assert verify_dataset(made.run.root, Silent()).findings == ()
    for row in rows_of(made)[:5]:
        assert fetch_sample(str(made.run.root), row.key).row == row


def test_a_removed_sample_stays_away_when_the_stage_is_made_anew(made: SmallRun) -> None:
    rows = rows_of(made)
    take_down(made, rows[3].key, rows[20].key)
    removed = hashes(made.stage("shard"))
    report = made.make("shard", redo=True)
    assert report.rejected["taken_down"] == 2
    assert hashes(made.stage("shard")) == removed


def test_a_shard_that_loses_all_samples_goes(made: SmallRun) -> None:
    rows = rows_of(made)
    last = [row.key for row in rows if row.shard == rows[-1].shard]
    take_down(made, *last)
    assert rows[-1].shard not in {
        row.shard for row in read_table(made.stage("shard") / "metadata", "shards", ShardRow)
    }
    assert not (made.stage("shard") / "data" / rows[-1].shard).exists()
    assert verify_dataset(made.run.root, Silent()).findings == ()


def test_an_unknown_sample_changes_nothing(made: SmallRun) -> None:
    before = hashes(made.stage("shard"))
    with pytest.raises(InputError, match="has no sample 'pics/nowhere'; nothing was removed"):
        take_down(made, rows_of(made)[0].key, "pics/nowhere")
    assert hashes(made.stage("shard")) == before


@pytest.mark.parametrize("stop_in", ["_rewrite", "_samples", "publish_folder", "write_beside", "after_takedown"])
def test_killed_anywhere_it_is_finished_by_the_next_run(
    made: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_in: str
) -> None:
    whole = small_run(tmp_path / "whole", num_images=80)
    whole.make("shard")
    keys = [row.key for row in rows_of(made)[:30:7]]
    take_down(whole, *keys)

    class Killed(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Killed

    place = takedown if stop_in != "after_takedown" else __import__("sgv_data.shard.run", fromlist=["run"])
    with monkeypatch.context() as patch:
        patch.setattr(place, stop_in, stop)
        with pytest.raises(Killed):
            take_down(made, *keys)
    report = made.make("shard")
    assert report.rejected["taken_down"] == len(keys)
    assert {n: v for n, v in hashes(made.stage("shard")).items() if n != "removed.jsonl"} == {
        n: v for n, v in hashes(whole.stage("shard")).items() if n != "removed.jsonl"
    }


def test_a_published_dataset_tells_of_the_removal(made: SmallRun) -> None:
    made.make("publish")
    key = rows_of(made)[5].key
    take_down(made, key)
    made.make("publish", redo=True)
    dataset = made.run.root / "dataset"
    assert json.loads((dataset / "metadata" / "removed.json").read_text()) == [key]
    assert "| shard | taken\\_down | 1 |" in (dataset / "README.md").read_text()
    assert verify_dataset(dataset, Silent()).findings == ()
    with pytest.raises(InputError, match="has no sample"):
        fetch_sample(str(dataset), key)


def test_the_wids_index_names_every_tar_of_a_split(made: SmallRun) -> None:
    folder = made.stage("shard")
    for split in ("train", "validation"):
        index = json.loads((folder / f"wids-{split}.json").read_text())
        assert index["__kind__"] == "wids-shard-index-v1"
        assert sum(each["nsamples"] for each in index["shardlist"]) == sum(row.split == split for row in rows_of(made))
        for each in index["shardlist"]:
            data = (folder / each["url"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (each["filesize"], each["sha256"])


def test_the_command_takes_samples_out_and_publishes(made: SmallRun, tmp_path: Path) -> None:
    made.make("publish")
    (tmp_path / "small").symlink_to(made.run.root)
    rows = rows_of(made)
    (tmp_path / "requests.txt").write_text(f"{rows[0].image_id}\n\n{rows[1].key}\n", encoding="utf-8")
    arguments = ["publish", str(tmp_path / "manifest.json"), "--runs", str(tmp_path), "-q"]
    done = CliRunner().invoke(app, [*arguments, "--takedown", f"@{tmp_path / 'requests.txt'}"])
    assert done.exit_code == 0, done.output
    dataset = made.run.root / "dataset"
    assert set(json.loads((dataset / "metadata" / "removed.json").read_text())) == {rows[0].key, rows[1].key}
    assert verify_dataset(dataset, Silent()).findings == ()
    rehearsed = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert rehearsed.exit_code == 0, rehearsed.output
    assert rehearsed.output.startswith("files ")
