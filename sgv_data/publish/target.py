"""Where a dataset goes. A target hands out a place to prepare it, and takes the finished folder whole.

Folders (`file://`) are here, repositories on the Hub (`hf://`) in `hub_target.py`; `open.py` chooses.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sgv_data.dataset_format import visible_files
from sgv_data.errors import InputError, RunFolderError
from sgv_data.records import FileStamp
from sgv_data.run_folder import publish_folder, sync_folder

MARKER = "dataset.json"
"""In every published dataset: its name among other facts, so that only a later version of it may take its place."""

_LINK = "published.json"
# A link to the marker of the published folder: a finished stage whose file is missing is noticed by every command.


class Target(Protocol):
    """A place for one dataset."""

    @property
    def location(self) -> str:
        """What a user gives to a loader to read the dataset from there."""

    @property
    def on_hub(self) -> bool:
        """Whether that is the name of a repository on the Hub."""

    def check(self) -> None:
        """Sees that the dataset may go there, before anything is prepared.

        Raises:
            InputError: if something else is already there.
        """

    def prepare(self) -> Path:
        """An empty folder to build the dataset in, after whatever an interrupted attempt left is put right."""

    def plan(self, prepared: Path, files: Mapping[str, FileStamp]) -> TargetPlan:
        """What `put` would do."""

    def put(self, prepared: Path, files: Mapping[str, FileStamp]) -> None:
        """Makes the prepared folder the dataset at the target: readers see the old one or the new one, never a mix.

        `files` are all files in the folder. The folder is gone afterwards.
        """

    def mark(self, stage: Path) -> None:
        """Leaves in the stage's folder what shows later whether the dataset is still there, where that can be seen."""


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """What a publication does to its target. `warnings` are sentences about limits it comes near to."""

    num_files: int
    num_bytes: int
    send: tuple[str, ...]
    send_bytes: int
    delete: tuple[str, ...]
    num_commits: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FolderTarget:
    """A local folder. While it is replaced, the old one stays beside it as `.NAME.old` until the new one is there."""

    folder: Path
    dataset: str

    @property
    def location(self) -> str:
        return self.folder.name

    @property
    def on_hub(self) -> bool:
        return False

    def prepare(self) -> Path:
        self._recover()
        shutil.rmtree(self._new, ignore_errors=True)
        self._new.mkdir(parents=True)
        return self._new

    def plan(self, prepared: Path, files: Mapping[str, FileStamp]) -> TargetPlan:
        num_bytes = sum(stamp.num_bytes for stamp in files.values())
        old = set(visible_files(self.folder)) if self.folder.is_dir() else set()
        return TargetPlan(len(files), num_bytes, tuple(sorted(files)), num_bytes, tuple(sorted(old - files.keys())))

    def mark(self, stage: Path) -> None:
        link = stage / _LINK
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(self.folder / MARKER, stage))

    def put(self, prepared: Path, files: Mapping[str, FileStamp]) -> None:
        self.check()
        if self.folder.exists():
            os.rename(self.folder, self._old)
        publish_folder(prepared, self.folder)
        shutil.rmtree(self._old, ignore_errors=True)

    @property
    def _new(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.new")

    @property
    def _old(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.old")

    def _recover(self) -> None:
        if not self._old.exists():
            return
        if self.folder.exists():
            shutil.rmtree(self._old)
        else:
            os.rename(self._old, self.folder)
            sync_folder(self.folder.parent)

    def check(self) -> None:
        self._recover()
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise InputError(f"publish.to: {self.folder} is a file")
        if not any(self.folder.iterdir()):
            return
        try:
            there = json.loads((self.folder / MARKER).read_text(encoding="utf-8"))["name"]
        except (OSError, ValueError, LookupError, TypeError):
            raise InputError(
                f"publish.to: {self.folder} holds something else than a dataset of sgv_data; name another folder"
            ) from None
        if there != self.dataset:
            raise InputError(
                f"publish.to: {self.folder} holds the dataset {there!r}, not {self.dataset!r}; name another folder"
            )


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a finished file, or a copy where the file system has no second names across folders."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError as exc:
        raise RunFolderError(f"{source} is missing; make the stage again with --redo shard") from exc
    except OSError:
        shutil.copyfile(source, target)
