"""What is said about the work: the side that the others wait for, and when it will be done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sgv_data.expand.engine import Load
from sgv_data.expand.fit import BatchSize
from sgv_data.expand.gauge import FORECAST_FROM, Gauge
from sgv_data.progress import Panel, Silent


class Watching(Silent):
    def __init__(self) -> None:
        self.panels: list[Panel] = []

    def show(self, panel: Panel) -> None:
        self.panels.append(panel)


def seconds() -> Iterator[float]:
    """A clock that moves on by a tenth of a second each time it is read."""
    now = 0.0
    while True:
        now += 0.1
        yield now


@pytest.mark.parametrize(
    ("model_s", "waiting_s", "read_s", "decode_s", "write_s", "expected"),
    [(9, 1, 5, 1, 1, "model"), (1, 9, 5, 1, 1, "reading"), (1, 9, 1, 5, 1, "decoding"), (1, 2, 1, 5, 9, "writing")],
)
def test_the_bottleneck_is_the_side_that_takes_longest(
    model_s: float, waiting_s: float, read_s: float, decode_s: float, write_s: float, expected: str
) -> None:
    gauge = Gauge(Silent(), 10, 1)
    gauge.opened(read_s, decode_s)
    gauge.wrote(write_s)

    assert gauge.bottleneck(Load(waiting_s=waiting_s, model_s=model_s)) == expected


def test_there_is_a_forecast_after_the_first_few_hundred_captions() -> None:
    watching, clock = Watching(), seconds()
    gauge = Gauge(watching, 4 * FORECAST_FROM, 1, clock=lambda: next(clock))
    for number in range(FORECAST_FROM + 20):
        if number == FORECAST_FROM - 1:
            assert not watching.panels
        gauge.ended(Load())

    facts = dict(watching.panels[0].rows)
    assert facts["captions"] == f"{FORECAST_FROM} of {4 * FORECAST_FROM}"
    assert "device hours" in facts["cost"]
    assert watching.panels[0].share_done == 0.25


def test_the_batch_halves_and_grows_again_more_and_more_carefully() -> None:
    size = BatchSize(32)
    size.fell_short(32)
    assert size.now == 16
    size.described(512)
    assert size.now == 20
    size.fell_short(20)
    assert size.now == 10
    size.described(512)
    assert size.now == 10  # the second time it fell short lower: four times the patience
    size.described(4 * 512)
    assert size.now == 12
