"""The words that captions use for shapes, colours, sizes, places and backgrounds, each with the value it stands for."""

from __future__ import annotations

from sgv_data.demo.scenes import BackgroundColor, Color, Column, Row, Shape, Size, Texture


def _spoken(values: dict[str, str]) -> dict[str, str]:
    """From every spoken word to the value it stands for; `values` lists the words of each value."""
    return {word: value for value, words in values.items() for word in words.split()}


SHAPES = _spoken(
    {
        Shape.CIRCLE: "circle disc disk dot ball",
        Shape.SQUARE: "square box block",
        Shape.TRIANGLE: "triangle wedge",
        Shape.STAR: "star",
        Shape.CROSS: "cross plus",
        Shape.RING: "ring hoop donut doughnut",
    }
)
COLORS = _spoken(
    {
        Color.RED: "red crimson scarlet",
        Color.ORANGE: "orange",
        Color.YELLOW: "yellow golden",
        Color.GREEN: "green emerald",
        Color.CYAN: "cyan turquoise teal aqua",
        Color.BLUE: "blue azure",
        Color.PURPLE: "purple violet",
        Color.PINK: "pink rose",
    }
)
SIZES = _spoken({Size.SMALL: "small little tiny", Size.LARGE: "large big huge"})
TEXTURES = _spoken(
    {
        Texture.PLAIN: "plain solid flat uniform",
        Texture.GRADIENT: "shaded gradient fading",
        Texture.STRIPES: "striped stripes stripy",
        Texture.SPECKLE: "speckled speckles speckle grainy",
    }
)
OUTER_ROWS = _spoken({Row.TOP: "top upper", Row.BOTTOM: "bottom lower"})
OUTER_COLUMNS = _spoken({Column.LEFT: "left", Column.RIGHT: "right"})
CENTERS = frozenset(("center", "centre", "middle", "central"))
PLACES = frozenset(OUTER_ROWS) | frozenset(OUTER_COLUMNS) | CENTERS
BACKGROUND_COLORS = _spoken({color: color.replace(" ", "_") for color in BackgroundColor}) | {
    "beige": BackgroundColor.CREAM,
    "dark_blue": BackgroundColor.NAVY,
}
