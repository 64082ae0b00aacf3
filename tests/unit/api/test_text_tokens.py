"""Counts of the o200k vocabulary, taken once; the rule must stay near them."""

from __future__ import annotations

import pytest

from sgv_data.api.text_tokens import caption_tokens, text_tokens
from sgv_data.prompts import load_prompt


@pytest.mark.parametrize(("text", "counted"), [
    ("Describe this picture in detail.", 6),
    ("Describe the light of this photograph: its format, how bright it is, which colours prevail and where "
     "they lie.", 23),
    ("Beschreibe dieses Bild in einem zusammenhängenden Text von etwa hundertzwanzig Wörtern für jemanden, der es "
     "nicht sehen kann.", 29),
    ("请用一段连贯的文字描述这张图片，大约一百二十个字，供看不到它的读者阅读。"
     "说明人物、动物、物品和建筑，它们的颜色、大小以及相互位置。", 50),
])  # fmt: skip
def test_the_rule_is_near_the_count(text: str, counted: int) -> None:
    assert text_tokens(text) == pytest.approx(counted, rel=0.2)


def test_nothing_counts_for_nothing() -> None:
    assert text_tokens("") == 0


def test_numbers_count_by_three_digits() -> None:
    assert text_tokens("1234567") == 3


def test_the_prompt_says_how_long_an_answer_will_be() -> None:
    assert caption_tokens("Describe it in about 120 to 180 words.") == 188
    assert caption_tokens("At most 80 words.") == 100
    assert caption_tokens("Describe it.") == 200


def test_the_shipped_prompts_say_so() -> None:
    assert 150 <= caption_tokens(load_prompt("detailed").text) <= 250
