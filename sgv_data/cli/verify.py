"""`sgv verify`: anyone's shards, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sgv_data.cli.options import Quiet, console, output


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(verify)


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
