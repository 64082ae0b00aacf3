"""`train` and `expand` as the pipeline runs them: results, interruptions, and mistakes of users."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sgv_data.captioner.load import Captioner, ModelPlace, load_captioner
from sgv_data.errors import ManifestError, RunFolderError, SgvError, TrainingError
from sgv_data.manifest import Manifest
from sgv_data.pipeline import find_stage, run_stage
from sgv_data.progress import Silent
from sgv_data.records import CaptionRow, FailureClass, ImageRow, Outcome
from sgv_data.run_folder import RunFolder
from sgv_data.tables import read_table
from sgv_data.train.metrics import Metric, read_metrics
from tests.captioner_run import captioner_run, make, weights
from tests.tiny_models import build_folder, build_next_folder

Run = tuple[Manifest, RunFolder]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An undisturbed run; read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        manifest, run = captioner_run(tmp_path_factory.mktemp("done"))
        make(manifest, run, "train", "expand")
    return manifest, run


def captions(run: RunFolder) -> list[tuple[Any, ...]]:
    """The captions table without what may differ between equal runs."""
    volatile = {"attempts", "latency_s", "created_utc", "request_id"}
    names = [name for name in CaptionRow.__slots__ if name not in volatile]
    rows = read_table(run.stage("expand"), "captions", CaptionRow)
    return [tuple(getattr(row, name) for name in names) for row in rows]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def numbers(run: RunFolder) -> list[Metric]:
    """All lines of the metrics without what depends on the time."""
    timed = {"seconds": 0.0, "tokens_per_s": None, "tflops_per_s": None}
    return [row.model_copy(update=timed) for row in read_metrics(run.stage("train") / "metrics.jsonl")]


class Stop(BaseException):
    """Ends a stage from inside, as a signal would."""


class StopAt(Silent):
    """Raises at the n-th piece of progress."""

    def __init__(self, event: int) -> None:
        self._left = event

    def advance(self, count: int = 1, note: str = "") -> None:
        self._left -= 1
        if self._left == 0:
            raise Stop


# --- results ------------------------------------------------------------------------------------------------------


def test_the_trained_model_is_a_plain_folder_that_loads_offline(done: Run) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = done[1].stage("train") / "model"

    model = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)

    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert processor.tokenizer.chat_template or processor.chat_template


def test_numbers_of_training_add_up(done: Run) -> None:
    report = done[1].record("train").report  # type: ignore[union-attr]

    assert report is not None
    assert (report.num_in, report.num_out, report.skipped) == (20, 18, 2)


def test_nothing_but_the_results_is_left(done: Run) -> None:
    names = {path.name for path in done[1].stage("train").iterdir()}

    assert names == {"model", "metrics.jsonl", "loss.svg", "samples.jsonl", "samples-during.jsonl", "_RECORD.json"}


def test_the_loss_falls_and_every_step_is_written_down(done: Run) -> None:
    rows = read_metrics(done[1].stage("train") / "metrics.jsonl")

    losses = [row.loss for row in rows if row.loss is not None]
    assert [row.step for row in rows if row.loss is not None] == [1, 2, 3, 4, 5]
    assert losses[-1] < losses[0]
    held_out = {row.step: row.eval_loss for row in rows if row.eval_loss is not None}
    assert sorted(held_out) == [0, 2, 4, 5]
    assert held_out[5] < held_out[0]


def test_samples_are_pictures_nobody_trained_on(done: Run) -> None:
    index = read_table(done[1].stage("index"), "images", ImageRow)
    unseen = [row.image_id for row in index if not row.for_teacher]

    samples = lines(done[1].stage("train") / "samples.jsonl")

    assert [sample["image_id"] for sample in samples] == unseen[:3]
    assert any(sample["base"] != sample["trained"] for sample in samples)


def test_every_picture_has_one_caption_with_its_provenance(done: Run) -> None:
    index = list(read_table(done[1].stage("index"), "images", ImageRow))
    rows = list(read_table(done[1].stage("expand"), "captions", CaptionRow))

    assert [row.image_id for row in rows] == [row.image_id for row in index]
    assert [row.image_sha256 for row in rows] == [row.sha256 for row in index]
    assert {(row.prompt_id, row.prompt_version, row.model) for row in rows} == {("mine", 2, "tiny, fine-tuned")}
    assert {row.finish_reason for row in rows} <= {"stop", "length"}
    assert all((row.outcome is Outcome.TRUNCATED) == (row.finish_reason == "length") for row in rows)
    sampling = json.loads(rows[0].sampling)
    assert sampling["do_sample"] is False
    assert sampling["max_new_tokens"] == 12


def test_samples_and_expansion_write_the_same_caption_for_a_picture(done: Run) -> None:
    expanded = {row.image_id: row.text for row in read_table(done[1].stage("expand"), "captions", CaptionRow)}

    for sample in lines(done[1].stage("train") / "samples.jsonl"):
        assert expanded[sample["image_id"]] == sample["trained"]


def test_another_architecture_is_trained_and_describes(tmp_path: Path) -> None:
    base = build_next_folder(tmp_path / "next")
    manifest, run = captioner_run(tmp_path / "run", captioner={"base_model": str(base), "epochs": 4})

    report = make(manifest, run, "train")
    expanded = make(manifest, run, "expand")

    assert report.notes["held_out_loss"] < report.notes["held_out_loss_before"]  # type: ignore[operator]
    assert expanded.num_out == 36
    samples = {sample["image_id"]: sample["trained"] for sample in lines(run.stage("train") / "samples.jsonl")}
    written = {row.image_id: row.text for row in read_table(run.stage("expand"), "captions", CaptionRow)}
    assert samples == {image_id: written[image_id] for image_id in samples}


def test_bfloat16_is_used_where_it_is_asked_for(tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path, captioner={"precision": "bfloat16"})

    report = make(manifest, run, "train", "expand")

    rows = read_table(run.stage("expand"), "captions", CaptionRow)
    assert {json.loads(row.sampling)["dtype"] for row in rows} == {"bfloat16"}
    assert report.num_out == 36
    result = ModelPlace(str(run.stage("train") / "model"), None, "trained", is_folder=True)
    config = load_captioner(result, torch.device("cpu"), torch.float32).model.config
    assert config._attn_implementation == "sdpa"


# --- repetition and interruption ----------------------------------------------------------------------------------


def test_another_folder_gives_the_same_weights_and_captions(done: Run, tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path)

    make(manifest, run, "train", "expand")

    assert weights(run) == weights(done[1])
    assert captions(run) == captions(done[1])


def test_batches_units_and_workers_change_no_caption(done: Run, tmp_path: Path) -> None:
    expand = {"max_new_tokens": 12, "batch_size": 5, "unit_size": 3, "workers": 2}
    manifest, run = captioner_run(tmp_path, expand=expand)

    make(manifest, run, "train", "expand")

    assert captions(run) == captions(done[1])


@pytest.mark.parametrize("event", [2, 4, 5, 6, 8])
def test_training_stopped_anywhere_ends_with_the_same_weights(done: Run, tmp_path: Path, event: int) -> None:
    manifest, run = captioner_run(tmp_path)
    with pytest.raises(Stop):
        make(manifest, run, "train", progress=StopAt(event))

    make(manifest, run, "train")

    assert weights(run) == weights(done[1])
    for name in ("samples.jsonl", "samples-during.jsonl", "model/config.json", "model/generation_config.json"):
        assert (run.stage("train") / name).read_bytes() == (done[1].stage("train") / name).read_bytes()
    assert numbers(run) == numbers(done[1])


def test_expansion_stopped_between_units_describes_only_what_is_missing(done: Run, tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path)
    make(manifest, run, "train")
    with pytest.raises(Stop):
        make(manifest, run, "expand", progress=StopAt(20))
    num_units = len(list((run.stage("expand") / "units").glob("*.parquet")))
    assert 0 < num_units < 5

    report = make(manifest, run, "expand")

    assert captions(run) == captions(done[1])
    assert report.from_cache == 8 * num_units


def test_killed_again_and_again_both_stages_end_the_same(done: Run, tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path)
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json())
    for stage, event in (("train", 9), ("train", 14), ("expand", 12)):
        child = subprocess.run(
            [sys.executable, "-m", "tests.captioner_run", str(tmp_path), stage, str(event)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=False,
        )
        assert child.returncode == -9, child.stderr.decode()
        if event == 14:
            make(manifest, run, "train")

    make(manifest, run, "expand")

    assert weights(run) == weights(done[1])
    assert captions(run) == captions(done[1])


def test_done_anew_from_units_needs_no_model(done: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path)
    make(manifest, run, "train", "expand")
    monkeypatch.setattr("sgv_data.expand.run.describe_here", None)

    report = run_stage(find_stage(manifest, "expand"), manifest, run, Silent(), redo=True).report

    assert (report.num_out, report.from_cache) == (36, 36)
    assert captions(run) == captions(done[1])


# --- what can go wrong --------------------------------------------------------------------------------------------


def test_bad_pictures_fail_with_their_reason_and_the_others_are_described(tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path)
    make(manifest, run, "train")
    rows = [row for row in read_table(run.stage("index"), "images", ImageRow) if not row.for_teacher]
    (tmp_path / "pictures" / rows[0].location).unlink()
    (tmp_path / "pictures" / rows[1].location).write_bytes(b"something else")

    report = make(manifest, run, "expand")

    assert (report.num_out, report.failed) == (34, {"image_changed": 2})
    written = {row.image_id: row for row in read_table(run.stage("expand"), "captions", CaptionRow)}
    assert written[rows[0].image_id].failure is FailureClass.IMAGE_CHANGED
    assert written[rows[1].image_id].text == ""


def test_a_learning_rate_that_breaks_the_training_is_said_and_no_model_is_written(tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path, captioner={"learning_rate": 1e30})

    with pytest.raises(TrainingError, match=r"lower captioner\.learning_rate \(it is 1e\+30\)"):
        make(manifest, run, "train")

    assert not (run.stage("train") / "model").exists()


def test_a_single_kept_caption_is_too_few(tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path, num_taught=2)

    with pytest.raises(TrainingError, match="1 kept teacher caption: too few"):
        make(manifest, run, "train")


def test_a_picture_that_changed_since_it_was_indexed_stops_the_training(tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path)
    for row in read_table(run.stage("index"), "images", ImageRow):
        if row.for_teacher:
            (tmp_path / "pictures" / row.location).write_bytes(b"something else")

    with pytest.raises(SgvError, match="has other bytes than when it was indexed"):
        make(manifest, run, "train")


def test_a_base_model_that_is_not_there_is_said_before_anything_is_done(tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path, captioner={"base_model": "./nowhere"})

    with pytest.raises(ManifestError, match=r"captioner\.base_model: no such folder: \./nowhere"):
        make(manifest, run, "train")

    assert not run.stage("train").exists()


def test_another_base_model_in_the_same_folder_asks_for_redo(tmp_path: Path) -> None:
    base = build_folder(tmp_path / "base")
    manifest, run = captioner_run(tmp_path / "run", captioner={"base_model": str(base), "epochs": 0.5})
    make(manifest, run, "train")
    (base / "generation_config.json").write_text("{}")

    with pytest.raises(RunFolderError, match=r"captioner\.files was .* Use --redo train"):
        make(manifest, run, "train")


def test_a_base_model_stored_in_half_precision_is_trained_in_full(tmp_path: Path) -> None:
    base = build_folder(tmp_path / "base")
    place = ModelPlace(str(base), None, "base", is_folder=True)
    captioner: Captioner = load_captioner(place, torch.device("cpu"), torch.float32)
    captioner.model.to(torch.float16).save_pretrained(base)
    manifest, run = captioner_run(
        tmp_path / "run", captioner={"base_model": str(base), "parts": {"vision": "from_block_1", "language": "frozen"}}
    )

    make(manifest, run, "train")

    result = ModelPlace(str(run.stage("train") / "model"), None, "trained", is_folder=True)
    trained = load_captioner(result, torch.device("cpu"), torch.float32)
    before = load_captioner(place, torch.device("cpu"), torch.float32)
    changed = {
        name
        for (name, new), (_, old) in zip(
            trained.model.named_parameters(), before.model.named_parameters(), strict=True
        )
        if not torch.equal(new, old)
    }
    assert any("layers.1." in name for name in changed)
    assert all("projector" in name or "vision_tower.encoder.layers.1." in name for name in changed)
