"""`sgv`: one command per stage, and those around them."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sgv_data.cli import (
    batches,
    cache,
    collect,
    evaluate,
    expand,
    mix,
    plan,
    publish,
    shard,
    show,
    status,
    train,
    tune,
    verify,
)
from sgv_data.cli import filter as filter_command
from sgv_data.cli.options import ManifestPath, Overrides, Quiet, Redo, Runs, at_work, console, load, output
from sgv_data.cli.streams import outlive_readers
from sgv_data.errors import SgvError, disk_error, redact
from sgv_data.printable import printable


class Guarded(TyperGroup):
    """Turns every error a user can cause or meet into one sentence and an exit code, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sentence = "Stopped. Nothing that was finished is lost; the same command goes on from here."
            raise typer.Exit(_fail(sentence, 130)) from None
        except SgvError as exc:
            raise typer.Exit(_fail(str(exc), exc.exit_code)) from exc
        except (OSError, sqlite3.Error) as exc:
            known = disk_error(exc)
            if known is None:
                raise
            raise typer.Exit(_fail(str(known), known.exit_code)) from exc


def _fail(sentence: str, exit_code: int) -> int:
    # The sentence may hold words of a server; a line of it is none of theirs to make.
    shown = "\n".join(redact(printable(line)) for line in sentence.split("\n"))
    console.print(f"sgv: {shown}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    return exit_code


app = typer.Typer(
    name="sgv",
    cls=Guarded,
    help="Builds caption datasets the ShareGPT4V way: a strong teacher captions some of your pictures, a captioner "
    "trained on that describes the rest, filters keep the good captions, and shards are written and published.\n\n"
    "Start with:  sgv run manifests/demo.yaml",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point of `sgv`."""
    # Read by torch at its first import: threads that wait must not spin, or a busy machine trains ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    outlive_readers()
    app()


def _stage(name: str, manifest: Path, overrides: list[str] | None, runs: Path, redo: bool, quiet: bool) -> None:
    from sgv_data.cli.tables import stage_line
    from sgv_data.pipeline import find_stage, run_stage

    loaded, run = load(manifest, overrides, runs)
    stage = find_stage(loaded, name)
    with at_work(run, quiet) as screen:
        result = run_stage(stage, loaded, run, screen, redo)
    output.print(stage_line(result), markup=False, highlight=False)


@app.command()
def run(
    manifest: ManifestPath,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    redo: Annotated[
        str | None, typer.Option("--redo", metavar="STAGE", help="Make this stage and all after it anew.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Run all stages in order, going on from wherever an earlier run was stopped.

    Stages that are done are skipped. On your own pictures:

    sgv run manifests/photos.yaml --set images.0.path=DIR
    """
    from sgv_data.cli.tables import stage_line, summary_table
    from sgv_data.errors import ManifestError
    from sgv_data.pipeline import active_stages, run_all

    loaded, folder = load(manifest, set_, runs)
    names = [stage.name for stage in active_stages(loaded)]
    if redo is not None and redo not in names:
        raise ManifestError(f"--redo {redo}: the stages of this manifest are {', '.join(names)}")
    did_something = False
    with at_work(folder, quiet) as screen:
        for result in run_all(loaded, folder, screen, redo):
            did_something = did_something or not result.skipped
            if not result.skipped:
                screen.say(stage_line(result))
    output.print(summary_table(loaded, folder))
    if not did_something:
        output.print("Nothing to do: every stage is finished.", markup=False)


@app.command()
def index(
    manifest: ManifestPath,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    redo: Redo = False,
    quiet: Quiet = False,
) -> None:
    """Find, open and hash every picture; set duplicates apart; choose who captions what.

    Pictures that cannot be used are not dropped silently: each is a row of index/images-*.parquet with its reason.
    """
    _stage("index", manifest, set_, runs, redo, quiet)


collect.register(app)
tune.register(app)
batches.register(app)
filter_command.register(app)
train.register(app)
expand.register(app)


shard.register(app)
publish.register(app)


@app.command()
def report(manifest: ManifestPath, set_: Overrides = None, runs: Runs = Path("runs"), quiet: Quiet = False) -> None:
    """Write report/index.html from what there is, also in the middle of a run."""
    from sgv_data.pipeline import render_report

    loaded, folder = load(manifest, set_, runs)
    with at_work(folder, quiet) as screen:
        page = render_report(loaded, folder, screen)
    output.print(str(page), markup=False, highlight=False)


plan.register(app)
status.register(app)
cache.register(app)


verify.register(app)
mix.register(app)
evaluate.register(app)
show.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        import sgv_data

        output.print(f"sgv_data {sgv_data.__version__}", markup=False, highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options before the command."""
