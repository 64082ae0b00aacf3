"""The target that `publish.to` names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from sgv_data.errors import ManifestError
from sgv_data.manifest import Publish
from sgv_data.progress import Progress
from sgv_data.publish.hub_target import HubTarget
from sgv_data.publish.target import FolderTarget, Target

_FOLDER = "file://"
_HUB = re.compile(r"hf://datasets/([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)")


def open_target(
    settings: Publish, dataset: str, run_root: Path, stage: Path, stage_folders: Iterable[Path], progress: Progress
) -> Target:
    """The target that the manifest names. `stage` is the folder of the stage, for what an upload must remember.

    Raises:
        ManifestError: if it is of no known kind, or a folder that the run itself needs.
    """
    to = settings.to
    if (on_hub := _HUB.fullmatch(to)) is not None:
        return HubTarget(on_hub[1], dataset, settings.private, settings.tag, stage / ".hub", progress)
    if not to.startswith(_FOLDER) or not to.removeprefix(_FOLDER):
        raise ManifestError(
            "publish.to must be hf://datasets/OWNER/NAME, or file://FOLDER, absolute or below the run folder "
            f"(got {to!r})"
        )
    folder = (run_root / Path(to.removeprefix(_FOLDER)).expanduser()).resolve()
    root = run_root.resolve()
    for taken in (root, *(each.resolve() for each in stage_folders)):
        if taken.is_relative_to(folder) or (taken != root and folder.is_relative_to(taken)):
            raise ManifestError(f"publish.to must not be a folder that the run works in (got {to!r}; see {taken})")
    return FolderTarget(folder, dataset)
