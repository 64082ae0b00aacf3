from __future__ import annotations

import pytest

from sgv_data.demo.claims import Claim, ClaimKind, Noun, parse_claims
from sgv_data.demo.photo import Brightness, Contrast, Orientation, PhotoMeasurement, Side, Tone
from sgv_data.demo.wording import write_caption


def objects(text: str) -> list[str]:
    """What is claimed of each object, in one line each: size, colour, shape, place."""
    order = (ClaimKind.SIZE, ClaimKind.COLOR, ClaimKind.SHAPE, ClaimKind.POSITION)
    found: dict[int, dict[ClaimKind, str]] = {}
    for claim in parse_claims(text):
        if claim.mention is not None:
            found.setdefault(claim.mention, {})[claim.kind] = claim.value
    return [" ".join(values.get(kind, "-") for kind in order) for values in found.values()]


def values(text: str, kind: ClaimKind) -> list[str]:
    return [claim.value for claim in parse_claims(text) if claim.kind is kind]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A large red circle is in the top left.", ["large red circle top left"]),
        ("In the bottom right corner there is a small blue square.", ["small blue square bottom right"]),
        ("In the very center sits a tiny violet disc.", ["small purple circle middle center"]),
        ("At the middle left is a big star.", ["large - star middle left"]),
        ("A pink ring sits at the top.", ["- pink ring top"]),
        ("On the left side of the picture is a green cross.", ["- green cross left"]),
        ("A star, small and orange, lies in the lower right.", ["small orange star bottom right"]),
        ("The upper-left cell has a cyan hoop.", ["- cyan ring top left"]),
        ("The circle is large. The circle is red.", ["large red circle -"]),
        (
            "A large red circle is in the top left, and a small blue square is in the center.",
            ["large red circle top left", "small blue square middle center"],
        ),
        (
            "At the top center is a small red star, and at the bottom left sits a large pink ring.",
            ["small red star top center", "large pink ring bottom left"],
        ),
        ("A red circle is above a blue square.", ["- red circle -", "- blue square -"]),
        (
            "In the top left, a small red circle, and in the center, a large blue square.",
            ["small red circle top left", "large blue square middle center"],
        ),
        ("A yellow triangle and a green star are shown.", ["- yellow triangle -", "- green star -"]),
    ],
)
def test_objects(text: str, expected: list[str]) -> None:
    assert objects(text) == expected


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Three shapes lie on a plain white background.", ["3"]),
        ("There is a single object in the picture.", ["1"]),
        ("The picture shows 4 different shapes.", ["4"]),
        ("There are no objects.", ["0"]),
        ("A red circle is in the top left.", []),
    ],
)
def test_count(text: str, count: list[str]) -> None:
    assert values(text, ClaimKind.COUNT) == count


@pytest.mark.parametrize(
    ("text", "background"),
    [
        ("The background is plain white.", ["white", "plain"]),
        ("The background is light grey and speckled.", ["light gray", "speckle"]),
        ("Two shapes lie on a striped pale blue background.", ["pale blue", "stripes"]),
        ("On a shaded dark gray backdrop there is one shape.", ["dark gray", "gradient"]),
        ("It lies on a blue background.", ["blue"]),
        ("The white circle is small.", []),
    ],
)
def test_background(text: str, background: list[str]) -> None:
    assert values(text, ClaimKind.BACKGROUND) == background


@pytest.mark.parametrize(
    ("text", "word", "row"),
    [
        ('The word "CAFE" is printed across the top.', ["CAFE"], ["top"]),
        ('Across the bottom runs the word "Milk".', ["MILK"], ["bottom"]),
        ("Large letters in the middle read ZERO.", ["ZERO"], ["middle"]),
        ("There is a word.", [], []),
    ],
)
def test_word(text: str, word: list[str], row: list[str]) -> None:
    assert values(text, ClaimKind.WORD) == word
    assert values(text, ClaimKind.POSITION) == row
    assert objects(text) == []


@pytest.mark.parametrize(
    ("text", "direction", "nouns"),
    [
        ("The red circle is left of the blue square.", "left of", (("circle", "red"), ("square", "blue"))),
        ("The star is to the right of the ring.", "right of", (("star", None), ("ring", None))),
        ("The pink cross lies beneath the cyan star.", "below", (("cross", "pink"), ("star", "cyan"))),
        ("The red circle is above the blue.", "above", ()),
    ],
)
def test_relation(text: str, direction: str, nouns: tuple[tuple[str, str | None], ...]) -> None:
    expected = Claim(ClaimKind.RELATION, direction, nouns=tuple(Noun(*noun) for noun in nouns))
    assert parse_claims(text) == [expected]


def test_what_is_said_twice_about_the_picture_counts_once() -> None:
    assert values("The background is white. The background is white.", ClaimKind.BACKGROUND) == ["white"]


@pytest.mark.parametrize("text", ["", "...", "I am sorry, I cannot help with that.", "left left left of of", "top 5"])
def test_other_text_claims_nothing(text: str) -> None:
    assert parse_claims(text) == []


def test_captions_of_photographs_claim_nothing_of_drawings() -> None:
    sides = dict.fromkeys(Side, Tone.BLUE) | {Side.TOP: Tone.RED}
    photo = PhotoMeasurement(
        Orientation.SQUARE, Brightness.DARK, Contrast.LOW, (Tone.BLUE, Tone.PINK), sides, Side.LEFT
    )
    assert [parse_claims(write_caption(photo, "Describe it.", str(key))) for key in range(20)] == [[]] * 20
