from __future__ import annotations

import re
from collections import Counter

from sgv_data.records import CaptionSet
from sgv_data.report.charts import length_chart, loss_chart
from sgv_data.report.summary import TrainingStep

STEPS = [TrainingStep(1, 3.0, False), TrainingStep(2, 2.0, False), TrainingStep(2, 2.5, True)]


def test_without_numbers_there_is_no_chart() -> None:
    assert length_chart({CaptionSet.TEACHER: Counter()}) is None
    assert loss_chart([]) is None


def test_equal_numbers_give_equal_text() -> None:
    assert loss_chart(STEPS) == loss_chart(STEPS)
    counts = {CaptionSet.TEACHER: Counter({100: 3, 140: 5}), CaptionSet.STUDENT: Counter({90: 7})}
    assert length_chart(counts) == length_chart(counts)


def test_charts_follow_the_theme_and_name_no_address() -> None:
    chart = loss_chart(STEPS)
    assert chart is not None
    assert chart.startswith("<svg")
    assert "var(--first)" in chart
    assert "var(--second)" in chart
    assert "currentColor" in chart
    assert "http" not in chart
    assert "#01020" not in chart


def test_one_monster_does_not_stretch_the_axis() -> None:
    chart = length_chart({CaptionSet.TEACHER: Counter({100: 400, 150: 599, 2_000: 1})})
    assert chart is not None
    ticks = [int(tick) for tick in re.findall(r">(\d+)</text>", chart)]
    assert 120 <= max(ticks) <= 200


def test_a_single_empty_caption_can_be_drawn() -> None:
    assert length_chart({CaptionSet.STUDENT: Counter({0: 1})}) is not None
