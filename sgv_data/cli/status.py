"""`sgv status`: shown once, or again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgv_data.cli.interrupts import answer_interrupts
from sgv_data.cli.options import ManifestPath, Overrides, Runs, load, output

if TYPE_CHECKING:
    from sgv_data.cli.run_status import RunStatus
    from sgv_data.manifest import Manifest
    from sgv_data.run_folder import RunFolder

_SECONDS_BETWEEN_LOOKS = 2.0


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(status)


def status(
    manifest: ManifestPath,
    set_: Overrides = None,
    runs: Runs = Path("runs"),
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds until all is done.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON; with --watch, one per look.")] = False,
) -> None:
    """Show what is done, under way and still to do. Works while another sgv runs.

    From a second terminal, while collect works:

    sgv status manifests/photos.yaml --watch
    """
    from sgv_data.cli.run_status import read_status

    loaded, folder = load(manifest, set_, runs)
    answer_interrupts()
    looks = _looks(loaded, folder) if watch else iter([read_status(loaded, folder)])
    try:
        if json:
            for look in looks:
                output.print(look.model_dump_json(), markup=False, highlight=False, soft_wrap=True)
        else:
            _show(looks, redraw=watch and output.is_terminal and not output.is_dumb_terminal)
    except KeyboardInterrupt:
        if not watch:
            raise


def _looks(manifest: Manifest, run: RunFolder) -> Iterator[RunStatus]:
    from sgv_data.cli.run_status import read_status

    while True:
        look = read_status(manifest, run)
        yield look
        if look.finished:
            return
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _show(looks: Iterator[RunStatus], redraw: bool) -> None:
    from sgv_data.cli.run_status import drawn

    if not redraw:
        for look in looks:
            output.print(drawn(look))
        return
    from rich.live import Live

    with Live(console=output, auto_refresh=False, vertical_overflow="crop") as live:
        for look in looks:
            live.update(drawn(look), refresh=True)
