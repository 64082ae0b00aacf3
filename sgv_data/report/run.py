"""The stage `report`: one pass over the tables of a run gives states, counts and the contact sheet; then the page.

Runs at any time; what has not been made yet is said to be missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sgv_data.api.calibration import run_calibration
from sgv_data.api.prices import price_of
from sgv_data.manifest import Manifest
from sgv_data.records import CaptionSet, StageReport, counted
from sgv_data.report.accuracy import AccuracyCollector, write_accuracy
from sgv_data.report.collecting import Asking, read_asking
from sgv_data.report.contact import ContactSheet
from sgv_data.report.pages import render
from sgv_data.report.pictures import Picture, finished_stages, pictures, read_model_samples
from sgv_data.report.states import Balance, PictureState, Plan, State, state_of
from sgv_data.report.summary import ACCURACY, PAGE, summarize
from sgv_data.report.tally import Tally
from sgv_data.run_folder import write_durably
from sgv_data.stage import StageContext
from sgv_data.tables import write_table

VERSION = 1
KEEP: tuple[str, ...] = ()


def identity(manifest: Manifest, stage: str) -> dict[str, Any]:
    """The whole manifest: the page shows it."""
    return {"manifest": manifest.model_dump(mode="json")}


def run(manifest: Manifest, context: StageContext) -> StageReport:
    """Writes `index.html`, `states-*.parquet` and, for drawn scenes, `accuracy.json`.

    Raises:
        BalanceError: if a picture is lost or counted twice anywhere in the run.
        RunFolderError: if a table of a finished stage is missing or damaged.
    """
    done = finished_stages(context.run, context.active)
    plan = Plan(_caption_sets(manifest, context), done, context.active)
    samples = read_model_samples(context.input("train") / "samples.jsonl") if "train" in done else {}
    balance = Balance()
    tally = Tally(tuple(source.name for source in manifest.images))
    sheet = ContactSheet(manifest, samples)
    accuracy = AccuracyCollector(manifest, samples)
    context.progress.begin("counting pictures", None)

    def states() -> Iterator[PictureState]:
        for picture in _pictures(context, done):
            state = state_of(picture, plan)
            balance.add(picture, state)
            tally.add(picture)
            sheet.add(picture, state)
            accuracy.add(picture)
            context.progress.advance()
            yield state

    num_in = write_table(context.folder, "states", PictureState, states())
    summary = summarize(manifest, context.run, context.active)
    balance.check(summary.reports)
    tables = accuracy.tables()
    write_accuracy(context.folder / ACCURACY, tables)
    context.progress.begin("drawing the page", None)
    asking = _asking(manifest, context, summary.reports.get("collect"))
    page = render(manifest, replace(summary, accuracy=tables), asking, balance, tally, list(sheet.cards()))
    write_durably(context.folder / PAGE, page)
    return _report(context.stage, num_in, balance)


def _asking(manifest: Manifest, context: StageContext, report: StageReport | None) -> Asking | None:
    if report is None:
        return None
    compared = run_calibration(manifest, context.run)
    return read_asking(context.input("collect"), report, compared, price_of(manifest.teacher))


def _caption_sets(manifest: Manifest, context: StageContext) -> tuple[CaptionSet, ...]:
    """The sets whose captions can be published, the preferred one first."""
    sets = tuple(CaptionSet(name) for name in dict.fromkeys(manifest.shard.captions))
    return tuple(each for each in sets if each is CaptionSet.TEACHER or "expand" in context.active)


def _pictures(context: StageContext, done: frozenset[str]) -> Iterator[Picture]:
    return pictures(context.run, done) if "index" in done else iter(())


def _report(stage: str, num_in: int, balance: Balance) -> StageReport:
    """Every input has a state, so all come out; how many of each is in the notes."""
    totals: Counter[State] = Counter()
    for (state, _), count in balance.states.items():
        totals[state] += count
    return StageReport(stage=stage, num_in=num_in, num_out=num_in, notes=dict(counted(totals)))
