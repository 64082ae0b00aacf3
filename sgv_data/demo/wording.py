"""From measurements to prose: the captions of the demo's teacher.

The prompt decides the style: what comes first and how an object is introduced. Which of several phrases is used for
each statement is decided by a hash of prompt and picture: the same request gives the same words, and captions are not
one template.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from sgv_data.demo.measure import MeasuredObject, MeasuredWord, SceneMeasurement
from sgv_data.demo.photo import Brightness, Contrast, Orientation, PhotoMeasurement, Side, Tone
from sgv_data.demo.scenes import Column, Row, Texture

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
TEXTURE_WORDS = {
    Texture.PLAIN: "plain",
    Texture.GRADIENT: "shaded",
    Texture.STRIPES: "striped",
    Texture.SPECKLE: "speckled",
}


class Style(StrEnum):
    """How a caption is laid out."""

    SURVEY = "survey"  # number and background in one sentence, then each object
    TOUR = "tour"  # place first: "In the top left there is ..."
    INVENTORY = "inventory"  # number, objects, and the background at the end


_STYLE_WORDS = re.compile(
    r"\b((?P<places>where|positions?|layout|arrangement)|(?P<numbers>count(?:ing)?|how many|list|inventory))\b",
    re.IGNORECASE,
)


class Choices:
    """A stream of choices drawn from the hash of a seed text."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._drawn = 0

    def pick(self, options: tuple[str, ...]) -> str:
        return options[self.number(len(options))]

    def number(self, below: int) -> int:
        self._drawn += 1
        digest = hashlib.sha256(f"{self._seed}\n{self._drawn}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % below


@dataclass(frozen=True, slots=True)
class _Sentences:
    count: str
    background: str
    objects: list[str]
    relation: list[str]
    word: list[str]


def write_caption(measurement: SceneMeasurement | PhotoMeasurement, prompt: str, picture_key: str) -> str:
    """The caption for a measured picture. `picture_key` tells pictures apart, such as a hash of their bytes."""
    prompt = " ".join(prompt.split())
    choices = Choices(f"{prompt}\n{picture_key}")
    if isinstance(measurement, PhotoMeasurement):
        return " ".join(_photo_sentences(measurement, choices))
    return _write_scene(measurement, choose_style(prompt), choices)


def choose_style(prompt: str) -> Style:
    """The style that a prompt asks for: the first word about places or about numbers decides, if it has one."""
    asked = _STYLE_WORDS.search(prompt)
    if asked is None:
        return Style.SURVEY
    return Style.TOUR if asked["places"] else Style.INVENTORY


def _write_scene(scene: SceneMeasurement, style: Style, choices: Choices) -> str:
    parts = _Sentences(
        count=_count_sentence(scene, choices),
        background=_background_sentence(scene, choices),
        objects=[*_object_sentences(scene.objects, style, choices), *_nothing_else(scene, choices)],
        relation=_relation_sentence(scene.objects, choices),
        word=[] if scene.word is None else [_word_sentence(scene.word, choices)],
    )
    if style is Style.SURVEY:
        opening = _count_on_background_sentence(scene, choices)
        return " ".join([opening, *parts.objects, *parts.word, *parts.relation])
    if style is Style.TOUR:
        return " ".join([parts.background, *parts.word, parts.count, *parts.objects, *parts.relation])
    return " ".join([parts.count, *parts.objects, *parts.relation, *parts.word, parts.background])


def _num_shapes(scene: SceneMeasurement, noun: str) -> str:
    num_objects = len(scene.objects)
    number = NUMBER_WORDS[num_objects] if num_objects < len(NUMBER_WORDS) else str(num_objects)
    return f"{number} {noun}" if num_objects == 1 else f"{number} {noun}s"


def _count_sentence(scene: SceneMeasurement, choices: Choices) -> str:
    shapes = _num_shapes(scene, choices.pick(("shape", "object")))
    be = "is" if len(scene.objects) == 1 else "are"
    return choices.pick(
        (f"There {be} {shapes} in the picture.", f"The picture shows {shapes}.", f"The picture has {shapes} in it.")
    )


def _count_on_background_sentence(scene: SceneMeasurement, choices: Choices) -> str:
    shapes = _num_shapes(scene, choices.pick(("shape", "object")))
    single = len(scene.objects) == 1
    ground = f"a {TEXTURE_WORDS[scene.background_texture]} {scene.background_color} background"
    opening = choices.pick(
        (
            f"{shapes} {'lies' if single else 'lie'} on {ground}.",
            f"{shapes} {'is' if single else 'are'} drawn on {ground}.",
            f"on {ground} there {'is' if single else 'are'} {shapes}.",
        )
    )
    return opening[0].upper() + opening[1:]


def _background_sentence(scene: SceneMeasurement, choices: Choices) -> str:
    color, texture = scene.background_color, TEXTURE_WORDS[scene.background_texture]
    return choices.pick(
        (
            f"The background is {texture} {color}.",
            f"The background is {color} and {texture}.",
            f"Behind everything is a {texture} {color} background.",
        )
    )


def _place(row: Row, column: Column, choices: Choices) -> str:
    if row is Row.MIDDLE and column is Column.CENTER:
        return choices.pick(("in the center", "in the very center"))
    if row is not Row.MIDDLE and column is not Column.CENTER and choices.number(3) == 0:
        return f"in the {row} {column} corner"
    return choices.pick((f"in the {row} {column}", f"at the {row} {column}"))


def _object_sentences(objects: tuple[MeasuredObject, ...], style: Style, choices: Choices) -> list[str]:
    """One clause for each object; now and then two clauses share a sentence."""
    clauses = [_object_clause(item, style, choices) for item in objects]
    sentences: list[str] = []
    while clauses:
        clause = clauses.pop(0)
        if clauses and choices.number(3) == 0:
            clause = f"{clause}, and {clauses.pop(0)}"
        sentences.append(f"{clause[0].upper()}{clause[1:]}.")
    return sentences


def _object_clause(item: MeasuredObject, style: Style, choices: Choices) -> str:
    noun = f"a {item.size} {item.color} {item.shape}"
    place = _place(item.row, item.column, choices)
    if style is Style.TOUR:
        return choices.pick((f"{place} there is {noun}", f"{place} is {noun}", f"{place} sits {noun}"))
    if style is Style.INVENTORY:
        return choices.pick((f"there is {noun} {place}", f"{noun} is {place}"))
    return choices.pick((f"{noun} is {place}", f"{noun} lies {place}", f"{noun} sits {place}"))


def _nothing_else(scene: SceneMeasurement, choices: Choices) -> list[str]:
    """What closes the description of a lonely object."""
    if len(scene.objects) != 1 or scene.word is not None:
        return []
    return [choices.pick(("Nothing else is in the picture.", "There is nothing else to see."))]


def _relation_sentence(objects: tuple[MeasuredObject, ...], choices: Choices) -> list[str]:
    """How one pair of objects in different rows or columns lie to each other; empty when there is no pair."""
    if len(objects) < 2:
        return []
    first = choices.number(len(objects))
    second = (first + 1 + choices.number(len(objects) - 1)) % len(objects)
    one, other = objects[first], objects[second]
    relations = []
    if one.column is not other.column:
        side = "left" if list(Column).index(one.column) < list(Column).index(other.column) else "right"
        relations.append(choices.pick((f"{side} of", f"to the {side} of")))
    if one.row is not other.row:
        relations.append("above" if list(Row).index(one.row) < list(Row).index(other.row) else "below")
    relation = choices.pick(tuple(relations))
    return [f"The {one.color} {one.shape} is {relation} the {other.color} {other.shape}."]


def _word_sentence(word: MeasuredWord, choices: Choices) -> str:
    return choices.pick(
        (
            f'The word "{word.text}" is printed across the {word.row}.',
            f'Across the {word.row} runs the word "{word.text}".',
            f'Large letters across the {word.row} read "{word.text}".',
        )
    )


_ORIENTATION_WORDS = {
    Orientation.VERY_WIDE: "very wide",
    Orientation.WIDE: "wide",
    Orientation.SQUARE: "square",
    Orientation.TALL: "tall",
    Orientation.VERY_TALL: "very tall",
}
_BRIGHTNESS_WORDS = {
    Brightness.VERY_DARK: "very dark",
    Brightness.DARK: "rather dark",
    Brightness.MEDIUM: "of medium brightness",
    Brightness.BRIGHT: "bright",
    Brightness.VERY_BRIGHT: "very bright",
}
_CONTRAST_WORDS = {
    Contrast.LOW: "soft, with little contrast",
    Contrast.MEDIUM: "balanced, with medium contrast",
    Contrast.HIGH: "strong, with high contrast",
}


def _photo_sentences(photo: PhotoMeasurement, choices: Choices) -> list[str]:
    shape, light = _ORIENTATION_WORDS[photo.orientation], _BRIGHTNESS_WORDS[photo.brightness]
    opening = choices.pick(
        (
            f"This is a {shape} photograph, {light} on the whole.",
            f"A {shape} photograph, {light} over all.",
            f"The photograph is {shape} and {light}.",
        )
    )
    light_sentence = f"The light is {_CONTRAST_WORDS[photo.contrast]}"
    if photo.brightest_side is not None:
        light_sentence += f", and it is brightest {_side_place(photo.brightest_side)}"
    colors = [_colors_sentence(photo.colors, choices), _sides_sentence(photo, choices)]
    if choices.number(2):
        return [opening, f"{light_sentence}.", *colors]
    return [opening, *colors, f"{light_sentence}."]


def _colors_sentence(colors: tuple[Tone, ...], choices: Choices) -> str:
    if len(colors) == 1:
        return choices.pick((f"Most of it is {colors[0]}.", f"Its main color is {colors[0]}."))
    listed = f"{', '.join(colors[:-1])} and {colors[-1]}"
    return choices.pick((f"Its main colors are {listed}.", f"Most of it is in {listed}."))


def _sides_sentence(photo: PhotoMeasurement, choices: Choices) -> str:
    """The colours of two opposite sides: the pair that differs, where one does."""
    pairs = [(Side.TOP, Side.BOTTOM), (Side.LEFT, Side.RIGHT)]
    different = [pair for pair in pairs if photo.side_colors[pair[0]] is not photo.side_colors[pair[1]]]
    if not different:
        one, other = pairs[choices.number(2)]
        return f"The {one} and the {other} are both mostly {photo.side_colors[one]}."
    one, other = different[choices.number(len(different))]
    color, other_color = photo.side_colors[one], photo.side_colors[other]
    return choices.pick(
        (
            f"The {one} is mostly {color} and the {other} mostly {other_color}.",
            f"{color.capitalize()} prevails {_side_place(one)}, {other_color} {_side_place(other)}.",
        )
    )


def _side_place(side: Side) -> str:
    return f"at the {side}" if side in (Side.TOP, Side.BOTTOM) else f"on the {side}"
