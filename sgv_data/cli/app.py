"""`sgv`: one command per stage, and those around them."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sgv_data.cli import batches, cache, collect, plan, status, tune
from sgv_data.cli.options import ManifestPath, Overrides, Quiet, Redo, Runs, at_work, console, load, output
from sgv_data.errors import SgvError, disk_error, redact
from sgv_data.printable import printable


class Guarded(TyperGroup):
    """Turns every error a user can cause or meet into one sentence and an exit code, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite end is answered like Ctrl-C
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without some character shows ? for it
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


@app.command(name="filter")
def filter_(
    manifest: ManifestPath,
    which: Annotated[str, typer.Argument(metavar="[teacher|student]", help="Whose captions are judged.")] = "teacher",
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    redo: Redo = False,
    quiet: Quiet = False,
) -> None:
    """Score every caption, then keep or reject it with a reason.

    Scores lie beside the verdicts in filter-teacher/ or filter-student/; thresholds are in the manifest's section
    filter.
    """
    from sgv_data.errors import ManifestError

    if which not in ("teacher", "student"):
        raise ManifestError(f"filter judges captions of the teacher or the student, not of {which!r}")
    _stage(f"filter-{which}", manifest, set_, runs, redo, quiet)


@app.command()
def train(
    manifest: ManifestPath,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    redo: Redo = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune the captioner on the kept teacher captions."""
    _stage("train", manifest, set_, runs, redo, quiet)


@app.command()
def expand(
    manifest: ManifestPath,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    redo: Redo = False,
    quiet: Quiet = False,
) -> None:
    """Let the captioner describe the other pictures."""
    _stage("expand", manifest, set_, runs, redo, quiet)


@app.command()
def shard(
    manifest: ManifestPath,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    redo: Redo = False,
    quiet: Quiet = False,
) -> None:
    """Write the kept captions with their pictures into webdataset tars."""
    _stage("shard", manifest, set_, runs, redo, quiet)


@app.command()
def publish(
    manifest: ManifestPath,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    redo: Redo = False,
    quiet: Quiet = False,
) -> None:
    """Check the shards with the libraries people load them with, write the card, and put all in its place."""
    _stage("publish", manifest, set_, runs, redo, quiet)


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


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset folder: a run's shard/ or a published one.")],
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every picture, also those whose hash the index states.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Read shards back and compare every byte with index and checksums. Needs no manifest.

    Names each thing that is wrong with its file and sample, and ends with exit code 10 if there is any.
    """
    from sgv_data.cli.screen import Screen
    from sgv_data.cli.tables import sound_line
    from sgv_data.shard.verify import verify_dataset

    with Screen(console, quiet) as screen:
        found = verify_dataset(folder, screen, decode)
    found.require_sound()
    output.print(sound_line(found), markup=False, highlight=False)


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
