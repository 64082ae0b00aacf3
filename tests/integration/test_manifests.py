"""The paper's manifests load, say what the paper says, and run scaled down to tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sgv_data.captioner.tiny import TEST_SIZE, build_model, build_processor
from sgv_data.manifest import CaptionerModel, Manifest
from sgv_data.manifest_file import load_manifest
from sgv_data.pipeline import active_stages
from sgv_data.run_folder import RunFolder
from tests.captioner_run import captioner_run, draw_picture, make
from tests.integration.test_train import ROWS
from tests.tiny_models import CAPTIONS

SMALL = ["captioner.micro_batch_size=2", "captioner.batch_size=4", "captioner.precision=float32",
         "captioner.held_out=0.1", "captioner.checkpoint_every_steps=4", "expand.max_new_tokens=12"]  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread_only(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def deep_base(folder: Path) -> Path:
    """A tiny LLaVA whose vision tower has the paper's number of blocks."""
    import dataclasses

    size = dataclasses.replace(TEST_SIZE, vision_blocks=24, context_tokens=2048)
    torch.manual_seed(1)
    processor = build_processor(CAPTIONS * 5, size)
    build_model(processor.tokenizer, size).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def captioner(manifest: Manifest) -> CaptionerModel:
    assert manifest.captioner is not None
    return manifest.captioner


def test_the_first_stage_is_the_papers() -> None:
    settings = captioner(load_manifest(Path("manifests/sharegpt4v-7b-pretrain.yaml")))

    assert (settings.learning_rate, settings.batch_size, settings.warmup_share) == (2e-5, 256, 0.03)
    assert tuple(settings.parts.model_dump().values()) == ("from_block_12", "full", "full")


def test_the_second_stage_goes_on_from_the_first_and_is_the_papers(tmp_path: Path) -> None:
    settings = captioner(load_manifest(Path("manifests/sharegpt4v-7b-sft.yaml"), (), tmp_path))

    assert settings.base_model == str(tmp_path / "sharegpt4v-7b-pretrain" / "train" / "model")
    assert (settings.learning_rate, settings.batch_size, settings.warmup_share) == (2e-5, 128, 0.03)
    assert tuple(settings.parts.model_dump().values()) == ("frozen", "full", "full")


def test_both_stages_run_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        draw_picture(tmp_path / "pictures", number)
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps(ROWS * 4))
    places = [f"captioner.conversations.json_file={rows}", f"captioner.conversations.images={tmp_path / 'pictures'}"]
    base = f"captioner.base_model={deep_base(tmp_path / 'base')}"

    for name, more in (("sharegpt4v-7b-pretrain", [base]), ("sharegpt4v-7b-sft", [])):
        manifest = load_manifest(Path(f"manifests/{name}.yaml"), [*SMALL, *places, *more], tmp_path)
        make(manifest, RunFolder(tmp_path / name), "train", "report")

    first, second = (tmp_path / name / "train" / "samples-during.jsonl"
                     for name in ("sharegpt4v-7b-pretrain", "sharegpt4v-7b-sft"))  # fmt: skip
    before = [json.loads(line)["written"] for line in first.read_text().splitlines()][-2:]
    after = [json.loads(line)["written"] for line in second.read_text().splitlines()][:2]
    assert before == after


def test_the_captioner_of_the_paper_is_trained_scaled_down(tmp_path: Path) -> None:
    paper = load_manifest(Path("manifests/share-captioner.yaml"), SMALL)
    settings = captioner(paper).model_dump(mode="json", exclude_unset=True)
    settings |= {"base_model": str(deep_base(tmp_path / "base")), "prompt": "mine"}
    manifest, run = captioner_run(tmp_path / "run", captioner=settings)

    report = make(manifest, run, "train")

    assert [stage.name for stage in active_stages(paper)] == [
        "index", "collect", "filter-teacher", "train", "expand", "filter-student", "shard", "report",
    ]  # fmt: skip
    assert report.num_out == 18
