"""Where a dataset goes. A target hands out a place to prepare it, and takes the finished folder whole.

Folders (`file://`) are the one kind there is; another kind offers the same three methods and a line in `open_target`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sgv_data.errors import InputError, ManifestError, RunFolderError
from sgv_data.run_folder import publish_folder, sync_folder

MARKER = "dataset.json"
"""In every published dataset: its name among other facts, so that only a later version of it may take its place."""

_SCHEME = "file://"


class Target(Protocol):
    """A place for one dataset."""

    @property
    def location(self) -> str:
        """What a user gives to a loader to read the dataset from there."""

    def prepare(self) -> Path:
        """An empty folder to build the dataset in, after whatever an interrupted attempt left is put right.

        Raises:
            InputError: if something else is already there.
        """

    def put(self, prepared: Path) -> None:
        """Makes the prepared folder the dataset at the target: readers see the old one or the new one, never a mix."""


def open_target(to: str, dataset: str, run_root: Path, stage_folders: Iterable[Path]) -> Target:
    """The target that `publish.to` names.

    Raises:
        ManifestError: if it is of no known kind, or a folder that the run itself needs.
    """
    if not to.startswith(_SCHEME) or not to.removeprefix(_SCHEME):
        raise ManifestError(f"publish.to must be file://FOLDER, absolute or below the run folder (got {to!r})")
    folder = (run_root / Path(to.removeprefix(_SCHEME)).expanduser()).resolve()
    root = run_root.resolve()
    for taken in (root, *(each.resolve() for each in stage_folders)):
        if taken.is_relative_to(folder) or (taken != root and folder.is_relative_to(taken)):
            raise ManifestError(f"publish.to must not be a folder that the run works in (got {to!r}; see {taken})")
    return FolderTarget(folder, dataset)


@dataclass(frozen=True, slots=True)
class FolderTarget:
    """A local folder. While it is replaced, the old one stays beside it as `.NAME.old` until the new one is there."""

    folder: Path
    dataset: str

    @property
    def location(self) -> str:
        return self.folder.name

    def prepare(self) -> Path:
        self._recover()
        self._check()
        shutil.rmtree(self._new, ignore_errors=True)
        self._new.mkdir(parents=True)
        return self._new

    def put(self, prepared: Path) -> None:
        self._check()
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

    def _check(self) -> None:
        """Sees that nothing strange would be replaced."""
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
