"""`sgv show`: one sample of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sgv_data.cli.options import output


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(show)


def show(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A folder, a URL, or hf://datasets/OWNER/NAME.", show_default=False)
    ],
    key: Annotated[str, typer.Argument(metavar="KEY", help="The sample's key or image id.", show_default=False)],
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Write the picture there.", show_default=False)
    ] = None,
) -> None:
    """Fetch one sample by its place in a tar and print its caption and record."""
    import json

    from sgv_data.printable import printable
    from sgv_data.run_folder import write_durably
    from sgv_data.shard.show import fetch_sample

    sample = fetch_sample(dataset, key)
    if save is not None:
        write_durably(save, sample.picture)
    lines = [
        *(printable(line) for line in sample.text.split("\n")),
        "",
        f"{sample.row.image_id}, {sample.row.shard}, {len(sample.picture)} bytes"
        + (f", saved as {save}" if save is not None else ""),
        json.dumps(sample.record, indent=1, ensure_ascii=True),
    ]
    for line in lines:
        output.print(line, markup=False, highlight=False, soft_wrap=True)
