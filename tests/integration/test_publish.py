"""A published dataset: its card is true, its snippets run, and it takes its place whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sgv_data.errors import InputError, ManifestError, RunFolderError, VerifyFailed
from sgv_data.progress import Silent
from sgv_data.publish.run import Publication
from sgv_data.records import CaptionRow, FailureClass, Outcome, SampleRow, Verdict
from sgv_data.shard.verify import verify_dataset
from sgv_data.tables import read_table, write_table
from tests.small_run import PROMPT_TEXT, SmallRun, hashes, small_run


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    made = small_run(tmp_path_factory.mktemp("published"))
    made.make("shard", "publish")
    return made


@pytest.fixture
def dataset(published: SmallRun) -> Path:
    return published.run.root / "dataset"


@pytest.fixture
def card(dataset: Path) -> str:
    return (dataset / "README.md").read_text(encoding="utf-8")


def head_of(card: str) -> dict[str, Any]:
    values = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(values, dict)
    return values


# --- the card ----------------------------------------------------------------------------------------------------


def test_every_loading_snippet_of_the_card_runs(dataset: Path, card: str, tmp_path: Path) -> None:
    snippets = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(snippets) == 4
    code = f"import sys\nfor snippet in {snippets!r}:\n    exec(snippet, {{}})\n    print('ran')\n"
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_DATASETS_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=dataset.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ran\n") == 4


def test_the_front_matter_names_tars_only_and_tells_the_counts(dataset: Path, card: str) -> None:
    head = head_of(card)
    (config,) = head["configs"]
    assert {each["path"] for each in config["data_files"]} == {"data/train-*.tar", "data/validation-*.tar"}
    sizes = json.loads((dataset / "sizes.json").read_text())
    for split in head["dataset_info"]["splits"]:
        assert split["num_examples"] == sum(n for name, n in sizes.items() if name.startswith(split["name"]))
    assert head["dataset_info"]["download_size"] == sum(p.stat().st_size for p in (dataset / "data").iterdir())


def test_the_pinned_schema_is_read_as_it_was_meant(dataset: Path, card: str) -> None:
    import datasets

    features = datasets.Features._from_yaml_list(head_of(card)["dataset_info"]["features"])
    assert features["jpg"] == datasets.Image()
    assert features["json"]["scores"]["refusal_score"] == datasets.Value("float64")
    assert features["json"]["caption"]["sampling"]["temperature"] == datasets.Value("float64")
    assert features["json"]["caption"]["sampling"]["do_sample"] == datasets.Value("bool")


def test_the_body_tells_prompts_models_filters_licences_and_the_funnel(published: SmallRun, card: str) -> None:
    assert PROMPT_TEXT in card
    report = published.run.record("shard").report  # type: ignore[union-attr]
    assert report is not None
    rejected = sum(report.rejected.values())
    wanted = (
        "teacher-model", "student-model", "mine, version 3", "| pics | CC0-1.0 |", "| length.min\\_words | 20 |",
        f"| shard | {report.num_in} | {report.num_out} | {rejected} |", f"| shard | too\\_short | {rejected} |",
    )  # fmt: skip
    assert [text for text in wanted if text not in card] == []


def test_prompts_are_published_as_they_were_sent(dataset: Path) -> None:
    text = (dataset / "prompts" / "mine.md").read_text(encoding="utf-8")
    assert text.endswith(f"---\n{PROMPT_TEXT}\n")
    assert yaml.safe_load(text.split("---\n")[1]) == {"id": "mine", "version": 3, "for": "tests"}


def test_a_published_dataset_without_validation_and_with_one_format_loads(tmp_path: Path) -> None:
    made = small_run(tmp_path, num_images=30, shard={"reencode": "jpeg"}, captioner=None)
    made.make("shard", "publish")
    card = (made.run.root / "dataset" / "README.md").read_text()
    assert [each["name"] for each in head_of(card)["dataset_info"]["features"]] == [
        "jpg", "json", "txt", "__key__", "__url__",
    ]  # fmt: skip
    assert 'picture = sample["jpg"]' in card
    assert verify_dataset(made.run.root / "dataset", Silent()).is_sound


# --- the place ---------------------------------------------------------------------------------------------------


def test_publication_lists_every_file_with_its_hash(published: SmallRun, dataset: Path) -> None:
    listed = Publication.model_validate_json((published.stage("publish") / "publication.json").read_text())
    assert {name: stamp.sha256 for name, stamp in listed.files.items()} == {
        name: value for name, value in hashes(dataset).items() if name != "SHA256SUMS"
    }
    assert listed.to == "file://dataset"


def test_nothing_of_the_preparation_is_left(published: SmallRun, dataset: Path) -> None:
    assert not [path.name for path in dataset.parent.iterdir() if path.name.startswith(".dataset")]
    assert {path.name for path in published.stage("publish").iterdir()} == {
        "_RECORD.json", "publication.json", "published.json",
    }  # fmt: skip


def test_a_published_folder_that_was_deleted_is_noticed(tmp_path: Path) -> None:
    made = small_run(tmp_path, num_images=12)
    made.make("shard", "publish")
    shutil.rmtree(made.run.root / "dataset")
    with pytest.raises(RunFolderError, match=r"published\.json is missing; make the stage again with --redo publish"):
        made.make("publish")
    made.make("publish", redo=True)
    assert verify_dataset(made.run.root / "dataset", Silent()).is_sound


def test_publishing_again_replaces_the_dataset(tmp_path: Path) -> None:
    made = small_run(tmp_path, publish={"to": "file://../out/set", "title": "First"})
    made.make("shard", "publish")
    folder = tmp_path / "out" / "set"
    (folder / "left-over.txt").write_text("from before")
    made.make("publish", redo=True)
    assert not (folder / "left-over.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["set"]
    assert verify_dataset(folder, Silent()).is_sound


def test_an_interrupted_replacement_is_put_right(tmp_path: Path) -> None:
    made = small_run(tmp_path)
    made.make("shard", "publish")
    folder = made.run.root / "dataset"
    before = hashes(folder)
    # As a kill between the two renames leaves it.
    folder.rename(folder.with_name(".dataset.old"))
    folder.with_name(".dataset.new").mkdir()
    made.make("publish", redo=True)
    assert hashes(folder) == before
    assert not list(folder.parent.glob(".dataset*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"thesis.txt": "mine"}, "holds something else than a dataset of sgv_data"),
        ({"dataset.json": '{"name": "other"}'}, "holds the dataset 'other', not 'small'"),
        ({"dataset.json": "[]"}, "holds something else than a dataset of sgv_data"),
    ],
)
def test_what_is_not_this_dataset_is_never_replaced(
    published: SmallRun, tmp_path: Path, content: dict[str, str], message: str
) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    for name, text in content.items():
        (target / name).write_text(text)
    made = _copied(published, tmp_path, publish={"to": f"file://{target}"})
    with pytest.raises(InputError, match=message):
        made.make("publish", redo=True)
    assert {path.name: path.read_text() for path in target.iterdir()} == content


def test_an_empty_folder_is_a_fine_target(published: SmallRun, tmp_path: Path) -> None:
    target = tmp_path / "empty"
    target.mkdir()
    _copied(published, tmp_path, publish={"to": f"file://{target}"}).make("publish", redo=True)
    assert verify_dataset(target, Silent()).is_sound


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("hf://models/me/x", r"publish\.to must be hf://datasets/OWNER/NAME, or file://FOLDER, .* \(got 'hf://"),
        ("somewhere", r"publish\.to must be hf://"),
        ("file://", r"publish\.to must be hf://"),
        ("file://.", "a folder that the run works in"),
        ("file://..", "a folder that the run works in"),
        ("file://shard", "a folder that the run works in"),
        ("file://collect/below", "a folder that the run works in"),
    ],
)
def test_impossible_targets_are_manifest_errors(published: SmallRun, tmp_path: Path, to: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        _copied(published, tmp_path, publish={"to": to}).make("publish", redo=True)


def _copied(made: SmallRun, root: Path, **sections: Any) -> SmallRun:
    """The same run in another folder and with other sections; relative targets then mean other folders."""
    shutil.copytree(made.run.root, root / "run", ignore=shutil.ignore_patterns("dataset"))
    manifest = made.manifest.model_validate({**made.manifest.model_dump(), **sections})
    return SmallRun(manifest, type(made.run)(root / "run"), made.pictures)


# --- what stops it -----------------------------------------------------------------------------------------------


def test_a_dataset_that_does_not_load_as_its_index_says_is_not_published(tmp_path: Path) -> None:
    made = small_run(tmp_path)
    made.make("shard", "publish")
    before = hashes(made.run.root / "dataset")
    tar = made.stage("shard") / "data" / "train-00000.tar"
    row = next(read_table(made.stage("shard") / "metadata", "samples", SampleRow))
    data = bytearray(tar.read_bytes())
    data[row.text_offset_bytes : row.text_offset_bytes + row.text_num_bytes] = b"x" * row.text_num_bytes
    tar.unlink()  # the published tar is the same file
    tar.write_bytes(data)
    with pytest.raises(VerifyFailed, match=r"datasets, streaming, split train: gives another caption for " + row.key):
        made.make("publish", redo=True)
    assert hashes(made.run.root / "dataset") == before
    assert not (made.stage("publish") / ".cache").exists()


def test_without_samples_there_is_nothing_to_publish(tmp_path: Path) -> None:
    made = small_run(tmp_path, num_images=4, captioner=None)
    write_table(made.stage("collect"), "captions", CaptionRow, _all_failed(made))
    write_table(made.stage("filter-teacher"), "verdicts", Verdict, [])
    made.make("shard")
    assert made.make("publish").num_out == 0
    assert not (made.run.root / "dataset").exists()


def _all_failed(made: SmallRun) -> list[CaptionRow]:
    return [
        replace(row, outcome=Outcome.FAILED, failure=FailureClass.BLOCKED)
        for row in read_table(made.stage("collect"), "captions", CaptionRow)
    ]


def test_a_prompt_that_was_rewritten_since_stops_the_card(tmp_path: Path) -> None:
    made = small_run(tmp_path)
    made.make("shard")
    prompt = tmp_path / "prompts" / "mine.md"
    prompt.write_text(prompt.read_text().replace("Describe", "Praise"))
    with pytest.raises(RunFolderError, match="'mine' is not the one that was sent"):
        made.make("publish")
