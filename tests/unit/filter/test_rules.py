"""The rules against captions known to be good and against defects put into them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sgv_data.filter.phrases import instructions_of
from sgv_data.filter.policy import decide
from sgv_data.filter.rules import Scores, score
from sgv_data.manifest import FilterPolicy
from sgv_data.records import CaptionReject, Outcome

_DATA = Path(__file__).parents[2] / "data" / "captions.jsonl"
GOOD: list[str] = [json.loads(line)["caption"] for line in _DATA.read_text(encoding="utf-8").splitlines()]
PROMPT = (
    "Describe this photograph for a person who cannot see it: every object with its colour and its place, and quote "
    "all readable text word for word. Say nothing that you are not certain about."
)
INSTRUCTIONS = instructions_of([PROMPT])
LEAKED = (
    "The image does not contain any imaginary content, and all descriptions are based on the visible content of "
    "the image."
)


def scores_of(text: str, finish_reason: str = "stop", outcome: Outcome = Outcome.OK) -> Scores:
    return score(text, finish_reason, outcome, INSTRUCTIONS)


def verdict(text: str, finish_reason: str = "stop", outcome: Outcome = Outcome.OK) -> CaptionReject | None:
    return decide(scores_of(text, finish_reason, outcome), FilterPolicy())


def sentences(caption: str) -> list[str]:
    return re.split(r"(?<=[.])\s", caption)


def cut_anywhere(caption: str, rng: random.Random) -> str:
    while True:
        cut = caption[: rng.randrange(150, len(caption) - 2)].rstrip()
        if cut[-1] not in '.!?"' and not cut.endswith(("D.C", "St")):
            return cut


def loop_last_sentence(caption: str, rng: random.Random) -> str:
    return caption + (" " + sentences(caption)[-1]) * rng.randrange(2, 8)


def loop_last_words(caption: str, rng: random.Random) -> str:
    phrase = " ".join(caption.rstrip(".").split()[-rng.randrange(2, 7) :])
    return caption.rstrip(".") + (", " + phrase) * rng.randrange(6, 20) + "."


def leak_sentence(caption: str, rng: random.Random) -> str:
    parts = sentences(caption)
    parts.insert(rng.randrange(len(parts) + 1), rng.choice([LEAKED, PROMPT, PROMPT.split(": ")[1]]))
    return " ".join(parts)


def refuse_first(caption: str, rng: random.Random) -> str:
    return rng.choice([text for text in REFUSALS if text[0] not in "\"*"]) + " " + caption


REFUSALS = [
    "I'm sorry, but I can't assist with that request.",
    "I’m sorry, I can’t help with identifying people.",
    "As an AI language model, I am unable to view images.",
    "Unfortunately, I'm not able to see the image you mentioned.",
    "It looks like the image didn't load properly. Could you try again?",
    "My apologies, but I am not able to describe it.",
    "I must decline to describe this photograph.",
    "I don't have the ability to look at pictures.",
    "There is no image attached to your message.",
    "Lo siento, pero no puedo ayudar con esa imagen.",
    "Je suis désolé, mais je ne peux pas décrire cette image.",
    "Es tut mir leid, aber ich kann dieses Bild nicht beschreiben.",
    "Non posso descrivere questa immagine.",
    "Desculpe, mas não posso ajudar com isso.",
    "Het spijt me, maar ik kan deze afbeelding niet beschrijven.",
    "Przepraszam, ale nie mogę opisać tego obrazu.",
    "Извините, но я не могу описать это изображение.",
    "抱歉，我无法描述这张图片。",
    "申し訳ありませんが、この画像について説明することはできません。",
    "죄송하지만 이 이미지를 설명할 수 없습니다.",
    "عذرًا، لا يمكنني وصف هذه الصورة.",
    "मुझे खेद है, मैं इस छवि का वर्णन नहीं कर सकता।",
    "Üzgünüm, bu görseli açıklayamam.",
    "Xin lỗi, tôi không thể mô tả hình ảnh này.",
    '"I\'m sorry, but I cannot help with that."',
    "**I cannot process this picture.**",
]

NO_REFUSALS = [
    "A card in a shop door says SORRY in red letters above the words WE ARE CLOSED; the time on the clock "
    "beside it cannot be determined, since its hands are missing.",
    '"Sorry, we\'re closed" reads a white card in the glass door of a bakery, and two shelves of bread can '
    "be seen in the half-dark of the room behind it.",
    'The poster shows a robot with a speech bubble: "I\'m sorry, Dave. I\'m afraid I can\'t do that." A '
    "black frame with thin red corners encloses the whole of it.",
    "Sorry is the word printed across the red shirt of a boy who stands on the left of three children in "
    "front of a brick wall with white windows and a green door.",
    "I CAN'T WAIT is written in white capitals on a black banner that a crowd of people holds across a "
    "wide street lined by bare trees and parked cars.",
    "Unable to fly, a large grey ostrich chick stands in dry grass beside its mother, whose long pale "
    "legs fill the left side of the view under a hazy sky.",
    "No people are in the picture. The exact number of birds cannot be determined, since the flock is "
    "dense and partly hidden by a row of dark trees on the right.",
]


@pytest.mark.parametrize("caption", GOOD, ids=range(len(GOOD)))
def test_a_good_caption_is_kept(caption: str) -> None:
    assert verdict(caption) is None


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_alone_is_a_refusal(text: str) -> None:
    assert verdict(text) is CaptionReject.REFUSAL


@pytest.mark.parametrize("text", NO_REFUSALS)
def test_words_of_refusal_inside_a_description_are_none(text: str) -> None:
    assert verdict(text) is None


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut_anywhere, CaptionReject.CUT_OFF),
        (loop_last_sentence, CaptionReject.REPETITION),
        (loop_last_words, CaptionReject.REPETITION),
        (leak_sentence, CaptionReject.PROMPT_LEAK),
        (refuse_first, CaptionReject.REFUSAL),
    ],
)
def test_damage_is_found_and_named(damage: Callable[[str, random.Random], str], reason: CaptionReject) -> None:
    rng = random.Random(11)
    damaged = [damage(caption, rng) for caption in GOOD for _ in range(3)]
    missed = [text for text in damaged if verdict(text) is not reason]
    assert missed == []


def test_a_refusal_behind_a_description_is_found() -> None:
    assert verdict(GOOD[0] + " I'm sorry, but I can't identify the people.") is CaptionReject.REFUSAL


def test_what_the_server_calls_refused_or_cut_needs_no_words() -> None:
    assert verdict(GOOD[0], outcome=Outcome.REFUSED) is CaptionReject.REFUSAL
    assert verdict(GOOD[0], "content_filter") is CaptionReject.REFUSAL
    assert verdict(GOOD[0], "length") is CaptionReject.CUT_OFF
    assert verdict(GOOD[0], outcome=Outcome.TRUNCATED) is CaptionReject.CUT_OFF


@pytest.mark.parametrize(
    "ending",
    [*".!?。！？؟۔।", '."', ".”", ".)", "。」", "。）", ".**", ".</p>", ". 🙂", ".\n\n", ". \u200b"],
)
def test_a_finished_text_is_not_cut_off(ending: str) -> None:
    assert scores_of("A red car stands left. A blue one stands right" + ending).cut_off_score == 0


@pytest.mark.parametrize("ending", [",", " and", ":", " -", " (", "...", "…", " the", " sta", ", 左"])
def test_an_unfinished_text_is_cut_off(ending: str) -> None:
    assert scores_of("A red car stands left. A blue one stands right" + ending).cut_off_score >= 0.5


def test_a_short_line_without_a_full_stop_is_not_cut_off() -> None:
    assert scores_of("A dog runs along a beach").cut_off_score < 0.5


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\u200d\ufeff", "\x00\x01\x07", "…!?", "🙂🙂", "\ud800"])
def test_a_text_without_a_word_is_empty(text: str) -> None:
    assert verdict(text) is CaptionReject.EMPTY


def test_length_counts_words() -> None:
    policy = FilterPolicy()
    for num_words, reason in ((19, CaptionReject.TOO_SHORT), (20, None), (400, None), (401, CaptionReject.TOO_LONG)):
        text = " ".join(f"word{number}" for number in range(num_words)) + "."
        assert decide(scores_of(text), policy) is reason


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("一只橘色的猫躺在窗台上，旁边放着一盆红色的天竺葵。窗外是积雪的院子，三棵光秃秃的树立在木栅栏边。", 20, 35),
        ("窓辺にオレンジ色の猫が横たわっていて、その隣には赤いゼラニウムの鉢が置かれている。", 18, 32),
        ("แมวสีส้มนอนอยู่บนขอบหน้าต่าง ข้างกระถางดอกไม้สีแดง", 8, 16),
        ("किताब मेज पर रखी है।", 5, 5),
        ("قطة برتقالية على النافذة.", 4, 4),
    ],
)
def test_words_are_counted_sensibly_in_other_scripts(text: str, low: int, high: int) -> None:
    assert low <= scores_of(text).num_words <= high


def test_a_loop_in_chinese_is_repetition() -> None:
    start = "一只橘色的猫躺在窗台上，旁边放着一盆红色的天竺葵。窗外是积雪的院子，三棵光秃秃的树立在木栅栏边。"
    assert verdict(start) is None
    assert verdict(start + "天空是灰色的。" * 12) is CaptionReject.REPETITION


def test_zero_width_characters_do_not_hide_a_leak() -> None:
    hidden = LEAKED.replace("imaginary", "imag\u200binary").replace("content", "con\u00adtent")
    assert scores_of(GOOD[0] + " " + hidden).leak_share > FilterPolicy().leak.max_share


def test_the_first_reason_in_the_fixed_order_wins() -> None:
    both = LEAKED + " " + GOOD[0] + (" " + sentences(GOOD[0])[-1]) * 6
    assert verdict(both) is CaptionReject.PROMPT_LEAK
    assert verdict(GOOD[0] + (" " + sentences(GOOD[0])[-1]) * 6, "length") is CaptionReject.REPETITION


_LONG = {
    "letters": "a" * 1_000_000,
    "words": "red car " * 125_000,
    "distinct words": " ".join(f"w{number}" for number in range(150_000)),
    "sentences": "I can see a dog. " * 60_000,
    "apologies": "I'm sorry, but I can't help. " * 35_000,
    "quotes": '"' * 1_000_000,
    "open quotes": 'sorry "a ' * 111_000,
    "spaces": "a" + " " * 999_998 + "b",
    "brackets": "(" * 1_000_000,
    "tags": "<p>" * 330_000,
    "marks": "*" * 1_000_000,
    "combining": "a" + "\u0301\u0323" * 500_000,
    "han": "猫" * 1_000_000,
    "right to left": "قطة برتقالية " * 77_000,
    "surrogates": "\ud800\udfff" * 500_000,
    "controls": "\x00\x1b[31m" * 160_000,
    "refusal stem": "it seems " * 111_000,
}


@pytest.mark.parametrize("name", _LONG)
def test_a_million_characters_get_a_verdict(name: str) -> None:
    """Nothing here could end within the suite's time limit if a rule were quadratic."""
    scores = scores_of(_LONG[name])
    assert scores.num_chars == len(_LONG[name])
    assert decide(scores, FilterPolicy()) is not None


def test_odd_characters_get_scores_between_0_and_1() -> None:
    rng = random.Random(3)
    alphabet = "aé猫ก\u200f\u202e\ud800\udc00\x00\n \"'(.<>&;*…🙂\U0010ffff"
    for _ in range(500):
        scores = scores_of("".join(rng.choices(alphabet, k=rng.randrange(60))))
        shares = (scores.refusal_score, scores.cut_off_score, scores.leak_share, scores.repeated_share)
        assert all(0 <= share <= 1 for share in shares)
        assert scores.num_words >= 0
