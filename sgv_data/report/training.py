"""What the page tells about the training besides its losses: speed, and what the captioner said on the way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sgv_data.records import StageReport

_SHOWN_CHARS = 400


@dataclass(frozen=True, slots=True)
class Said:
    """A held-out sample: what was wanted, and what the captioner wrote at the first and at the last evaluation."""

    wanted: str
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """Name and value of what is known, and the samples. `first_step`, `last_step`: of the two evaluations."""

    rows: tuple[tuple[str, str], ...]
    said: tuple[Said, ...]
    first_step: int
    last_step: int


def read_training(folder: Path, report: StageReport) -> TrainingFacts:
    """The facts of a finished training in `folder`."""
    first, last = 0, 0
    by_step: dict[int, dict[int, tuple[str, str]]] = {}
    path = folder / "samples-during.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        row = json.loads(line)
        by_step.setdefault(row["step"], {})[row["sample"]] = (row["wanted"], row["written"])
    said: list[Said] = []
    if by_step:
        first, last = min(by_step), max(by_step)
        said = [
            Said(_short(wanted), _short(by_step[first].get(number, ("", ""))[1]), _short(written))
            for number, (wanted, written) in sorted(by_step[last].items())
        ]
    return TrainingFacts(tuple(_rows(report)), tuple(said), first, last)


def _rows(report: StageReport) -> list[tuple[str, str]]:
    notes, rows = report.notes, []
    forms = {
        "steps": ("steps", "{:,.0f}"), "tokens": ("tokens", "{:,.0f}"),
        "tokens_per_s": ("tokens per second", "{:,.0f}"),
        "mfu": ("model FLOP utilisation", "{:.1%}"), "processes": ("processes", "{:,.0f}"),
        "lora_difference": ("largest change of a log probability by merging", "{:.2g}"),
        "samples_without_loss": ("samples that could not be used", "{:,.0f}"),
    }  # fmt: skip
    for name, (label, form) in forms.items():
        value = notes.get(name)
        if isinstance(value, int | float):
            rows.append((label, form.format(value)))
    return [*rows, *((reason.replace("_", " "), f"{count:,}") for reason, count in report.rejected.items())]


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
