from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgv_data.demo.accuracy import score_captions
from sgv_data.demo.claims import ClaimKind
from sgv_data.demo.scenes import draw, scene

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

BASE = Path("sgv_data/demo/assets/base")
PROMPT = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe this picture."}]}]


def describe(numbers: range) -> list[str]:
    processor: Any = transformers.AutoProcessor.from_pretrained(BASE, local_files_only=True)
    model: Any = transformers.AutoModelForImageTextToText.from_pretrained(
        BASE, local_files_only=True, dtype=torch.float32
    )
    question = processor.apply_chat_template(PROMPT, add_generation_prompt=True)
    pictures = [draw(scene(1, number)) for number in numbers]
    inputs = processor(text=[question] * len(pictures), images=pictures, return_tensors="pt")
    ids = model.eval().generate(**inputs, max_new_tokens=120, do_sample=False)
    texts: list[str] = processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def test_the_weights_are_small_and_readable_by_all() -> None:
    files = [path for path in BASE.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in files)


def test_the_configuration_names_no_folder_of_the_machine_it_was_made_on() -> None:
    for path in BASE.glob("*.json"):
        if path.name != "tokenizer.json":
            assert not [value for value in json.loads(path.read_text()).values() if str(value).startswith("/")]


def test_the_base_model_sees_shapes_and_colours_in_scenes_it_never_saw() -> None:
    numbers = range(24)
    accuracy = score_captions(zip(describe(numbers), (scene(1, number) for number in numbers), strict=True))
    for kind in (ClaimKind.SHAPE, ClaimKind.COLOR):
        assert (accuracy.kinds[kind].share or 0) > 0.85
        assert (accuracy.floor_kinds[kind].share or 0) < 0.6
