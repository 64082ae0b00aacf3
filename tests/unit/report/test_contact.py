from __future__ import annotations

import json
from pathlib import Path

from sgv_data.report.contact import MAX_CAPTION_CHARS, shown
from sgv_data.report.pictures import ModelSample, read_model_samples
from sgv_data.report.summary import TrainingStep, read_steps


def test_long_text_is_clamped_and_says_by_how_much() -> None:
    text, num_hidden_chars = shown("x" * 100_000)
    assert len(text) == MAX_CAPTION_CHARS
    assert num_hidden_chars == 100_000 - MAX_CAPTION_CHARS


def test_control_characters_and_lone_surrogates_become_visible_and_storable() -> None:
    text, num_hidden_chars = shown("a\x00b\x1bc\ud800d\ne\u05d0")
    assert num_hidden_chars == 0
    assert "\x00" not in text
    assert "\x1b" not in text
    assert text.endswith("d\ne\u05d0")
    text.encode("utf-8")


def test_samples_of_training_are_read_by_image(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    assert read_model_samples(path) == {}
    path.write_text(json.dumps({"image_id": "a/1", "base": "b", "trained": "t"}) + "\n\n")
    assert read_model_samples(path) == {"a/1": ModelSample("b", "t")}


def test_the_log_of_training_gives_losses_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert list(read_steps(path)) == []
    lines = [{"step": 1, "loss": 2.5}, {"step": 2, "eval_loss": 2.0, "seconds": 3}, {"step": 2, "seconds": 9}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(read_steps(path)) == [TrainingStep(1, 2.5, False), TrainingStep(2, 2.0, True)]
