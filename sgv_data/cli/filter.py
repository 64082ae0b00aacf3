"""`sgv filter`: the stage, other policies over its scores, and the blind audit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgv_data.cli.options import ManifestPath, Overrides, Quiet, Redo, Runs, at_work, load, output
from sgv_data.errors import ManifestError

if TYPE_CHECKING:
    from sgv_data.manifest import Manifest
    from sgv_data.run_folder import RunFolder


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(name="filter")(filter_)


def filter_(
    manifest: ManifestPath,
    which: Annotated[str, typer.Argument(metavar="[teacher|student]", help="Whose captions are judged.")] = "teacher",
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    redo: Redo = False,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            "--what-if", metavar="KEY.PATH=VALUE", show_default=False,
            help="Show what another threshold would do, e.g. repetition.max_share=0.1. Changes nothing.",
        ),
    ] = None,
    audit: Annotated[
        int | None,
        typer.Option(
            "--audit", metavar="N", min=2, show_default=False,
            help="Write a page with N captions, half of them kept, to be judged blind.",
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option("--answers", metavar="FILE", show_default=False, help="Answers to an audit: how right was it?"),
    ] = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Score every caption, then keep or reject it with a reason.

    Scores lie beside the verdicts in filter-teacher/ or filter-student/; thresholds are in the manifest's section
    filter. Scores outlive --redo: after a change of thresholds, only the verdicts are made anew. docs/filters.md tells
    all rules. To see first what a change would do:

    sgv filter manifests/demo.yaml student --what-if repetition.max_share=0.1 --what-if length.min_words=30
    """
    if which not in ("teacher", "student"):
        raise ManifestError(f"filter judges captions of the teacher or the student, not of {which!r}")
    if sum((redo, bool(what_if), audit is not None, answers is not None)) > 1:
        raise ManifestError("use one of --redo, --what-if, --audit and --answers at a time")
    loaded, run = load(manifest, set_, runs)
    stage = f"filter-{which}"
    if what_if:
        other, _ = load(manifest, [*(set_ or ()), *(f"filter.{each}" for each in what_if)], runs)
        _show_what_if(loaded, other, run, stage)
    elif audit is not None:
        _write_audit(loaded, run, stage, audit)
    elif answers is not None:
        _show_answers(run, stage, answers)
    else:
        _judge(loaded, run, stage, redo, quiet)


def _judge(manifest: Manifest, run: RunFolder, stage: str, redo: bool, quiet: bool) -> None:
    from sgv_data.cli.tables import stage_line
    from sgv_data.pipeline import find_stage, run_stage

    found = find_stage(manifest, stage)
    with at_work(run, quiet) as screen:
        result = run_stage(found, manifest, run, screen, redo)
    output.print(stage_line(result), markup=False, highlight=False)


def _show_what_if(manifest: Manifest, other: Manifest, run: RunFolder, stage: str) -> None:
    from sgv_data.cli.filter_tables import example_lines, funnel_table
    from sgv_data.filter.run import WRITTEN_BY, resolved_policy
    from sgv_data.filter.what_if import compare
    from sgv_data.records import CaptionSet

    captions = run.stage(WRITTEN_BY[CaptionSet(stage.removeprefix("filter-"))])
    found = compare(run.stage(stage), captions, resolved_policy(manifest), resolved_policy(other))
    output.print(funnel_table(found))
    for line in example_lines(found):
        output.print(line, markup=False, highlight=False)


def _write_audit(manifest: Manifest, run: RunFolder, stage: str, num: int) -> None:
    from sgv_data.filter.audit import write_audit
    from sgv_data.filter.run import WRITTEN_BY
    from sgv_data.records import CaptionSet

    page = write_audit(manifest, run, stage, WRITTEN_BY[CaptionSet(stage.removeprefix("filter-"))], num)
    output.print(str(page), markup=False, highlight=False)


def _show_answers(run: RunFolder, stage: str, answers: Path) -> None:
    from sgv_data.cli.filter_tables import audit_lines
    from sgv_data.filter.audit import folder_of, judge_answers

    for line in audit_lines(judge_answers(folder_of(run, stage), answers)):
        output.print(line, markup=False, highlight=False)
