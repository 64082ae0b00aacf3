"""The contract of a stage: what `pipeline.py` asks of each `<stage>/run.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sgv_data.manifest import Manifest
from sgv_data.progress import Progress
from sgv_data.records import CaptionSet, StageReport
from sgv_data.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a stage is handed besides the manifest. `again`: what of a finished stage is to be tried once more."""

    run: RunFolder
    stage: str
    active: tuple[str, ...]
    progress: Progress
    again: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The only folder this stage writes in. It exists."""
        return self.run.stage(self.stage)

    @property
    def caption_set(self) -> CaptionSet:
        """For the two filter stages: whose captions are judged."""
        return CaptionSet(self.stage.removeprefix("filter-"))

    def input(self, stage: str) -> Path:
        """The folder of a finished earlier stage."""
        return self.run.stage(stage)


class StageModule(Protocol):
    """A module `sgv_data.<stage>.run`."""

    VERSION: int
    """Raised when the stage's own logic changes what it writes."""

    KEEP: tuple[str, ...]
    """Patterns of files that outlive `--redo` and stay out of the record, such as paid replies."""

    def identity(self, manifest: Manifest, stage: str) -> dict[str, Any]:
        """Everything in the manifest, and around it, that changes this stage's output; JSON values only."""

    def run(self, manifest: Manifest, context: StageContext) -> StageReport:
        """Does the work, going on from whatever an interrupted attempt left in the folder."""
