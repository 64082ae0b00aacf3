"""What the page says of the asking: how it ended, what it cost, how fast it went and what held it back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from sgv_data.api.calibration import Calibration
from sgv_data.api.prices import TokenPrice
from sgv_data.records import Outcome, StageReport
from sgv_data.tables import table_files

PROGRESS_LOG = "progress.jsonl"

_LIMITS = {
    "requests": "requests per minute", "tokens": "tokens per minute", "in_flight": "requests in flight",
    "pause": "pauses the server asked for", "ramp": "growing slowly", "work": "nothing: too little to do",
    "pictures": "preparing pictures",
    "rest": "a rest after faults",
}  # fmt: skip
_MOST_NAMED = 12
_MANY_TRIES = 4


class LogLine(BaseModel):
    """What is used of a line of the log; a line with more or other things in it is read too."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    at_utc: datetime
    num_done_now: int
    per_s: float
    binding: str
    faults: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Speed:
    """Pictures per second, at so many seconds of work. `command` counts the commands that collected."""

    at_s: float
    per_s: float
    command: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was predicted and what was billed for the same replies; dollars or tokens, as the name says."""

    name: str
    predicted: float
    billed: float

    @property
    def error(self) -> float | None:
        """How much more was predicted than billed, as a share of the bill."""
        return self.predicted / self.billed - 1 if self.billed else None


@dataclass(frozen=True, slots=True)
class Asking:
    """Shares are of the time that the log covers; counts of faults are of tries, all other counts of pictures."""

    outcomes: tuple[tuple[str, int], ...]
    tries: tuple[tuple[str, int], ...]
    lanes: tuple[tuple[str, int], ...]
    asked_again: tuple[tuple[str, int], ...]
    faults: tuple[tuple[str, int], ...]
    limits: tuple[tuple[str, float], ...]
    speed: tuple[Speed, ...]
    billed_usd: float | None
    num_compared: int
    predictions: tuple[Prediction, ...]

    @property
    def num_asked(self) -> int:
        """Pictures with any outcome."""
        return sum(count for _, count in self.outcomes)


def read_asking(
    folder: Path, report: StageReport | None, calibration: Calibration | None = None, price: TokenPrice | None = None
) -> Asking | None:
    """All of it from the finished stage `collect` in `folder`; None while it is not finished.

    Raises:
        RunFolderError: if its table is missing or damaged.
    """
    if report is None:
        return None
    counts = _column_counts(folder)
    log = list(read_log(folder / PROGRESS_LOG))
    faults = _faults(log)
    return Asking(
        outcomes=tuple((str(name), counts["outcome"][name]) for name in Outcome if counts["outcome"][name]),
        tries=_tries(counts["attempts"]),
        lanes=_named(counts["lane"]),
        asked_again=_named(counts["asked_again_for"]),
        faults=tuple(faults.most_common(_MOST_NAMED)),
        limits=_limits(log),
        speed=tuple(_speed(log)),
        billed_usd=_money(report, "spent_usd"),
        num_compared=calibration.num_replies if calibration else 0,
        predictions=tuple(_predictions(calibration, price)) if calibration else (),
    )


def read_log(path: Path) -> Iterator[LogLine]:
    """The lines of a progress log; what a crash cut off is passed over."""
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for line in lines:
            try:
                yield LogLine.model_validate_json(line)
            except ValidationError:
                continue


def _column_counts(folder: Path) -> dict[str, Counter[object]]:
    names = ("outcome", "attempts", "lane", "asked_again_for")
    counts: dict[str, Counter[object]] = {name: Counter() for name in names}
    for path in table_files(folder, "captions"):
        columns = pq.read_table(path, columns=list(names))
        for name in names:
            for pair in pc.value_counts(columns[name]).to_pylist():
                counts[name][pair["values"]] += pair["counts"]
    return counts


def _tries(attempts: Counter[object]) -> tuple[tuple[str, int], ...]:
    """How many pictures took one try, two, and so on; 0: answered by another picture's reply or never sent."""
    tries: Counter[int] = Counter()
    for number, count in attempts.items():
        if isinstance(number, int):
            tries[min(number, _MANY_TRIES)] += count
    names = {number: f"{number} or more" if number == _MANY_TRIES else str(number) for number in sorted(tries)}
    return tuple((name, tries[number]) for number, name in names.items())


def _named(counts: Counter[object]) -> tuple[tuple[str, int], ...]:
    return tuple((str(name), count) for name, count in counts.most_common() if name is not None)


def _predictions(found: Calibration, price: TokenPrice | None) -> Iterator[Prediction]:
    yield Prediction("tokens in", found.predicted_prompt_tokens, found.billed_prompt_tokens)
    yield Prediction("tokens out", found.predicted_output_tokens, found.billed_output_tokens)
    if price is not None:
        yield Prediction(
            "US dollars",
            price.cost_usd(found.predicted_prompt_tokens, found.predicted_output_tokens),
            price.cost_usd(found.billed_prompt_tokens, found.billed_output_tokens),
        )


def _money(report: StageReport, name: str) -> float | None:
    value = report.notes.get(name)
    return float(value) if isinstance(value, int | float) else None


def _commands(log: list[LogLine]) -> Iterator[list[LogLine]]:
    """The log cut into commands: each begins its own count."""
    command: list[LogLine] = []
    for line in log:
        if command and (line.num_done_now < command[-1].num_done_now or line.at_utc < command[-1].at_utc):
            yield command
            command = []
        command.append(line)
    if command:
        yield command


def _faults(log: list[LogLine]) -> Counter[str]:
    """Each command's last line has all its faults."""
    faults: Counter[str] = Counter()
    for command in _commands(log):
        faults.update(command[-1].faults)
    return faults


def _limits(log: list[LogLine]) -> tuple[tuple[str, float], ...]:
    """What held the asking back, by share of the time; several endpoints share a moment evenly."""
    lasted_s: dict[str, float] = {}
    for command in _commands(log):
        for before, after in pairwise(command):
            bindings = [part.partition(" at ")[0] for part in before.binding.split(", ")]
            for binding in bindings:
                seconds = (after.at_utc - before.at_utc).total_seconds() / len(bindings)
                lasted_s[binding] = lasted_s.get(binding, 0.0) + seconds
    total_s = sum(lasted_s.values())
    order = sorted(lasted_s, key=lambda name: (-lasted_s[name], name))
    return tuple((_LIMITS.get(name, name), lasted_s[name] / total_s) for name in order if lasted_s[name] > 0)


def _speed(log: list[LogLine]) -> Iterator[Speed]:
    """Over the time at work: pauses between commands are left out."""
    worked_s = 0.0
    for number, command in enumerate(_commands(log)):
        for line in command:
            yield Speed(worked_s + (line.at_utc - command[0].at_utc).total_seconds(), line.per_s, number)
        worked_s += (command[-1].at_utc - command[0].at_utc).total_seconds()
