"""The stage `expand`: the captioner describes every picture it is to.

    units/                finished work units; they outlive --redo, for what they hold is named by all that made it
    captions-*.parquet    the last asking about each picture, in hash order
    attempts-*.parquet    the askings before, where a picture was asked about again
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sgv_data.expand.claims import Claims
from sgv_data.expand.here import Notes, describe_here
from sgv_data.expand.setup import MADE_BY, VERSION, Work, captioner_settings, decoding_identity, prepare
from sgv_data.manifest import Manifest
from sgv_data.prompts import load_prompt
from sgv_data.records import CaptionRow, ImageRow, Outcome, StageReport, counted
from sgv_data.run_folder import write_durably
from sgv_data.stage import StageContext
from sgv_data.tables import TableWriter, read_table

__all__ = ["KEEP", "VERSION", "identity", "run"]

KEEP = ("units", "units/*", "replies.sqlite*")


def identity(manifest: Manifest, stage: str) -> dict[str, Any]:
    """How captions are decoded and with which prompt; the captioner itself is the input `train`."""
    settings, expand = captioner_settings(manifest), manifest.expand
    prompt = load_prompt(settings.prompt, manifest.prompt_folders)
    served = {"served_model": expand.server.model} if expand.engine == "openai" and expand.server else {}
    return {
        "expand": {"engine": expand.engine, **served, **decoding_identity(manifest)},
        "precision": settings.precision,
        "prompt": {"id": prompt.prompt_id, "version": prompt.version, "sha256": prompt.sha256},
    }


@dataclass(frozen=True, slots=True)
class _Task:
    """What there is to do: counted before anything is loaded."""

    num_usable: int
    num_asked: int
    num_done: int
    num_units: int


def run(manifest: Manifest, context: StageContext) -> StageReport:
    """Describes the units that are not there yet, then puts the table together."""
    work = prepare(manifest, context.run, context.stage)
    task = _look(work)
    notes: Notes = {"units": task.num_units}
    if task.num_done < task.num_asked:
        context.progress.begin("expand", task.num_asked)
        context.progress.advance(task.num_done)
        notes |= _describe(work, context, task)
    outcome = _assemble(work)
    _clean_up(work)
    return StageReport(
        stage=context.stage,
        num_in=task.num_usable,
        num_out=outcome.num_captions,
        failed=counted(outcome.failures),
        skipped=task.num_usable - task.num_asked,
        from_cache=task.num_done,
        notes={**notes, **outcome.notes()},
    )


def _look(work: Work) -> _Task:
    store = work.store()
    num_usable = sum(1 for row in read_table(work.index, "images", ImageRow) if row.reject is None)
    num_asked = num_done = num_units = 0
    for unit in work.units():
        num_units += 1
        num_asked += len(unit.rows)
        num_done += len(unit.rows) if store.has(unit) else 0
    return _Task(num_usable, num_asked, num_done, num_units)


def _describe(work: Work, context: StageContext, task: _Task) -> Notes:
    num_left = task.num_asked - task.num_done
    write_durably(work.folder / "units" / MADE_BY, work.writer.made_by)
    if work.manifest.expand.on == "ray":
        from sgv_data.expand.on_ray import describe_on_ray

        return describe_on_ray(work, context.progress, num_left)
    if work.manifest.expand.gpus:
        from sgv_data.expand.team import describe_by_team

        return describe_by_team(work, context.run.root, context.progress, num_left)
    return describe_here(work, context.progress, num_left)


@dataclass(slots=True)
class _Assembled:
    """The table in numbers."""

    num_captions: int
    num_asked_again: int
    outcomes: Counter[Outcome]
    failures: Counter[Any]

    def notes(self) -> Notes:
        return {
            "truncated": self.outcomes[Outcome.TRUNCATED],
            "looped": self.outcomes[Outcome.LOOPED],
            "asked_again": self.num_asked_again,
        }


def _assemble(work: Work) -> _Assembled:
    """Writes the captions of all units, which are all there, as one table in hash order."""
    store, found = work.store(), _Assembled(0, 0, Counter(), Counter())
    with (
        TableWriter(work.folder, "captions", CaptionRow) as captions,
        TableWriter(work.folder, "attempts", CaptionRow) as attempts,
    ):
        for unit in work.units():
            for _, askings in groupby(store.read(unit), key=lambda row: row.image_id):
                *earlier, last = askings
                captions.add(last)
                for row in earlier:
                    attempts.add(row)
                found.num_asked_again += bool(earlier)
                if last.failure is None:
                    found.num_captions += 1
                    found.outcomes[last.outcome] += 1
                else:
                    found.failures[last.failure] += 1
    return found


def _clean_up(work: Work) -> None:
    work.store().sweep()
    with Claims(work.folder / "units") as claims:
        claims.sweep()
