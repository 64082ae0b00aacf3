"""The numbers of a run, without any rendering: for the page and for the table at the end of `sgv run`.

Read from the records and, for money and tokens, from three columns of the caption tables: quick on a finished run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from sgv_data.manifest import Manifest
from sgv_data.records import StageRecord, StageReport
from sgv_data.report.accuracy import AccuracyTable, read_accuracy
from sgv_data.report.training import TrainingFacts, read_training
from sgv_data.run_folder import RunFolder
from sgv_data.tables import table_files

ACCURACY = "accuracy.json"
PAGE = "index.html"


@dataclass(frozen=True, slots=True)
class Spending:
    """What the teacher used. `cost_usd` is None where no price is known."""

    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """A line of the training log: the loss on what was trained on, or on the captions held out."""

    step: float
    loss: float
    held_out: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """All there is to tell; what has not run is absent from `reports` and None elsewhere."""

    name: str
    active: tuple[str, ...]
    records: dict[str, StageRecord]
    reports: dict[str, StageReport]
    spending: Spending | None
    steps: tuple[TrainingStep, ...]
    accuracy: tuple[AccuracyTable, ...]
    published_to: str | None
    report_path: Path | None
    missing: tuple[str, ...] = field(default=())
    training: TrainingFacts | None = None

    @property
    def held_out_loss(self) -> float | None:
        """The last loss on captions the captioner never trained on."""
        losses = [step.loss for step in self.steps if step.held_out]
        return losses[-1] if losses else None

    def lines(self) -> Iterator[tuple[str, str]]:
        """What the table at the end of a run shows: name and value."""
        yield from _image_lines(self.reports)
        yield from _caption_lines(self.reports, "teacher", "collect", "filter-teacher")
        if self.spending is not None:
            yield "teacher's tokens", f"{self.spending.prompt_tokens:,} in, {self.spending.completion_tokens:,} out"
            cost = self.spending.cost_usd
            yield "teacher's cost", "unknown: no price for this model" if cost is None else f"${cost:,.2f}"
        if self.held_out_loss is not None:
            yield "captioner's loss on held-out captions", f"{self.held_out_loss:.3f}"
        for table in self.accuracy:
            yield f"right statements, {table.title}", table.sentence
        yield from _caption_lines(self.reports, "captioner", "expand", "filter-student")
        if (shard := self.reports.get("shard")) is not None:
            yield "samples", f"{shard.num_out:,} in {shard.notes.get('shards', '?')} shards, {_size(shard)}"
        if self.published_to is not None and "publish" in self.reports:
            yield "published to", self.published_to if self.reports["publish"].num_out else "nothing to publish"
        if self.report_path is not None:
            yield "report", str(self.report_path)
        for stage in self.missing:
            yield stage, "not run yet"


def summarize(manifest: Manifest, run_folder: RunFolder, active: tuple[str, ...]) -> Summary:
    """The summary of a run, finished or not.

    Raises:
        RunFolderError: if a record cannot be read.
    """
    made = tuple(name for name in active if name != "report")
    records = {name: record for name in made if (record := run_folder.record(name)) is not None}
    reports = {name: record.report for name, record in records.items() if record.report is not None}
    page = run_folder.stage("report") / PAGE
    return Summary(
        name=manifest.name,
        active=active,
        records=records,
        reports=reports,
        spending=_spending(run_folder.stage("collect")) if "collect" in reports else None,
        steps=tuple(read_steps(run_folder.stage("train") / "metrics.jsonl")) if "train" in reports else (),
        accuracy=read_accuracy(run_folder.stage("report") / ACCURACY),
        published_to=_published_to(manifest, run_folder),
        report_path=page if page.is_file() else None,
        missing=tuple(name for name in made if name not in reports),
        training=read_training(run_folder.stage("train"), reports["train"]) if "train" in reports else None,
    )


def read_steps(path: Path) -> Iterator[TrainingStep]:
    """The losses in a training log; lines without one are passed over."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            values = json.loads(line) if line.strip() else {}
            for name, held_out in (("loss", False), ("eval_loss", True)):
                if isinstance(values.get(name), int | float) and isinstance(values.get("step"), int | float):
                    yield TrainingStep(float(values["step"]), float(values[name]), held_out)


def _image_lines(reports: dict[str, StageReport]) -> Iterator[tuple[str, str]]:
    if (index := reports.get("index")) is None:
        return
    yield "images in", f"{index.num_in:,}"
    yield "images usable", f"{index.num_out:,}{_because('rejected', index.rejected)}"


def _caption_lines(
    reports: dict[str, StageReport], who: str, asking: str, judging: str
) -> Iterator[tuple[str, str]]:
    if (asked := reports.get(asking)) is not None:
        yield f"{who}'s captions", f"{asked.num_out:,}{_because('failed', asked.failed)}"
    if (judged := reports.get(judging)) is not None:
        yield f"{who}'s captions kept", f"{judged.num_out:,}{_because('rejected', judged.rejected)}"


def _because(what: str, counts: dict[str, int]) -> str:
    total = sum(counts.values())
    reasons = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    return f"; {what} {total:,} ({reasons})" if total else ""


def _size(shard: StageReport) -> str:
    num_bytes = shard.notes.get("bytes")
    return f"{int(num_bytes) / 1e6:,.1f} MB" if isinstance(num_bytes, int | float) else "size unknown"


def _spending(folder: Path) -> Spending:
    prompt_tokens = completion_tokens = 0
    cost_usd, known = 0.0, False
    for path in table_files(folder, "captions"):
        columns = pq.read_table(path, columns=["prompt_tokens", "completion_tokens", "cost_usd"])
        prompt_tokens += pc.sum(columns["prompt_tokens"]).as_py() or 0
        completion_tokens += pc.sum(columns["completion_tokens"]).as_py() or 0
        known = known or columns["cost_usd"].null_count < columns.num_rows
        cost_usd += pc.sum(columns["cost_usd"]).as_py() or 0.0
    return Spending(prompt_tokens, completion_tokens, cost_usd if known else None)


def _published_to(manifest: Manifest, run_folder: RunFolder) -> str | None:
    if manifest.publish is None:
        return None
    target = manifest.publish.to.removeprefix("file://")
    return str(run_folder.root / target) if manifest.publish.to.startswith("file://") else manifest.publish.to
