"""The state of a run, read from disk: beside the `sgv` that works on it, or after that ended."""

from __future__ import annotations

import fcntl
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sgv_data.cli.panels import DrawnPanel
from sgv_data.cli.tables import numbers
from sgv_data.collect.panel import duration, panel_of
from sgv_data.collect.progress_log import PROGRESS_LOG, read_latest
from sgv_data.collect.snapshot import Snapshot
from sgv_data.manifest import Manifest
from sgv_data.pipeline import active_stages
from sgv_data.records import StageReport
from sgv_data.run_folder import RunFolder

_LINES_AROUND_STAGES = 5


class State(StrEnum):
    """How far a stage is."""

    DONE = "done"
    UNDER_WAY = "under way"
    INTERRUPTED = "interrupted"
    TO_DO = "to do"


_SAID = {State.UNDER_WAY: "under way since", State.INTERRUPTED: "interrupted, begun"}


class StageStatus(BaseModel):
    """One row of the table. `report` is there when the stage is done."""

    model_config = ConfigDict(extra="forbid")

    name: str
    state: State
    started_utc: str | None = None
    finished_utc: str | None = None
    report: StageReport | None = None


class RunStatus(BaseModel):
    """What `--json` prints. `process` is the one that works in the folder now, if its number is known."""

    model_config = ConfigDict(extra="forbid")

    name: str
    folder: str
    alive: bool
    process: int | None
    stages: tuple[StageStatus, ...]
    collect: Snapshot | None = Field(default=None, description="the latest of progress.jsonl")
    collect_age_s: float | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return all(stage.state is State.DONE for stage in self.stages)


def read_status(manifest: Manifest, run: RunFolder) -> RunStatus:
    """The state of a run now.

    Raises:
        RunFolderError: if a record cannot be read.
    """
    alive, process = _at_work(run.root / ".lock")
    latest = read_latest(run.stage("collect") / PROGRESS_LOG)
    return RunStatus(
        name=manifest.name,
        folder=str(run.root),
        alive=alive,
        process=process,
        stages=tuple(_stage_status(run, stage.name, alive) for stage in active_stages(manifest)),
        collect=latest,
        collect_age_s=None if latest is None else _age_s(latest.at_utc),
    )


def _stage_status(run: RunFolder, name: str, alive: bool) -> StageStatus:
    record = run.record(name)
    if record is not None and record.report is not None:
        return StageStatus(name=name, state=State.DONE, started_utc=record.started_utc,
                           finished_utc=record.finished_utc, report=record.report)  # fmt: skip
    begun = run.started(name)
    if begun is None:
        return StageStatus(name=name, state=State.TO_DO)
    state = State.UNDER_WAY if alive else State.INTERRUPTED
    return StageStatus(name=name, state=state, started_utc=begun.started_utc)


def _at_work(lock: Path) -> tuple[bool, int | None]:
    """Whether a process holds the run folder, and its number. Asks the lock itself: numbers are used again."""
    try:
        file = lock.open(encoding="ascii", errors="replace")
    except OSError:
        return False, None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = file.read().strip()
            return True, int(owner) if owner.isdecimal() else None
        fcntl.flock(file, fcntl.LOCK_UN)
    return False, None


def _age_s(at_utc: str) -> float:
    return max(0.0, round((datetime.now(UTC) - datetime.fromisoformat(at_utc)).total_seconds(), 1))


def drawn(look: RunStatus) -> RenderableType:
    """The table of stages and, while `collect` is not done, its latest panel."""
    parts: list[RenderableType] = [_table(look)]
    collecting = any(stage.name == "collect" and stage.state is not State.DONE for stage in look.stages)
    if collecting and look.collect is not None:
        parts.append(Text(_heading(look)))
        parts.append(DrawnPanel(panel_of(look.collect), len(look.stages) + _LINES_AROUND_STAGES))
    return Group(*parts)


def _table(look: RunStatus) -> Table:
    table = Table(title=Text(look.folder), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for column in ("stage", "state", "numbers"):
        table.add_column(column, overflow="fold")
    for stage in look.stages:
        since = stage.finished_utc or stage.started_utc or ""
        state = f"{_SAID.get(stage.state, stage.state)} {since}".rstrip()
        table.add_row(stage.name, state, "" if stage.report is None else numbers(stage.report))
    return table


def _heading(look: RunStatus) -> str:
    seen = f"collect: seen {duration(look.collect_age_s or 0.0)} ago"
    if look.alive:
        number = f" {look.process}" if look.process is not None else ""
        return f"{seen}, process{number} is at work"
    return f"{seen}, no process is at work; the same command goes on"
