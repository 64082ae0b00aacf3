from __future__ import annotations

from sgv_data.demo.measure import MeasuredObject, MeasuredWord, SceneMeasurement, measure
from sgv_data.demo.photo import Brightness, Contrast, Orientation, PhotoMeasurement, Side, Tone
from sgv_data.demo.scenes import BackgroundColor, Color, Column, Row, Shape, Size, Texture, draw, scene
from sgv_data.demo.wording import Style, choose_style, write_caption

PROMPTS = (
    "Describe this picture in detail.",
    "Tell where to put each shape so that one could draw it.",
    "Begin by counting the shapes, then go through them.",
)
BOX_PX = (0.0, 0.0, 50.0, 50.0)
STAR = MeasuredObject(Shape.STAR, Color.PINK, Size.SMALL, Row.TOP, Column.LEFT, BOX_PX)
RING = MeasuredObject(Shape.RING, Color.CYAN, Size.LARGE, Row.MIDDLE, Column.RIGHT, BOX_PX)
PHOTO = PhotoMeasurement(
    Orientation.TALL,
    Brightness.DARK,
    Contrast.HIGH,
    (Tone.GREEN, Tone.BROWN),
    {Side.LEFT: Tone.GREEN, Side.RIGHT: Tone.GREEN, Side.TOP: Tone.WHITE, Side.BOTTOM: Tone.BROWN},
    Side.TOP,
)


def measured(*objects: MeasuredObject, word: MeasuredWord | None = None) -> SceneMeasurement:
    return SceneMeasurement(BackgroundColor.NAVY, Texture.STRIPES, objects, word)


def test_equal_requests_get_equal_words() -> None:
    assert write_caption(measured(STAR, RING), PROMPTS[0], "a") == write_caption(measured(STAR, RING), PROMPTS[0], "a")


def test_spaces_in_a_prompt_make_no_difference() -> None:
    assert write_caption(PHOTO, "Describe  it.\n", "a") == write_caption(PHOTO, "Describe it.", "a")


def test_captions_of_one_measurement_differ_from_picture_to_picture() -> None:
    assert len({write_caption(measured(STAR, RING), PROMPTS[0], str(key)) for key in range(40)}) > 20


def test_prompts_choose_the_style() -> None:
    assert [choose_style(prompt) for prompt in PROMPTS] == [Style.SURVEY, Style.TOUR, Style.INVENTORY]


def test_all_that_was_measured_is_told() -> None:
    for prompt in PROMPTS:
        caption = write_caption(measured(STAR, RING, word=MeasuredWord("CAFE", Row.BOTTOM)), prompt, "key").lower()
        told = ("two ", "small pink star", "large cyan ring", "top left", "middle right", '"cafe"', "bottom", "navy")
        assert [part for part in (*told, "striped") if part not in caption] == []


def test_related_objects_lie_in_different_rows_or_columns() -> None:
    below = MeasuredObject(Shape.CROSS, Color.RED, Size.SMALL, Row.BOTTOM, Column.LEFT, BOX_PX)
    captions = [write_caption(measured(STAR, below), PROMPTS[0], str(key)) for key in range(30)]
    assert not any("left of" in caption or "right of" in caption for caption in captions)
    assert any("pink star is above the red cross" in caption for caption in captions)
    assert any("red cross is below the pink star" in caption for caption in captions)


def test_scene_captions_have_a_length_that_a_small_captioner_learns() -> None:
    captions = [
        write_caption(measure(draw(scene(3, number))), PROMPTS[number % 3], str(number)) for number in range(60)
    ]
    assert all(18 <= len(caption.split()) <= 75 for caption in captions)


def test_photographs_are_told_in_four_sentences() -> None:
    caption = write_caption(PHOTO, PROMPTS[0], "key")
    assert caption.count(".") == 4
    assert [part for part in ("tall", "dark", "high contrast", "green and brown", "top") if part not in caption] == []
