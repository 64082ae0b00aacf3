"""How the work goes: what it waits for, how fast it is, and when it will be done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sgv_data.expand.engine import Load
from sgv_data.progress import Panel, Progress

FORECAST_FROM = 200
"""Captions after which there is a forecast: the first batches are slower than those that follow."""

_SECONDS_BETWEEN_PANELS = 1.0


@dataclass(slots=True)
class Gauge:
    """Counts for one engine. `num_left`: pictures still to be described when it begins; `workers`: processes that read
    and decode."""

    progress: Progress
    num_left: int
    workers: int
    clock: Callable[[], float] = time.monotonic
    num_described: int = 0
    num_tokens: int = 0
    num_ended: int = 0
    read_s: float = 0.0
    decode_s: float = 0.0
    write_s: float = 0.0
    _started: float = field(init=False)
    _shown: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self._shown = self.clock()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return max(self.clock() - self._started, 1e-9)

    def opened(self, read_s: float, decode_s: float) -> None:
        """A worker process has opened a picture."""
        self.read_s += read_s
        self.decode_s += decode_s

    def answered(self, num_tokens: int) -> None:
        """The engine has answered, be it for the last time or not."""
        self.num_described += 1
        self.num_tokens += num_tokens

    def wrote(self, seconds: float) -> None:
        """A unit was stored."""
        self.write_s += seconds

    def ended(self, load: Load) -> None:
        """A picture has its end."""
        self.num_ended += 1
        rate = f"{self.num_ended / self.seconds:.1f} captions/s"
        self.progress.advance(1, rate)
        now = self.clock()
        if self.num_ended >= FORECAST_FROM and now - self._shown >= _SECONDS_BETWEEN_PANELS:
            self._shown = now
            self.progress.show(self.panel(load))

    def bottleneck(self, load: Load) -> str:
        """The side that the others wait for: reading, decoding, model or writing."""
        if self.write_s > load.model_s and self.write_s > load.waiting_s:
            return "writing"
        if load.waiting_s <= load.model_s:
            return "model"
        return "reading" if self.read_s > self.decode_s else "decoding"

    def panel(self, load: Load) -> Panel:
        """The forecast, and what the engine waits for."""
        bottleneck = self.bottleneck(load)
        halved = f", halved {load.num_halved} x for want of memory" if load.num_halved else ""
        more = (
            ("tokens", f"{self.num_tokens / self.seconds:,.0f}/s"),
            ("waits for", f"{bottleneck}: model {load.model_s:.0f} s, waiting for pictures {load.waiting_s:.0f} s, "
                          f"writing {self.write_s:.1f} s"),
            ("at once", f"up to {load.peak_batch}{halved}"),
        )  # fmt: skip
        return forecast(self.num_ended, self.num_left, self.seconds, 1, more, f", waits for {bottleneck}")

    def notes(self, load: Load) -> dict[str, float | int | str | None]:
        """What the report of the stage says about it."""
        return {
            "captions_per_s": round(self.num_ended / self.seconds, 2),
            "tokens_per_s": round(self.num_tokens / self.seconds, 1),
            "waiting_for_pictures_s": round(load.waiting_s, 2),
            "model_s": round(load.model_s, 2),
            "reading_s": round(self.read_s, 2),
            "decoding_s": round(self.decode_s, 2),
            "writing_s": round(self.write_s, 2),
            "bottleneck": self.bottleneck(load),
            "peak_batch": load.peak_batch,
        }


def forecast(
    num_done: int, num_all: int, seconds: float, num_engines: int, more: tuple[tuple[str, str], ...] = (),
    more_line: str = "",
) -> Panel:  # fmt: skip
    """How long `num_all` captions take, and what that costs in hours of the engines' devices, by those so far."""
    rate = num_done / seconds
    left_s = max(0, num_all - num_done) / rate
    hours = (seconds + left_s) / 3600 * num_engines
    rows = (
        ("captions", f"{num_done:,} of {num_all:,}"),
        ("speed", f"{rate:.1f} captions/s" + (f" with {num_engines} engines" if num_engines > 1 else "")),
        ("still takes", _span(left_s)),
        ("cost", f"{hours:.2f} device hours in all, {hours * 1000 / max(num_all, 1):.3f} per 1,000 captions"),
        *more,
    )
    line = f"expand: {num_done:,} of {num_all:,} captions, {rate:.1f}/s, still takes {_span(left_s)}{more_line}"
    return Panel("expand", rows, line, num_done / max(num_all, 1))


def _span(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
