"""`train` as the pipeline runs it: adapters, rates per part, other architectures, conversations, interruptions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sgv_data.captioner.load import ModelPlace, load_captioner
from sgv_data.captioner.parts import Part, part_of
from sgv_data.errors import InputError, ManifestError, TrainingError
from sgv_data.manifest import Manifest
from sgv_data.pipeline import active_stages
from sgv_data.progress import Silent
from sgv_data.records import StageReport
from sgv_data.run_folder import RunFolder
from sgv_data.train.metrics import read_metrics
from sgv_data.train.trainer import CaptionTrainer
from tests.captioner_run import captioner_run, draw_picture, make, weights
from tests.tiny_models import build_folder
from tests.tiny_others import BUILDERS

LORA = {"vision": "lora", "projector": "full", "language": "lora"}
SMALL = {"lora": {"rank": 4, "alpha": 16, "dropout": 0.1}, "parts": LORA}


@pytest.fixture(autouse=True)
def _one_thread_only(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


class Stop(BaseException):
    """Ends a stage from inside, as a signal would."""


class StopAt(Silent):
    """Raises at the n-th piece of progress; remembers what was said."""

    def __init__(self, event: int = 0) -> None:
        self._left = event
        self.said: list[str] = []

    def advance(self, count: int = 1, note: str = "") -> None:
        self._left -= 1
        if self._left == 0:
            raise Stop

    def say(self, line: str) -> None:
        self.said.append(line)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def changed_parts(before: Path, after: Path) -> set[Part]:
    """The parts in which two model folders differ, by the names of their parameters in memory."""
    old, new = (
        load_captioner(ModelPlace(str(folder), None, "m", is_folder=True), torch.device("cpu"), torch.float32).model
        for folder in (before, after)
    )
    pairs = zip(old.named_parameters(), new.named_parameters(), strict=True)
    return {part_of(name) for (name, was), (_, now) in pairs if not torch.equal(was, now)}


# --- parts --------------------------------------------------------------------------------------------------------


def test_adapters_are_merged_compared_and_gone(tmp_path: Path) -> None:
    base = build_folder(tmp_path / "base")
    manifest, run = captioner_run(tmp_path / "run", captioner={**SMALL, "base_model": str(base), "epochs": 4})

    report = make(manifest, run, "train")

    folder = run.stage("train") / "model"
    names = set(load_file(folder / "model.safetensors"))
    assert names == set(load_file(base / "model.safetensors"))
    assert changed_parts(base, folder) == set(Part)
    assert 0 <= report.notes["lora_difference"] < 1e-4  # type: ignore[operator]
    assert report.notes["held_out_loss"] < report.notes["held_out_loss_before"]  # type: ignore[operator]


def test_adapters_on_the_language_model_leave_the_vision_tower_alone(tmp_path: Path) -> None:
    base = build_folder(tmp_path / "base")
    parts = {"vision": "frozen", "projector": "frozen", "language": "lora"}
    manifest, run = captioner_run(tmp_path / "run", captioner={**SMALL, "base_model": str(base), "parts": parts})

    make(manifest, run, "train")

    assert changed_parts(base, run.stage("train") / "model") == {Part.LANGUAGE}


def test_a_merge_that_changes_too_much_writes_no_model(tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path, captioner={**SMALL, "lora_max_difference": 1e-12})

    with pytest.raises(TrainingError, match=r"more than captioner\.lora_max_difference \(1e-12\)"):
        make(manifest, run, "train")

    assert not (run.stage("train") / "model").exists()


@pytest.mark.slow
def test_a_training_with_adapters_stopped_anywhere_ends_with_the_same_weights(tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path / "undisturbed", captioner=SMALL)
    make(manifest, run, "train")
    for event in (5, 7):
        stopped, again = captioner_run(tmp_path / str(event), captioner=SMALL)
        with pytest.raises(Stop):
            make(stopped, again, "train", progress=StopAt(event))

        make(stopped, again, "train")

        assert weights(again) == weights(run)


def test_a_part_learns_at_its_own_rate(tmp_path: Path) -> None:
    base = build_folder(tmp_path / "base")
    full = {"base_model": str(base), "parts": {"vision": "full"}}
    manifest, run = captioner_run(tmp_path / "run", captioner={**full, "learning_rates": {"vision": 1e-12}})
    same, other = captioner_run(tmp_path / "same", captioner=full)

    make(manifest, run, "train")
    make(same, other, "train")

    slow, fast = (_furthest(base, each.stage("train") / "model") for each in (run, other))
    assert slow[Part.VISION] < 1e-6 < fast[Part.VISION]
    assert slow[Part.LANGUAGE] > 1e-3


def _furthest(before: Path, after: Path) -> dict[Part, float]:
    old, new = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    far: dict[Part, float] = dict.fromkeys(Part, 0.0)
    for name, was in old.items():
        far[part_of(name)] = max(far[part_of(name)], float((new[name] - was).abs().max()))
    return far


def test_the_table_is_shown_before_the_start(tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path, captioner=SMALL)
    progress = StopAt()

    make(manifest, run, "train", progress=progress)

    table = [line.split() for line in progress.said if line.startswith("  ")]
    assert [row[0] for row in table] == ["part", "vision", "projector", "language", "total"]
    assert table[1][1] == "lora"
    assert table[4][-1] == "MB"


def test_recomputing_activations_changes_no_weight(tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path / "a")
    saving, other = captioner_run(tmp_path / "b", captioner={"gradient_checkpointing": True})

    make(manifest, run, "train")
    make(saving, other, "train")

    mine, theirs = (load_file(each.stage("train") / "model" / "model.safetensors") for each in (run, other))
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-5) for name in mine)


# --- architectures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["gemma3", *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(BUILDERS) if name != "gemma3")]
)
def test_other_architectures_learn_and_go_on_after_a_stop(tmp_path: Path, name: str) -> None:
    base = BUILDERS[name](tmp_path / "base")
    captioner = {**SMALL, "base_model": str(base)}
    manifest, run = captioner_run(tmp_path / "whole", captioner=captioner)
    stopped, again = captioner_run(tmp_path / "stopped", captioner=captioner)

    report = make(manifest, run, "train")
    with pytest.raises(Stop):
        make(stopped, again, "train", progress=StopAt(6))
    make(stopped, again, "train")

    assert report.notes["held_out_loss"] < report.notes["held_out_loss_before"]  # type: ignore[operator]
    assert weights(again) == weights(run)
    assert changed_parts(base, run.stage("train") / "model") == set(Part)


# --- evidence -----------------------------------------------------------------------------------------------------


def test_every_evaluation_shows_what_is_said_about_held_out_samples(tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path)

    make(manifest, run, "train")

    shown = lines(run.stage("train") / "samples-during.jsonl")
    assert sorted({row["step"] for row in shown}) == [0, 2, 4, 5]
    assert {row["wanted"] for row in shown if row["step"] == 0} == {row["wanted"] for row in shown if row["step"] == 5}
    assert all(row["wanted"].endswith(".") for row in shown)
    said = {step: {row["written"] for row in shown if row["step"] == step} for step in (0, 5)}
    assert said[0] != said[5]


def test_speed_is_written_down_with_every_step(tmp_path: Path) -> None:
    manifest, run = captioner_run(tmp_path)

    report = make(manifest, run, "train")

    steps = [row for row in read_metrics(run.stage("train") / "metrics.jsonl") if row.loss is not None]
    assert all(row.tokens and row.tokens_per_s and row.tflops_per_s for row in steps)
    assert all(row.mfu is None for row in steps)  # nobody says what this CPU could do
    assert report.notes["tokens"] == sum(row.tokens or 0 for row in steps)


def test_a_batch_that_does_not_fit_names_one_that_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, run = captioner_run(tmp_path)

    def too_large(self: Any, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CaptionTrainer.__mro__[1], "training_step", too_large)

    with pytest.raises(TrainingError, match=r"micro_batch_size 4; 2 should fit \(a sample takes \d+ MB of [\d,]+ MB"):
        make(manifest, run, "train")


# --- conversations ------------------------------------------------------------------------------------------------

ROWS: list[Any] = [
    {"id": "a", "image": "0000.png", "conversations": [
        {"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A rectangle."},
        {"from": "human", "value": "Which colour?"}, {"from": "gpt", "value": "It is </s> red."},
    ]},
    {"id": "b", "conversations": [
        {"from": "human", "value": "Say <image> something."}, {"from": "gpt", "value": "Something."},
    ]},
    {"id": "c", "image": "0001.png", "conversations": [
        {"from": "human", "value": "What lies here?\n<image>"}, {"from": "gpt", "value": "A drawing."},
    ]},
    {"id": "gone", "image": "nowhere/9999.png", "conversations": [
        {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Nothing."},
    ]},
    {"id": "empty", "conversations": []},
    "no row at all",
]  # fmt: skip


def conversation_run(
    root: Path, rows: list[Any], captioner: dict[str, Any] | None = None, as_lines: bool = False
) -> tuple[Manifest, RunFolder]:
    """A manifest that only trains, and its empty run folder."""
    root.mkdir(parents=True)
    (root / "pictures").mkdir()
    for number in range(4):
        draw_picture(root / "pictures", number)
    (root / "prompts").mkdir()
    (root / "prompts" / "mine.md").write_text("---\nid: mine\nversion: 2\nfor: tests\n---\nDescribe.\n")
    path = root / ("rows.jsonl" if as_lines else "rows.json")
    path.write_text("\n".join(json.dumps(row) for row in rows) if as_lines else json.dumps(rows, indent=1))
    manifest = Manifest.model_validate({
        "name": "talk", "prompts": str(root / "prompts"),
        "captioner": {
            "base_model": "tiny", "prompt": "mine", "learning_rate": 2e-3, "batch_size": 4, "micro_batch_size": 2,
            "epochs": 2, "held_out": 0.1, "checkpoint_every_steps": 2, "parts": {"vision": "full"},
            "conversations": {"json_file": str(path), "images": str(root / "pictures")}, **(captioner or {}),
        },
    })  # fmt: skip
    return manifest, RunFolder(root / "run")


def test_a_run_on_conversations_is_a_training_and_a_report(tmp_path: Path) -> None:
    manifest, _ = conversation_run(tmp_path / "a", ROWS)

    assert [stage.name for stage in active_stages(manifest)] == ["train", "report"]


@pytest.mark.parametrize("as_lines", [False, True])
def test_conversations_are_trained_on_and_all_rows_accounted_for(tmp_path: Path, as_lines: bool) -> None:
    manifest, run = conversation_run(tmp_path / "a", ROWS * 6, as_lines=as_lines)

    make(manifest, run, "train", "report")

    report = _report(run)

    assert (report.num_in, report.num_out, report.skipped) == (36, 16, 2)
    assert report.rejected == {"missing_picture": 6, "no_answer": 6, "no_conversation": 6}
    assert report.notes["held_out_loss"] < report.notes["held_out_loss_before"]  # type: ignore[operator]


def _report(run: RunFolder) -> StageReport:
    record = run.record("train")
    assert record is not None
    assert record.report is not None
    return record.report


def test_a_picture_that_cannot_be_decoded_costs_its_sample_and_no_more(tmp_path: Path) -> None:
    manifest, run = conversation_run(tmp_path / "a", ROWS * 6)
    (tmp_path / "a" / "pictures" / "0001.png").write_bytes(b"no picture")

    make(manifest, run, "train")

    counted = _report(run).notes["samples_without_loss"]
    assert isinstance(counted, int)
    assert 8 <= counted <= 13  # 6 samples in two epochs, some of them held out, some filling up their kind


def test_a_run_on_conversations_that_was_stopped_ends_with_the_same_weights(tmp_path: Path) -> None:
    manifest, run = conversation_run(tmp_path / "a", ROWS * 6)
    stopped, again = conversation_run(tmp_path / "b", ROWS * 6)

    make(manifest, run, "train")
    with pytest.raises(Stop):
        make(stopped, again, "train", progress=StopAt(6))
    make(stopped, again, "train")

    assert weights(again) == weights(run)


def test_one_run_goes_on_from_another(tmp_path: Path) -> None:
    manifest, run = conversation_run(tmp_path / "a", ROWS * 6)
    make(manifest, run, "train")
    folder = run.stage("train") / "model"
    second, other = conversation_run(tmp_path / "b", ROWS * 6, {"base_model": str(folder), "epochs": 4})

    make(second, other, "train")

    first_step = next(row.eval_loss for row in read_metrics(other.stage("train") / "metrics.jsonl") if row.eval_loss)
    last = [row.eval_loss for row in read_metrics(run.stage("train") / "metrics.jsonl") if row.eval_loss][-1]
    assert first_step == pytest.approx(last, rel=1e-4)


def test_a_folder_of_pictures_that_is_not_there_is_said(tmp_path: Path) -> None:
    places = {"json_file": str(tmp_path / "a" / "rows.json"), "images": str(tmp_path / "nowhere")}
    manifest, run = conversation_run(tmp_path / "a", ROWS, {"conversations": places})

    with pytest.raises(InputError, match=r"captioner\.conversations\.images: no such folder"):
        make(manifest, run, "train")


def test_an_expansion_of_conversations_is_refused(tmp_path: Path) -> None:
    manifest, run = conversation_run(tmp_path / "a", ROWS)

    with pytest.raises(ManifestError, match="only trains a captioner, so there is nothing to expand"):
        make(manifest, run, "expand")


def test_deepspeed_files_that_set_the_optimizer_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text('{"optimizer": {"type": "AdamW"}, "zero_optimization": {"stage": 3}}')
    manifest, run = captioner_run(tmp_path / "run", captioner={"deepspeed": str(path)})

    with pytest.raises(ManifestError, match=r"captioner\.deepspeed: .* sets 'optimizer'; leave it out"):
        make(manifest, run, "train")


@pytest.mark.slow
def test_equal_trainings_give_equal_bytes(tmp_path: Path) -> None:
    hashes = set()
    for name in "ab":
        manifest, run = conversation_run(tmp_path / name, ROWS * 6, SMALL)
        make(manifest, run, "train")
        hashes.add(hashlib.sha256((run.stage("train") / "model" / "model.safetensors").read_bytes()).hexdigest())

    assert len(hashes) == 1
