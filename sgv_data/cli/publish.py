"""`sgv publish`: the stage, its rehearsal, and the removal of samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgv_data.cli.options import ManifestPath, Overrides, Quiet, Redo, Runs, at_work, load, output
from sgv_data.errors import ManifestError

if TYPE_CHECKING:
    from sgv_data.publish.target import TargetPlan


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(publish)


def publish(
    manifest: ManifestPath,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    redo: Redo = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and say what would be sent; change nothing there.")
    ] = False,
    takedown: Annotated[
        str | None,
        typer.Option(
            "--takedown", metavar="KEYS", show_default=False,
            help="Remove samples for good, then publish: keys or image ids with commas between, or @FILE, one a line.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Check the shards with the libraries people load them with, write the card, and put all in its place.

    publish.to names a folder or a repository on the Hugging Face Hub (hf://datasets/OWNER/NAME), which is made private
    if it is not there. An upload that was stopped goes on where it was, and only what has changed is sent:

    sgv publish manifests/photos.yaml --set publish.to=hf://datasets/OWNER/NAME --dry-run
    """
    from sgv_data.cli.tables import stage_line
    from sgv_data.pipeline import active_stages, find_stage, run_stage

    loaded, run = load(manifest, set_, runs)
    stage = find_stage(loaded, "publish")
    if dry_run and (takedown is not None or redo):
        raise ManifestError("--dry-run changes nothing; leave out --redo and --takedown")
    with at_work(run, quiet) as screen:
        if dry_run:
            from sgv_data.publish.run import rehearse
            from sgv_data.stage import StageContext

            names = tuple(each.name for each in active_stages(loaded))
            _show(rehearse(loaded, StageContext(run, stage.name, names, screen)))
            return
        if takedown is not None:
            removed = run_stage(
                find_stage(loaded, "shard"), loaded, run, screen, again=_names(takedown, run.stage("shard"))
            )
            screen.say(stage_line(removed))
        result = run_stage(stage, loaded, run, screen, redo or takedown is not None)
    output.print(stage_line(result), markup=False, highlight=False)


def _names(takedown: str, shard: Path) -> tuple[str, ...]:
    from sgv_data.errors import InputError

    if takedown.startswith("@"):
        path = Path(takedown[1:])
        if not path.is_file():
            raise InputError(f"--takedown: {path} is not there")
        named = path.read_text(encoding="utf-8").splitlines()
    else:
        named = takedown.split(",")
    names = tuple(dict.fromkeys(name.strip() for name in named if name.strip()))
    if not names:
        raise InputError("--takedown names no sample")
    return names


def _show(plan: TargetPlan) -> None:
    lines = [
        f"files      {plan.num_files}, {plan.num_bytes / 1e6:.1f} MB",
        f"to send    {len(plan.send)}, {plan.send_bytes / 1e6:.1f} MB"
        + (f", in commits: {plan.num_commits}" if plan.num_commits else ""),
        f"to delete  {len(plan.delete)}",
        *(f"mind       {each}" for each in plan.warnings),
    ]  # fmt: skip
    for line in lines:
        output.print(line, markup=False, highlight=False)
