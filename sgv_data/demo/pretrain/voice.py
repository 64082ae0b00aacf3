"""The words of the base model's captions: several for each thing, and which words carry the claims.

Every caption has a voice: one word for each thing, drawn from several. So the model learns what the words have in
common rather than the words, and a teacher's wording is easily put in their place.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from sgv_data.demo.photo import Brightness, Contrast, Tone
from sgv_data.demo.scenes import WORDS, BackgroundColor, Color, Column, Row, Shape, Size, Texture

PROMPTS = (
    "Describe this picture in detail.",
    "Describe this picture.",
    "Describe the picture plainly.",
    "What is shown here?",
    "What do you see?",
    "List what is in the picture.",
    "Catalogue this image.",
    "Tell me about this picture, with colors and places.",
    "Write a caption.",
    "Count the shapes and say where they are.",
)

SYNONYMS: dict[str, tuple[str, ...]] = {
    Shape.CIRCLE: ("circle", "disc", "disk", "dot", "ball"),
    Shape.SQUARE: ("square", "box", "block"),
    Shape.TRIANGLE: ("triangle", "wedge"),
    Shape.CROSS: ("cross", "plus"),
    Shape.RING: ("ring", "hoop", "donut"),
    Color.RED: ("red", "crimson", "scarlet"),
    Color.YELLOW: ("yellow", "golden"),
    Color.GREEN: ("green", "emerald"),
    Color.CYAN: ("cyan", "turquoise", "teal", "aqua"),
    Color.BLUE: ("blue", "azure"),
    Color.PURPLE: ("purple", "violet"),
    Color.PINK: ("pink", "rose"),
    Size.SMALL: ("small", "little", "tiny"),
    Size.LARGE: ("large", "big", "huge"),
    Column.CENTER: ("center", "centre"),
    Row.TOP: ("top", "upper"),
    Row.MIDDLE: ("middle", "central", "centre"),
    Row.BOTTOM: ("bottom", "lower"),
    Texture.PLAIN: ("plain", "flat", "solid", "uniform"),
    Texture.GRADIENT: ("shaded", "fading", "gradient"),
    Texture.STRIPES: ("striped", "stripy"),
    Texture.SPECKLE: ("speckled", "grainy"),
    BackgroundColor.LIGHT_GRAY: ("light gray", "light grey"),
    BackgroundColor.DARK_GRAY: ("dark gray", "dark grey"),
    BackgroundColor.CREAM: ("cream", "beige"),
    BackgroundColor.NAVY: ("navy", "dark blue"),
    Tone.GRAY: ("gray", "grey"),
    Brightness.VERY_DARK: ("gloomy",),
    Brightness.DARK: ("dim",),
    Brightness.MEDIUM: ("half light",),
    Brightness.BRIGHT: ("light",),
    Brightness.VERY_BRIGHT: ("glaring",),
    Contrast.LOW: ("faint",),
    Contrast.MEDIUM: ("fair",),
    Contrast.HIGH: ("stark",),
    "items": ("shapes", "objects", "items", "figures", "things", "elements"),
    "item": ("shape", "object", "item", "figure", "thing", "element"),
    "backdrop": ("background", "backdrop", "ground"),
    "lettering": ("lettering", "reads", "text"),
}

_ORDINARY_WORDS = """
A Across An At Behind In Its Large Most Nothing On One Small The There This Three Two Four Above Below Describe
a about above across all also an and are as at background below beside between both bottom bright brightness brightest
by center color colors contrast corner dark drawn else every everything four from gray has high how image in is it its
kind large left letters lie lies light little low main medium middle more mostly next no nothing object objects of on
one other over overall photograph photo picture pictures place plain position printed prevails rather read reads right
runs say see shaded shape shapes show shows shown sits size small soft speckled square strong striped tall that the
there three to top two under very what where which whole wide with word words you balanced large
"""
_REPEATED = 40
_PLAIN_SHARE = 0.4


class Voice:
    """One way to speak: the same word for the same thing throughout."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._chosen: dict[str, str] = {}

    def say(self, meaning: str) -> str:
        """The word for a value of the scenes' closed sets or another meaning; what has no synonym says itself."""
        if meaning not in self._chosen:
            self._chosen[meaning] = self._choose(SYNONYMS.get(meaning, (str(meaning),)))
        return self._chosen[meaning]

    def _choose(self, words: tuple[str, ...]) -> str:
        """The first word, which is the plainest, half of the time."""
        return words[0] if self.rng.random() < _PLAIN_SHARE else self.rng.choice(words)


def claim_words() -> frozenset[str]:
    """The words in which captions differ from picture to picture, in small letters; digits stand for counts."""
    meanings = [*Shape, *Color, *Size, *Row, *Column, *BackgroundColor, *Texture, *Brightness, *Contrast, *Tone]
    said = [word for meaning in meanings for word in SYNONYMS.get(meaning, (str(meaning),))]
    relations = ["over", "under", "beneath", "above", "below"]
    return frozenset(part for word in [*said, *WORDS, *relations, *"1234"] for part in word.lower().split())


def tokenizer_texts(captions: list[str], english: list[str]) -> Iterator[str]:
    """What the tokenizer learns its words from: the captions, ordinary English, and words that should stay whole."""
    yield from captions
    yield from english
    values = [*Shape, *Color, *Size, *Row, *Column, *BackgroundColor, *Texture, *Tone]
    spoken = [word for words in SYNONYMS.values() for word in words]
    whole = sorted({*_ORDINARY_WORDS.split(), *spoken, *(str(value) for value in values), *WORDS})
    for _ in range(_REPEATED):
        yield from (f" {word}" for word in whole)
        yield from (f' "{word}"' for word in WORDS)
        yield from PROMPTS


def claim_spans(text: str, words: frozenset[str]) -> list[tuple[int, int]]:
    """Where the claim words of a caption begin and end, in characters."""
    return [found.span() for found in re.finditer(r"\w+", text) if found[0].lower() in words]
