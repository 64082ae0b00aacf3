"""`sgv plan`: what a run will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sgv_data.cli.options import ManifestPath, Overrides, Quiet, Runs, console, load, output


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(plan)


def plan(
    manifest: ManifestPath,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="Plan for another model, at its listed price.")
    ] = None,
    detail: Annotated[
        str | None, typer.Option("--detail", metavar="DETAIL", help="Plan for low, high, auto or original.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", min=1, help="Look at N pictures of each source only.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The whole plan as one line of JSON.")] = False,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Say what a run will cost in money, time and disk, before anything is spent.

    Reads only the headers of pictures, or the index if there is one. Once replies have come, their bills correct the
    estimate. Needs no key:

    sgv plan manifests/photos.yaml --set images.0.path=DIR --model gpt-4.1-mini --detail low
    """
    from sgv_data.cli.plan_tables import show_plan
    from sgv_data.cli.screen import Screen
    from sgv_data.plan.run import make_plan

    overrides = list(set_ or ())
    if model is not None:
        overrides += [f"teacher.model={model}", "teacher.price="]
    if detail is not None:
        overrides.append(f"teacher.image.detail={detail}")
    loaded, run = load(manifest, overrides, runs)
    with Screen(console, quiet) as screen:
        made = make_plan(loaded, run, screen, sample)
    if json:
        output.print(made.model_dump_json(), markup=False, highlight=False, soft_wrap=True)
    else:
        show_plan(made, output)
