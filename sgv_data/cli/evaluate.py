"""`sgv evaluate`: scores of answers on MME and MMBench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgv_data.cli.options import output
from sgv_data.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from sgv_data.evaluate.mmbench import BenchScore
    from sgv_data.evaluate.mme import Answer, Parser, TaskScore

AsJson = Annotated[bool, typer.Option("--json", help="All numbers as one line of JSON.")]

evaluate = typer.Typer(help="Score answers on MME and MMBench.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(evaluate, name="evaluate")


@evaluate.command()
def mme(
    answers: Annotated[
        Path, typer.Option("--answers", metavar="PATH", help="Folder of <task>.txt, or LLaVA's answers as .jsonl.")
    ],
    release: Annotated[
        Path | None,
        typer.Option("--release", metavar="DIR", help="MME_Benchmark_release_version; for a .jsonl: has the truth."),
    ] = None,
    results: Annotated[
        Path | None, typer.Option("--results", metavar="DIR", help="Also write what the official script reads.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Score what there is when tasks are missing.")] = False,
    json: AsJson = False,
) -> None:
    """Score answers on MME: accuracy and accuracy+ per task, perception and cognition.

    Each number is given twice, read as the official script reads answers (their first four characters) and strictly
    (the words yes and no, only one of them, anywhere).
    """
    from sgv_data.evaluate.mme import Parser, oddities, score_task
    from sgv_data.evaluate.mme_files import read_llava_answers, read_results, write_results

    if answers.is_dir():
        read = read_results(answers, partial)
    elif release is None:
        raise InputError(f"{answers}: holds no truth; name the release's folder with --release, or a folder of results")
    else:
        read = read_llava_answers(answers, release)
    if results is not None:
        write_results(results, read)
    scores = {parser: {task: score_task(some, parser) for task, some in read.items()} for parser in Parser}
    if json:
        output.print(_mme_json(scores), markup=False, highlight=False, soft_wrap=True)
        return
    output.print(_mme_table(scores))
    _say_odd(read, [line for task, some in read.items() for line in oddities(task, some)])


def _say_odd(read: dict[str, list[Answer]], lines: list[str]) -> None:
    from sgv_data.evaluate.mme import TASKS

    missing = [task for task in TASKS if task not in read]
    if missing:
        lines.append(f"not scored: {', '.join(missing)}; the sums are of the other tasks")
    for line in lines:
        output.print(f"! {line}", markup=False, highlight=False)


def _mme_table(scores: dict[Parser, dict[str, TaskScore]]) -> Table:
    from rich.table import Table

    from sgv_data.evaluate.mme import category_scores

    table = Table("task", title="MME", title_justify="left")
    for parser in scores:
        for name in ("acc", "acc+", "score", "other"):
            table.add_column(f"{name}\n{parser}", justify="right")
    for task in next(iter(scores.values())):
        cells = []
        for tasks in scores.values():
            found = tasks[task]
            cells += [f"{found.accuracy:.2f}", f"{found.accuracy_plus:.2f}", f"{found.score:.2f}", f"{found.num_other}"]
        table.add_row(task, *cells)
    sums = [category_scores(tasks) for tasks in scores.values()]
    for category in sums[0]:
        table.add_row(category, *(cell for each in sums for cell in ("", "", f"{each[category]:.2f}", "")))
    return table


def _mme_json(scores: dict[Parser, dict[str, TaskScore]]) -> str:
    import json as json_module

    from sgv_data.evaluate.mme import category_scores

    return json_module.dumps({
        str(parser): {
            **category_scores(tasks),
            "tasks": {
                task: {
                    "accuracy": found.accuracy, "accuracy_plus": found.accuracy_plus, "score": found.score,
                    "questions": found.num_questions, "other": found.num_other,
                }
                for task, found in tasks.items()
            },
        }
        for parser, tasks in scores.items()
    })  # fmt: skip


@evaluate.command()
def mmbench(
    answers: Annotated[
        Path, typer.Option("--answers", metavar="FILE", help="Answers by index: .jsonl, .json, .tsv, .csv or .xlsx.")
    ],
    questions: Annotated[
        Path, typer.Option("--questions", metavar="TSV", help="The benchmark's table, with its rotated rows.")
    ],
    submission: Annotated[
        Path | None,
        typer.Option("--submission", metavar="XLSX", help="Write the file for MMBench's server in place of scoring."),
    ] = None,
    unmatched: Annotated[
        Path | None, typer.Option("--unmatched", metavar="JSONL", help="List the answers that no rule could read.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Score answers on MMBench: CircularEval, options matched by rule.

    A question is right only if it is in every rotation of its options. An answer that no rule can read is wrong, and is
    counted; the official tools ask a judge or draw an option for it.
    """
    from sgv_data.evaluate.mmbench import score
    from sgv_data.evaluate.mmbench_files import read_predictions, read_questions, write_submission, write_unmatched

    predictions = read_predictions(answers)
    if submission is not None:
        num_without = write_submission(questions, predictions, submission)
        output.print(f"{submission}: {num_without} rows without an answer", markup=False, highlight=False)
        return
    found = score(read_questions(questions), predictions)
    if unmatched is not None:
        write_unmatched(found.unmatched, unmatched)
    if json:
        output.print(_bench_json(found), markup=False, highlight=False, soft_wrap=True)
        return
    output.print(_bench_table(found))
    for each in found.unmatched[:10] if unmatched is None else []:
        said = "no answer" if each.prediction is None else repr(each.prediction[:80])
        output.print(f"  no option in {each.index}: {said}", markup=False, highlight=False)
    if found.num_incomplete:
        line = f"! {found.num_incomplete} questions lack rows of their rotations, which makes them easier"
        output.print(line, markup=False, highlight=False)


def _bench_table(found: BenchScore) -> Table:
    from rich.table import Table

    title = f"MMBench: {found.num_rows} rows, {len(found.unmatched)} of them with an answer that no rule could read"
    table = Table("", title=title, title_justify="left")
    for name in ("questions", "right", "accuracy"):
        table.add_column(name, justify="right")
    groups = [{"overall": found.overall, "without rotations": found.plain}]
    groups += [found.by_split, found.by_ability, found.by_category]
    for group in groups:
        for name, tally in sorted(group.items()) if group is not groups[0] else group.items():
            table.add_row(name or "-", str(tally.num_questions), str(tally.num_right), f"{tally.accuracy:.2f}")
        table.add_section()
    return table


def _bench_json(found: BenchScore) -> str:
    import json as json_module

    return json_module.dumps({
        "overall": found.overall.accuracy, "without_rotations": found.plain.accuracy,
        "questions": found.overall.num_questions, "rows": found.num_rows, "unmatched": len(found.unmatched),
        "incomplete": found.num_incomplete,
        **{
            name: {key: tally.accuracy for key, tally in sorted(group.items())}
            for name, group in (
                ("splits", found.by_split), ("abilities", found.by_ability), ("categories", found.by_category)
            )
        },
    })  # fmt: skip
