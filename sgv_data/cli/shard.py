"""`sgv shard`: the stage."""

from __future__ import annotations

from pathlib import Path

import typer

from sgv_data.cli.options import ManifestPath, Overrides, Quiet, Redo, Runs, at_work, load, output


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(shard)


def shard(
    manifest: ManifestPath,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    redo: Redo = False,
    quiet: Quiet = False,
) -> None:
    """Write the kept captions with their pictures into webdataset tars."""
    from sgv_data.cli.tables import stage_line
    from sgv_data.pipeline import find_stage, run_stage

    loaded, run = load(manifest, set_, runs)
    stage = find_stage(loaded, "shard")
    with at_work(run, quiet) as screen:
        result = run_stage(stage, loaded, run, screen, redo)
    output.print(stage_line(result), markup=False, highlight=False)
