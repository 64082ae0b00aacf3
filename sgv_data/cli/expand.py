"""`sgv expand`: the stage, on one device or many, and helping one that is under way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sgv_data.cli.options import ManifestPath, Overrides, Quiet, Redo, Runs, at_work, console, load, output


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(expand)


def expand(
    manifest: ManifestPath,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    redo: Redo = False,
    gpus: Annotated[
        str | None,
        typer.Option(
            "--gpus", metavar="LIST", show_default=False,
            help="An engine for each: 0,1,2,3 are GPUs; cpu,cpu are two on the processor.",
        ),
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="PLACE", show_default=False, help="local, or ray: on a Ray cluster.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="ADDRESS", show_default=False, help="With --on ray: where the cluster is."),
    ] = None,
    join: Annotated[
        bool, typer.Option("--join", help="Help an expansion that is under way in this run folder, then end.")
    ] = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Let the captioner describe the other pictures.

    Pictures are described in work units that are there whole or not at all, so any number of processes and machines may
    share the work, and stopping costs at most the units under way:

    sgv expand manifests/photos.yaml --gpus 0,1,2,3

    On a second machine that sees the same run folder: sgv expand manifests/photos.yaml --join --gpus 0,1,2,3
    """
    from sgv_data.cli.tables import stage_line
    from sgv_data.pipeline import find_stage, run_stage

    chosen = [*(set_ or ()), *_overrides(gpus, on, address)]
    loaded, run = load(manifest, chosen, runs)
    stage = find_stage(loaded, "expand")
    if join:
        from sgv_data.cli.screen import Screen
        from sgv_data.expand.team import join as help_out

        with Screen(console, quiet) as screen:
            help_out(loaded, run, screen)
        output.print("expand: no unit is left to claim here.", markup=False)
        return
    with at_work(run, quiet) as screen:
        result = run_stage(stage, loaded, run, screen, redo)
    output.print(stage_line(result), markup=False, highlight=False)


def _overrides(gpus: str | None, on: str | None, address: str | None) -> list[str]:
    """The options as fields of the manifest; none of them changes what is written."""
    found = []
    if gpus is not None:
        quoted = ", ".join(f'"{place.strip()}"' for place in gpus.split(",") if place.strip())
        found.append(f"expand.gpus=[{quoted}]")
    if on is not None:
        found.append(f"expand.on={on}")
    if address is not None:
        found.append(f'expand.ray_address="{address}"')
    return found
