"""`sgv train`: by one process, or by several that `accelerate launch` or `torchrun` has started."""

from __future__ import annotations

from pathlib import Path

import typer

from sgv_data.cli.options import ManifestPath, Overrides, Quiet, Redo, Runs, at_work, load, output


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(train)


def train(
    manifest: ManifestPath,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    redo: Redo = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune the captioner on the kept teacher captions, or on a file of conversations.

    On several GPUs: accelerate launch -m sgv_data train MANIFEST
    """
    from sgv_data.cli.tables import stage_line
    from sgv_data.pipeline import find_stage, run_stage
    from sgv_data.train import group

    loaded, run = load(manifest, set_, runs)
    stage = find_stage(loaded, "train")
    if not group.is_first():
        _help_to_train(manifest, set_, runs)
        return
    with group.leading():
        with at_work(run, quiet) as screen:
            result = run_stage(stage, loaded, run, screen, redo)
        output.print(stage_line(result), markup=False, highlight=False)


def _help_to_train(manifest: Path, overrides: list[str] | None, runs: Path) -> None:
    """What every process but the first of a launched group does."""
    from sgv_data.pipeline import active_stages
    from sgv_data.progress import Silent
    from sgv_data.stage import StageContext
    from sgv_data.train import group
    from sgv_data.train.run import join

    loaded, run = load(manifest, overrides, runs)
    if group.wait_for_start():
        join(loaded, StageContext(run, "train", tuple(each.name for each in active_stages(loaded)), Silent()))
