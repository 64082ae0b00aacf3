"""Checkpoints that are whole or not there.

checkpoints/.writing/checkpoint-N   being written; never read
checkpoints/checkpoint-N            complete: it was renamed after its files were on disk
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sgv_data.run_folder import publish_folder

_KEPT = 2


class Checkpoints:
    """The checkpoints of one training run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writing = folder / ".writing"

    def clear(self) -> None:
        """Removes what is half-written. Nobody may be writing."""
        if self.writing.is_dir():
            shutil.rmtree(self.writing)

    def latest(self) -> Path | None:
        """The complete checkpoint of the highest step, or None."""
        found = self._complete()
        return found[-1] if found else None

    def publish(self, step: int) -> None:
        """Gives the checkpoint just written its final name and removes all but the last two."""
        final = self.folder / f"checkpoint-{step}"
        if final.exists():
            shutil.rmtree(final)
        publish_folder(self.writing / final.name, final)
        for old in self._complete()[:-_KEPT]:
            # Renamed first: a checkpoint that is half removed must not look complete.
            doomed = self.writing / old.name
            old.rename(doomed)
            shutil.rmtree(doomed)

    def remove(self) -> None:
        """Removes them all: the training is over and its result stored."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def _complete(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-[0-9]*"), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The number of steps done when the checkpoint was written."""
    return int(checkpoint.name.removeprefix("checkpoint-"))
