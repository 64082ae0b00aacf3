"""The engine answers every picture, whatever memory there is and whatever the pictures are."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sgv_data.captioner.decode import RollingBatch, Row
from sgv_data.captioner.load import Captioner
from sgv_data.captioner.render import Inputs, Renderer
from sgv_data.captioner.setting import Setting
from sgv_data.errors import SgvError
from sgv_data.expand.engine import Answer, Finish, Picture
from sgv_data.expand.transformers_engine import TransformersEngine
from tests.tiny_models import PROMPT, build_folder, build_next_folder, load, picture, teach_to_stop

SETTING = Setting(8)


def pictures(count: int, setting: Setting = SETTING) -> list[Picture]:
    return [Picture(100 + number, np.asarray(picture(number)), setting, number) for number in range(count)]


def by_place(answers: Iterator[Answer]) -> dict[int, tuple[str, Finish, int]]:
    return {answer.place: (answer.text, answer.finish, answer.completion_tokens) for answer in answers}


def make_engine(captioner: Captioner, batch_size: int) -> TransformersEngine:
    """Many tokens end a caption, so that captions end at different lengths."""
    renderer = Renderer(captioner, PROMPT)
    renderer.end_ids = list(range(0, len(captioner.processor.tokenizer), 9))
    return TransformersEngine(captioner, renderer, batch_size)


@pytest.fixture
def engine(captioner: Captioner) -> TransformersEngine:
    teach_to_stop(captioner)
    return make_engine(captioner, 4)


@pytest.fixture(scope="module", params=["llava", "llava_next"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    """Models of two architectures, one of which cuts pictures into varying numbers of pieces."""
    build = build_folder if request.param == "llava" else build_next_folder
    captioner = load(build(tmp_path_factory.mktemp("models") / request.param))
    teach_to_stop(captioner)
    return captioner


def limit_memory(most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes batches of more than `most` fail as they do for want of memory; returns the sizes reached."""
    reached: list[int] = []
    join = RollingBatch.join

    def limited(batch: RollingBatch, rows: Sequence[Row]) -> None:
        join(batch, rows)
        reached.append(batch.num_rows)
        if batch.num_rows > most:
            raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(RollingBatch, "join", limited)
    return reached


def test_every_picture_is_answered_at_its_place(engine: TransformersEngine) -> None:
    answers = list(engine.describe(iter(pictures(10))))

    assert sorted(answer.place for answer in answers) == list(range(100, 110))
    assert all(answer.completion_tokens > 0 for answer in answers)
    assert engine.load.peak_batch == 4


@pytest.mark.parametrize("sampled", [Setting(24), Setting(24, 0.9, 0.9, 1.1)], ids=["greedy", "sampled"])
def test_captions_of_a_batch_equal_those_one_by_one_in_any_order(either: Captioner, sampled: Setting) -> None:
    sizes = [(40, 40), (90, 30), (30, 90), (70, 60)]
    asked = [
        Picture(number, np.asarray(picture(number, *sizes[number % 4])), sampled, 1000 + number)
        for number in range(16)
    ]
    alone = by_place(make_engine(either, 1).describe(iter(asked)))
    assert len({text for text, _, _ in alone.values()}) > 3
    assert len({count for _, _, count in alone.values()}) > 3

    for seed in range(3):
        mixed = random.Random(seed).sample(asked, len(asked))
        assert by_place(make_engine(either, 5).describe(iter(mixed))) == alone


def test_another_seed_gives_another_sample(either: Captioner) -> None:
    asked = pictures(6, Setting(24, 1.0))
    again = [replace(each, seed=each.seed + 77) for each in asked]

    first, second = (by_place(make_engine(either, 6).describe(iter(each))) for each in (asked, again))

    assert first != second


def test_through_generate_of_transformers_captions_are_the_same(
    either: Captioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        replace(each, setting=setting)
        for each, setting in zip(
            pictures(9), [Setting(20), Setting(13, 0.8, 0.9), Setting(16, 0.0, 1.0, 1.3)] * 3, strict=True
        )
    ]
    ours = by_place(make_engine(either, 4).describe(iter(asked)))
    monkeypatch.setattr("sgv_data.captioner.decode.can_roll", lambda model: False)

    assert by_place(make_engine(either, 4).describe(iter(asked))) == ours


def test_out_of_memory_halves_the_batch_and_loses_nothing(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = by_place(engine.describe(iter(pictures(10))))
    reached = limit_memory(1, monkeypatch)

    assert by_place(engine.describe(iter(pictures(10)))) == plain
    assert reached[:3] == [4, 2, 1]
    assert set(reached[3:]) == {1}


def test_too_little_memory_for_one_picture_is_said(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(0, monkeypatch)

    with pytest.raises(SgvError, match="not enough memory to describe a single picture"):
        list(engine.describe(iter(pictures(2))))


def test_other_errors_of_the_model_are_not_taken_for_want_of_memory(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(batch: RollingBatch) -> list[Row]:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(RollingBatch, "step", fails)

    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(engine.describe(iter(pictures(2))))


def test_a_picture_the_processor_refuses_fails_alone(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = engine._renderer.prompt_inputs

    def choosy(image: Image.Image) -> Inputs:
        if image.width > 100:
            raise ValueError("absolute aspect ratio must be smaller than 200")
        return render(image)

    monkeypatch.setattr(engine._renderer, "prompt_inputs", choosy)
    odd = Picture(7, np.zeros((1, 300, 3), np.uint8), SETTING)

    answers = {answer.place: answer for answer in engine.describe(iter([*pictures(3), odd]))}

    assert answers[7].finish is Finish.FAILED
    assert "aspect ratio" in answers[7].text
    assert {answers[place].finish for place in (100, 101, 102)} <= {Finish.STOP, Finish.LENGTH}


def test_a_caption_that_only_repeats_itself_is_stopped(captioner: Captioner) -> None:
    renderer = Renderer(captioner, PROMPT)
    renderer.end_ids = []
    with torch.no_grad():
        captioner.model.lm_head.weight.zero_()  # the same token for ever
    looping = Setting(200, stops_loops=True)

    engine = TransformersEngine(captioner, renderer, 4)
    endless = pictures(4, replace(looping, stops_loops=False))[2:]
    answers = list(engine.describe(iter([*pictures(2, looping), *endless])))

    assert sorted((answer.finish, answer.completion_tokens) for answer in answers) == [
        (Finish.LENGTH, 200), (Finish.LENGTH, 200), (Finish.REPETITION, 48), (Finish.REPETITION, 48)
    ]  # fmt: skip


def test_it_never_waits_for_pictures_that_only_its_answers_bring(engine: TransformersEngine, tmp_path: Path) -> None:
    """Two pictures, then nothing before both are answered, then one more."""
    answered: list[int] = []

    def coming() -> Iterator[Picture | None]:
        first, second, third = pictures(3)
        yield first
        yield second
        yield None
        while len(answered) < 2:
            pass
        yield third

    for answer in engine.describe(coming()):
        answered.append(answer.place)

    assert sorted(answered) == [100, 101, 102]
