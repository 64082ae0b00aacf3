"""The engine answers every picture, whatever memory there is and whatever the pictures are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sgv_data.captioner.generate import Written
from sgv_data.captioner.load import Captioner
from sgv_data.captioner.render import Inputs, Renderer
from sgv_data.errors import SgvError
from sgv_data.expand.engine import Finish, Load, Picture
from sgv_data.expand.transformers_engine import TransformersEngine
from tests.tiny_models import PROMPT, picture, teach_to_stop


def pictures(count: int) -> list[Picture]:
    return [Picture(100 + number, np.asarray(picture(number))) for number in range(count)]


@pytest.fixture
def engine(captioner: Captioner) -> TransformersEngine:
    teach_to_stop(captioner)
    return TransformersEngine(captioner, Renderer(captioner, PROMPT), max_new_tokens=8, batch_size=4)


def limit_memory(engine: TransformersEngine, most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes batches of more than `most` fail as they do for want of memory; returns the sizes tried."""
    tried: list[int] = []
    write = engine._generator.write

    def limited(samples: Sequence[Inputs]) -> list[Written]:
        tried.append(len(samples))
        if len(samples) > most:
            raise torch.OutOfMemoryError("out of memory")
        return write(samples)

    monkeypatch.setattr(engine._generator, "write", limited)
    return tried


def test_every_picture_is_answered_at_its_place(engine: TransformersEngine) -> None:
    answers = list(engine.describe(iter(pictures(10))))

    assert [answer.place for answer in answers] == list(range(100, 110))
    assert all(answer.completion_tokens > 0 for answer in answers)
    assert engine.load.peak_batch == 4


def test_out_of_memory_halves_the_batch_and_loses_nothing(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = [answer.text for answer in engine.describe(iter(pictures(10)))]
    tried = limit_memory(engine, 1, monkeypatch)

    halved = list(engine.describe(iter(pictures(10))))

    assert [answer.text for answer in halved] == plain
    assert [answer.place for answer in halved] == list(range(100, 110))
    assert tried == [4, 2, *[1] * 10]


def test_too_little_memory_for_one_picture_is_said(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(engine, 0, monkeypatch)

    with pytest.raises(SgvError, match="not enough memory to describe a single picture"):
        list(engine.describe(iter(pictures(2))))


def test_other_errors_of_the_model_are_not_taken_for_want_of_memory(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(samples: Any) -> list[Written]:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(engine._generator, "write", fails)

    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(engine.describe(iter(pictures(2))))


def test_a_picture_the_processor_refuses_fails_alone(
    captioner: Captioner, engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = engine._renderer.prompt_inputs

    def choosy(image: Image.Image) -> Inputs:
        if image.width > 100:
            raise ValueError("absolute aspect ratio must be smaller than 200")
        return render(image)

    monkeypatch.setattr(engine._renderer, "prompt_inputs", choosy)
    odd = Picture(7, np.zeros((1, 300, 3), np.uint8))

    answers = {answer.place: answer for answer in engine.describe(iter([*pictures(3), odd]))}

    assert answers[7].finish is Finish.FAILED
    assert "aspect ratio" in answers[7].text
    assert {answers[place].finish for place in (100, 101, 102)} <= {Finish.STOP, Finish.LENGTH}


def test_the_bottleneck_is_the_side_that_took_longer() -> None:
    assert Load(waiting_s=2.0, model_s=1.0).bottleneck == "decoding"
    assert Load(waiting_s=1.0, model_s=2.0).bottleneck == "model"
