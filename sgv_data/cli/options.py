"""What commands have in common: arguments, where output goes, the manifest and its run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from sgv_data.cli.screen import Screen
    from sgv_data.manifest import Manifest
    from sgv_data.run_folder import RunFolder

ManifestPath = Annotated[Path, typer.Argument(metavar="MANIFEST", help="The run's YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a field, e.g. --set teacher.limits.in_flight=8."),
]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where run folders lie.")]
Redo = Annotated[bool, typer.Option("--redo", help="Make this stage anew. Paid replies are kept and used again.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results and errors.")]

console = Console(stderr=True)
output = Console(soft_wrap=True)
if not output.is_terminal:
    output = Console(width=120)


def load(manifest: Path, overrides: list[str] | None, runs: Path) -> tuple[Manifest, RunFolder]:
    """The manifest with its overrides, and the folder of its run.

    Raises:
        ManifestError: if the manifest or an override is wrong.
    """
    from sgv_data.manifest_file import load_manifest
    from sgv_data.run_folder import RunFolder

    loaded = load_manifest(manifest, overrides or (), runs)
    return loaded, RunFolder(runs / loaded.name)


@contextmanager
def at_work(run: RunFolder, quiet: bool) -> Iterator[Screen]:
    """Holds the run folder and shows progress.

    Raises:
        RunFolderError: if another process works in the folder.
    """
    from sgv_data.cli.screen import Screen

    with run.lock(), Screen(console, quiet) as screen:
        yield screen
