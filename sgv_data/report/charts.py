"""Charts as SVG text to be put inside a page: equal numbers give equal text, colours follow the page's theme."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sgv_data.records import CaptionSet
from sgv_data.report.collecting import Speed
from sgv_data.report.summary import TrainingStep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# matplotlib knows no CSS: it draws in these colours, which are then replaced by the page's own.
_INK, _TEACHER, _STUDENT = "#010203", "#010204", "#010205"
_THEME = {_INK: "currentColor", _TEACHER: "var(--first)", _STUDENT: "var(--second)"}
_STYLE: dict[str, Any] = {
    "svg.hashsalt": "sgv_data", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
    "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "none", "axes.facecolor": "none",
    "legend.frameon": False,
}  # fmt: skip
_WIDTH_IN, _HEIGHT_IN = 5.2, 2.9
_NUM_BINS = 40
_TIME_UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))
_LABELS = {CaptionSet.TEACHER: ("teacher", _TEACHER), CaptionSet.STUDENT: ("captioner", _STUDENT)}


def length_chart(num_words: dict[CaptionSet, Counter[int]]) -> str | None:
    """Histogram of caption lengths in words, each set as a share of its own captions; None without captions."""
    sets = {each: counts for each, counts in num_words.items() if counts}
    if not sets:
        return None
    top = max(_near_top(counts) for counts in sets.values())
    width = max(1, -(-top // _NUM_BINS))
    edges = [*range(0, top + width, width), top + 2 * width]

    def paint(axes: Axes) -> None:
        for caption_set, counts in sets.items():
            name, color = _LABELS[caption_set]
            shares = _shares(counts, edges)
            axes.stairs(shares, edges, fill=True, color=color, alpha=0.28)
            axes.stairs(shares, edges, color=color, linewidth=1.6, label=f"{name} ({counts.total():,})")
        axes.set_xlim(0, edges[-1])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("words in a caption (longer ones in the last bar)")
        axes.set_ylabel("share of captions")
        axes.legend(loc="upper right")

    return _draw(paint)


def _near_top(counts: Counter[int]) -> int:
    """Where the axis ends: a few monsters must not flatten the picture."""
    return max(1, min(_length_at(counts, 0.995), 2 * _length_at(counts, 0.9)))


def _length_at(counts: Counter[int], share: float) -> int:
    """The length in words that this share of the captions does not exceed."""
    passed = 0
    for num_words in sorted(counts):
        passed += counts[num_words]
        if passed >= share * counts.total():
            return num_words
    return 0


def _shares(counts: Counter[int], edges: Sequence[int]) -> list[float]:
    bins = [0] * (len(edges) - 1)
    width = edges[1] - edges[0]
    for num_words, count in counts.items():
        bins[min(num_words // width, len(bins) - 1)] += count
    return [count / counts.total() for count in bins]


def loss_chart(steps: Sequence[TrainingStep]) -> str | None:
    """Training and held-out loss over steps; None without any."""
    if not steps:
        return None

    def paint(axes: Axes) -> None:
        for held_out, label, color in ((False, "trained on", _TEACHER), (True, "held out", _STUDENT)):
            points = [(step.step, step.loss) for step in steps if step.held_out is held_out]
            if points:
                xs, ys = zip(*points, strict=True)
                axes.plot(xs, ys, color=color, linewidth=1.6, marker="o" if held_out else "", markersize=4, label=label)
        axes.set_xlabel("step")
        axes.set_ylabel("loss per token")
        axes.legend(loc="upper right")

    return _draw(paint)


def speed_chart(speed: Sequence[Speed]) -> str | None:
    """Pictures per second over the time at work, a line per command; None where nothing was seen twice."""
    span_s = speed[-1].at_s if speed else 0.0
    if span_s <= 0:
        return None
    unit, unit_s = next(each for each in _TIME_UNITS if span_s >= 2 * each[1] or each[1] == 1)

    def paint(axes: Axes) -> None:
        for command in sorted({point.command for point in speed}):
            points = [point for point in speed if point.command == command]
            xs, ys = [point.at_s / unit_s for point in points], [point.per_s for point in points]
            axes.fill_between(xs, ys, color=_TEACHER, alpha=0.18, linewidth=0)
            axes.plot(xs, ys, color=_TEACHER, linewidth=1.6)
            if command:
                axes.axvline(xs[0], color=_INK, alpha=0.35, linewidth=0.8, linestyle=":")
        axes.set_xlim(0, span_s / unit_s)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"{unit} at work")
        axes.set_ylabel("pictures per second")

    return _draw(paint)


def _draw(paint: Any) -> str:
    """One chart as an `svg` element without fixed size, dates or ids of its groups."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        paint(axes)
        axes.grid(axis="y", color=_INK, alpha=0.12, linewidth=0.8)
        axes.set_axisbelow(True)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    return _inline(file.getvalue())


def _inline(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|width|height|version)="[^"]*"', "", svg, count=5)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font: (\d+)px[^;\"]*", r"font-size: \1px", svg)
    for drawn, themed in _THEME.items():
        svg = svg.replace(drawn, themed)
    return svg.strip()
