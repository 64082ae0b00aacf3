from __future__ import annotations

import pytest

from sgv_data.demo.accuracy import Tally, judge_claims, score_captions
from sgv_data.demo.claims import ClaimKind, parse_claims
from sgv_data.demo.measure import measure
from sgv_data.demo.scenes import (
    BackgroundColor,
    Color,
    Column,
    PrintedWord,
    Row,
    Scene,
    SceneObject,
    Shape,
    Size,
    Texture,
    draw,
    scene,
)
from sgv_data.demo.wording import write_caption

PROMPTS = ("Describe it.", "Tell where everything is.", "Count the shapes and describe them.")
INK = (20, 20, 20)
RED_CIRCLE = SceneObject(Shape.CIRCLE, Color.RED, Size.LARGE, Row.TOP, Column.LEFT, (0, 0, 72, 72), (215, 30, 35))
BLUE_STAR = SceneObject(
    Shape.STAR, Color.BLUE, Size.SMALL, Row.BOTTOM, Column.RIGHT, (150, 150, 200, 200), (35, 80, 220)
)
TRUTH = Scene(
    BackgroundColor.CREAM,
    Texture.PLAIN,
    (240, 228, 196),
    0,
    (RED_CIRCLE, BLUE_STAR),
    PrintedWord("MILK", Row.MIDDLE, (108, 108), INK),
)
TRUE_CAPTION = (
    "Two shapes lie on a plain cream background. A large red circle is in the top left. A small blue star is in the "
    'bottom right. The word "MILK" is printed across the middle. The red circle is above the blue star.'
)


def wrong_kinds(caption: str, truth: Scene = TRUTH) -> list[str]:
    return [judgement.kind.value for judgement in judge_claims(parse_claims(caption), truth) if not judgement.right]


def test_a_true_caption_is_right_in_everything() -> None:
    judged = judge_claims(parse_claims(TRUE_CAPTION), TRUTH)
    assert all(judgement.right for judgement in judged)
    assert len(judged) == 1 + 2 + 2 * 4 + 2 + 1  # count, background, objects, word and its row, relation


@pytest.mark.parametrize(
    ("said", "instead", "wrong"),
    [
        ("large red circle", "large red square", ["shape"]),
        ("large red circle", "large pink circle", ["color"]),
        ("small blue star", "large blue star", ["size"]),
        ("in the top left", "in the top right", ["position"]),
        ("Two shapes", "Three shapes", ["count"]),
        ("cream", "white", ["background"]),
        ("plain", "striped", ["background"]),
        ("MILK", "FISH", ["word"]),
        ("across the middle", "across the top", ["position"]),
        ("is above the", "is below the", ["relation"]),
        ("above the blue star", "above the green ring", ["relation"]),
        ("above the blue star", "above the blue", ["relation"]),
        ('The word "MILK" is printed across the middle. ', "", ["word"]),
        ("A small blue star is in the bottom right. ", "", ["count"]),
        ("Two shapes lie on a plain cream background. ", "", ["background"]),
    ],
)
def test_one_wrong_statement_is_one_wrong_judgement(said: str, instead: str, wrong: list[str]) -> None:
    assert said in TRUE_CAPTION
    assert wrong_kinds(TRUE_CAPTION.replace(said, instead)) == wrong


def test_an_invented_object_is_wrong_in_every_claim() -> None:
    caption = TRUE_CAPTION + " A large red circle is in the top left."
    assert sorted(wrong_kinds(caption)) == ["color", "count", "position", "shape", "size"]


def test_two_mentions_do_not_share_one_true_object() -> None:
    caption = TRUE_CAPTION.replace("small blue star", "large red circle").replace("bottom right", "top left")
    assert {"color", "shape", "size", "position"} <= set(wrong_kinds(caption))


def test_objects_are_paired_so_that_most_claims_hold() -> None:
    swapped = TRUE_CAPTION.replace("A large red circle is in the top left. ", "").replace(
        "bottom right.", "bottom right. A large red circle is in the top left."
    )
    assert wrong_kinds(swapped) == []


def test_a_caption_that_says_nothing_is_wrong_in_what_it_owes() -> None:
    assert sorted(wrong_kinds("A nice picture.")) == ["background", "count", "word"]


def test_a_word_where_none_is_printed_is_wrong() -> None:
    without = Scene(TRUTH.background_color, TRUTH.background_texture, (240, 228, 196), 0, TRUTH.objects, None)
    assert wrong_kinds(TRUE_CAPTION, without) == ["word", "position"]


def test_the_teacher_is_right_and_its_floor_is_low() -> None:
    pairs = []
    for number in range(60):
        truth = scene(99, number)
        pairs.append((write_caption(measure(draw(truth)), PROMPTS[number % 3], str(number)), truth))
    accuracy = score_captions(pairs)
    assert {kind: tally.share for kind, tally in accuracy.kinds.items() if (tally.share or 0) < 0.98} == {}
    assert accuracy.num_captions == 60
    assert accuracy.num_faultless >= 59
    assert accuracy.floor.share is not None
    assert 0.1 < accuracy.floor.share < 0.4


def test_shares_and_sums() -> None:
    accuracy = score_captions([(TRUE_CAPTION, TRUTH), (TRUE_CAPTION.replace("MILK", "FISH"), TRUTH)])
    assert accuracy.kinds[ClaimKind.WORD] == Tally(1, 2)
    assert accuracy.over_all == Tally(27, 28)
    assert accuracy.faultless_share == 0.5
    assert accuracy.floor == accuracy.over_all  # both have the same truth, so turning changes nothing


def test_no_captions_have_no_shares() -> None:
    accuracy = score_captions([])
    assert (accuracy.over_all.share, accuracy.floor.share, accuracy.faultless_share) == (None, None, None)
