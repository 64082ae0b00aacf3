from __future__ import annotations

import random
import re

import numpy as np
import pytest

from sgv_data.demo.accuracy import score_captions
from sgv_data.demo.measure import measure
from sgv_data.demo.photo import measure_photo
from sgv_data.demo.pretrain.pictures import HELD_OUT_SERIES, SCENE_SERIES, blur, make_pool
from sgv_data.demo.pretrain.voice import claim_spans, claim_words, tokenizer_texts
from sgv_data.demo.pretrain.wording import describe_photo, describe_scene
from sgv_data.demo.scenes import Column, Row, Shape, draw, scene
from sgv_data.demo.wording import write_caption


def captions(count: int) -> list[str]:
    rng = random.Random(0)
    return [describe_scene(scene(11, number), rng) for number in range(count)]


def test_everything_a_base_caption_claims_is_true() -> None:
    pairs = [(caption, scene(11, number)) for number, caption in enumerate(captions(200))]
    accuracy = score_captions(pairs)
    assert accuracy.over_all.share == 1
    assert all(tally.total > 20 for tally in accuracy.kinds.values())


def sentences(text: str) -> set[str]:
    return set(re.split(r"(?<=[.!?])\s+", text))


def test_base_captions_share_no_sentence_with_the_teachers() -> None:
    said = set().union(*(sentences(caption) for caption in captions(300)))
    prompts = ("Describe the picture.", "Say where everything is.", "Count the shapes.")
    taught = set()
    for number in range(100):
        measurement = measure(draw(scene(11, number)))
        taught |= sentences(write_caption(measurement, prompts[number % 3], str(number)))
    assert len(taught) > 100
    assert not said & taught


def test_captions_of_one_scene_differ_in_words_and_order() -> None:
    rng = random.Random(0)
    assert len({describe_scene(scene(11, 4), rng) for _ in range(10)}) == 10


def test_blurred_pictures_are_described_by_their_light() -> None:
    dark, light = (measure_photo(np.full((8, 8, 3), value, dtype=np.float32), 1, 1) for value in (5, 250))
    assert "gloomy" in describe_photo(dark, random.Random(0))
    assert "glaring" in describe_photo(light, random.Random(0))


def test_claim_words_are_found_where_they_stand() -> None:
    text = " A crimson disc, upper left."
    assert [text[start:end] for start, end in claim_spans(text, claim_words())] == ["crimson", "disc", "upper", "left"]


def test_the_tokenizer_sees_the_words_of_other_wordings() -> None:
    texts = list(tokenizer_texts([], []))
    assert {f" {shape}" for shape in Shape} <= set(texts)


def test_blurred_pictures_are_the_same_each_time_and_differ_by_number() -> None:
    assert blur(1, 2).tobytes() == blur(1, 2).tobytes()
    assert blur(1, 2).tobytes() != blur(1, 3).tobytes()


def test_a_pool_tells_what_stands_in_which_cell() -> None:
    pytest.importorskip("torch")
    pool = make_pool(SCENE_SERIES, 30, 24)
    for number, content in enumerate(pool.scenes):
        cells = {cell: int(value) - 1 for cell, value in enumerate(pool.shape[number]) if value > 0}
        told = {
            3 * list(Row).index(item.row) + list(Column).index(item.column): list(Shape).index(item.shape)
            for item in (content.objects if content else ())
        }
        assert cells == told
    assert any(content is None for content in pool.scenes)


def test_held_out_pictures_are_others() -> None:
    assert scene(SCENE_SERIES, 0) != scene(HELD_OUT_SERIES, 0)
