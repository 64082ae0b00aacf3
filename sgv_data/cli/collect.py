"""`sgv collect`: the stage, and its retry rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sgv_data.cli.options import ManifestPath, Overrides, Quiet, Redo, Runs, at_work, load, output
from sgv_data.errors import ManifestError


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(collect)


def collect(
    manifest: ManifestPath,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    redo: Redo = False,
    retry: Annotated[
        str | None,
        typer.Option(
            "--retry", metavar="OUTCOMES", show_default=False,
            help="Ask once more about pictures that ended so: refused, truncated, failed. none: give up a round.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Ask the teacher for captions.

    This is what costs money: what it may cost at most is said first, teacher.budget_usd caps it, and no answered
    request is ever asked again. The key is read from OPENAI_API_KEY, the server from teacher.base_url or
    OPENAI_BASE_URL. While it runs, sgv status shows how it goes, and sgv tune changes its limits.

    Refusals and cut-off captions can be asked again, with what teacher.retry says for each (another prompt, more
    tokens, another model); all answers are kept:

    sgv collect manifests/photos.yaml --retry refused,truncated
    """
    from sgv_data.cli.tables import stage_line
    from sgv_data.collect.again import parse_outcomes
    from sgv_data.pipeline import find_stage, run_stage

    if retry is not None and redo:
        raise ManifestError("--retry asks again about some pictures, --redo makes the stage anew; use one of them")
    again = parse_outcomes(retry) if retry is not None else ()
    loaded, run = load(manifest, set_, runs)
    stage = find_stage(loaded, "collect")
    with at_work(run, quiet) as screen:
        result = run_stage(stage, loaded, run, screen, redo, again)
    output.print(stage_line(result), markup=False, highlight=False)
