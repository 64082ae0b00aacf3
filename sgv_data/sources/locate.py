"""Finding pictures that a list names, also where they were unpacked in another way than the list expects.

Of every listed path are looked at, in this order: the path itself; the same name in the places that the known mistakes
of unpacking lead to; another picture extension in any of these. Places that could hold other pictures of the same name
(any folder inside, the folders above) count only where the listed folder has no pictures of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sgv_data.images.formats import EXTENSIONS, extension_of

_MAX_NAMES_KEPT = 2_000_000
_MAX_INNER_FOLDERS = 2_000


class How(StrEnum):
    """How a listed picture was found, or why not."""

    AS_LISTED = "as listed"
    ZIP_PREFIX = "below the folders that the released zip has inside it"
    DEEPER = "unpacked a level deeper"
    HIGHER = "the folder of pictures points below the first folders of the paths"
    EXTENSION = "with another extension"
    NO_FOLDER = "no such folder"
    NO_FILE = "not in its folder"


MISSING = (How.NO_FOLDER, How.NO_FILE)


@dataclass(frozen=True, slots=True)
class Located:
    """Where a listed picture is, relative to the root; the listed path itself if it is nowhere."""

    path: str
    how: How


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder in which a listed folder's pictures may be, and how it differs."""

    folder: str
    how: How
    names: frozenset[str]


class Locator:
    """Looks below `root`. Each folder is listed once; what is kept of that is bounded."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._places: dict[str, list[_Place]] = {}
        self._stems: dict[str, dict[str, str]] = {}
        self._num_names = 0

    def find(self, path: str) -> Located:
        """Where the picture `path` (relative, with /) is."""
        folder, _, name = path.rpartition("/")
        places = self._of(folder)
        for place in places:
            if name in place.names:
                return Located(_join(place.folder, name), place.how)
        stem = name.rpartition(".")[0] or name
        for place in places:
            other = self._stems_in(place).get(stem)
            if other is not None:
                return Located(_join(place.folder, other), How.EXTENSION)
        there = any(place.how is not How.HIGHER for place in places)
        return Located(path, How.NO_FILE if there else How.NO_FOLDER)

    def _of(self, folder: str) -> list[_Place]:
        """The places for a listed folder that exist."""
        if folder not in self._places:
            if self._num_names > _MAX_NAMES_KEPT:
                self._places, self._stems, self._num_names = {}, {}, 0
            found = []
            for candidate, how in _candidates(self._root, folder):
                names = _names(self._root / candidate)
                if names is not None:
                    found.append(_Place(candidate, how, names))
                    self._num_names += len(names)
            self._places[folder] = found
        return self._places[folder]

    def _stems_in(self, place: _Place) -> dict[str, str]:
        """Stem -> the first picture with it."""
        if place.folder not in self._stems:
            pictures = sorted(name for name in place.names if extension_of(name) in EXTENSIONS)
            self._stems[place.folder] = {name.rpartition(".")[0]: name for name in reversed(pictures)}
        return self._stems[place.folder]


def _candidates(root: Path, folder: str) -> Iterator[tuple[str, How]]:
    """Folders in which the pictures of a listed folder may be, the likeliest first, each once."""
    seen = set()
    for candidate, how in _all_candidates(root, folder):
        if candidate not in seen:
            seen.add(candidate)
            yield candidate, how


def _all_candidates(root: Path, folder: str) -> Iterator[tuple[str, How]]:
    yield folder, How.AS_LISTED
    names = _names(root / folder) or ()
    is_bare = not any(extension_of(name) in EXTENSIONS for name in names)
    parts = folder.split("/") if folder else []
    # The web zips hold data/<source>/images/ again, whatever folder they were unpacked in.
    for depth in range(len(parts) + 1):
        yield _join("/".join(parts[:depth]), _join("data", folder)), How.ZIP_PREFIX
    for depth in range(1, len(parts) + 1):
        yield _join("/".join(parts[:depth]), "/".join(parts[depth - 1 :])), How.DEEPER  # train2017/train2017
    for inner in _folders(root / folder) if is_bare else ():
        yield _join(folder, inner), How.DEEPER  # images/sa_000000
    for depth in range(1, len(parts) + 1 if is_bare else 0):
        yield "/".join(parts[depth:]), How.HIGHER


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


def _names(folder: Path) -> frozenset[str] | None:
    """The names in a folder; None if there is no such folder."""
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return None


def _folders(folder: Path) -> list[str]:
    """The folders in a folder, sorted; of very many only the first."""
    try:
        with os.scandir(folder) as listing:
            return sorted(item.name for item in listing if item.is_dir())[:_MAX_INNER_FOLDERS]
    except OSError:
        return []
