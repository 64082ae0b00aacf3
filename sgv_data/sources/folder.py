"""Source kind `folder`: pictures below a folder, at any depth.

A file counts as a picture by its extension or, with another or none, by its first bytes. Hidden files and folders are
left out. Links are followed, each real folder once, folders of the tree itself first.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgv_data.errors import InputError
from sgv_data.images.formats import EXTENSIONS, HEAD_BYTES, extension_of, sniff
from sgv_data.package_data import resolve_asset
from sgv_data.sources.paths import quote_path, unquote_path
from sgv_data.sources.source import Entry, FilePart
from sgv_data.sources.texts import LISTS, listed_texts, sidecar_text


@dataclass(frozen=True, slots=True)
class _Found:
    """A file that counts as a picture: path relative to the source's folder, size, and its text file if any."""

    path: str
    num_bytes: int
    text_path: str | None


class Folder:
    """The pictures below `path`, a folder or `sgv:NAME`."""

    size_px: tuple[int, int] | None = None

    def __init__(self, path: str) -> None:
        self._root = resolve_asset(path) if path.startswith("sgv:") else Path(path).expanduser()
        self.ignored: Counter[str] = Counter()
        self.warnings: list[str] = []

    def identity(self) -> dict[str, Any]:
        """Digest over relative paths and sizes of pictures and their texts. Neither place nor times count, so that a
        copy elsewhere is the same input; a change of equal size is noticed when the bytes are read again."""
        hasher, count = hashlib.sha256(), 0
        for found in self._pictures():
            text_bytes = _size(self._root / found.text_path) if found.text_path else -1
            hasher.update(f"{quote_path(found.path)}\0{found.num_bytes}\0{text_bytes}\n".encode())
            count += 1
        for name in LISTS:
            if (self._root / name).is_file():
                hasher.update(name.encode() + hashlib.sha256((self._root / name).read_bytes()).digest())
        return {"files": count, "listing": hasher.hexdigest()}

    def entries(self) -> Iterator[Entry]:
        texts = listed_texts(self._root)
        for found in self._pictures():
            text = sidecar_text(self._root / found.text_path) if found.text_path else None
            place = quote_path(found.path)
            yield Entry(key=place, location=place, text=text or texts.get(found.path))

    def read(self, location: str) -> bytes:
        return self.part(location).read()

    def part(self, location: str) -> FilePart:
        path = unquote_path(location)
        if os.path.isabs(path) or ".." in path.split("/"):
            raise InputError(f"{location}: is outside {self._root}")
        return FilePart(f"{self._root}/{path}")

    def _pictures(self) -> Iterator[_Found]:
        """Every picture, folders before the links to others; counts what is ignored."""
        self._check_root()
        self.ignored, self.warnings = Counter(), []
        found_any = False
        for folder, names in self._walk():
            for found in self._in_folder(folder, names):
                found_any = True
                yield found
        if not found_any:
            self._raise_empty()

    def _check_root(self) -> None:
        if not self._root.exists():
            raise InputError(f"{self._root}: no such folder of pictures")
        if not self._root.is_dir():
            raise InputError(f"{self._root}: is a file; a source of kind folder needs the folder the pictures are in")
        if not os.access(self._root, os.R_OK | os.X_OK):
            raise InputError(f"{self._root}: not allowed to read this folder")

    def _raise_empty(self) -> None:
        if not self.ignored:
            raise InputError(f"{self._root}: this folder is empty; no pictures to index")
        seen = ", ".join(f"{count} {kind}" for kind, count in self.ignored.most_common(4))
        raise InputError(f"{self._root}: no pictures in this folder, only other things ({seen})")

    def _walk(self) -> Iterator[tuple[str, list[str]]]:
        """Relative folder ("" for the root) and the sorted names of what is in it but is no folder."""
        visited: set[tuple[int, int]] = set()
        folders: list[str] = [""]
        links: list[str] = []
        while folders or links:
            folder = folders.pop() if folders else links.pop(0)
            place = self._root / folder
            try:
                facts = place.stat()
                if (facts.st_dev, facts.st_ino) in visited:
                    continue
                visited.add((facts.st_dev, facts.st_ino))
                names, inner, linked = _list(place)
            except OSError as exc:
                self.ignored["unreadable folder"] += 1
                self.warnings.append(f"{quote_path(folder)}: cannot be listed ({exc.strerror}) and is left out")
                continue
            yield folder, names
            folders += [_join(folder, name) for name in reversed(inner)]
            links += [_join(folder, name) for name in linked]

    def _in_folder(self, folder: str, names: list[str]) -> Iterator[_Found]:
        sidecars = {name[:-4]: name for name in names if name.lower().endswith(".txt")}
        used: set[str] = set()
        others: list[tuple[str, str]] = []
        for name in names:
            path = _join(folder, name)
            kind, num_bytes = self._kind(path, name)
            if kind is not None:
                others.append((name, kind))
                continue
            text_name = sidecars.get(name.rpartition(".")[0] or name)
            if text_name:
                used.add(text_name)
            yield _Found(path, num_bytes, _join(folder, text_name) if text_name else None)
        for name, kind in others:
            if name not in used and not (name in LISTS and not folder):
                self.ignored[kind] += 1

    def _kind(self, path: str, name: str) -> tuple[str | None, int]:
        """(None, size) for a picture, else what kind of thing it is.

        Files that cannot be looked at but are named like a picture count as one: they end as a row that says so.
        """
        extension = extension_of(name)
        try:
            facts = (self._root / path).stat()
            if not stat.S_ISREG(facts.st_mode):
                return "special file", 0
            if extension in EXTENSIONS:
                return None, facts.st_size
            with (self._root / path).open("rb") as file:
                is_picture = sniff(file.read(HEAD_BYTES)) is not None
            if is_picture:
                return None, facts.st_size
        except OSError:
            if extension in EXTENSIONS:
                return None, -1
        return (quote_path(f".{extension}") if extension else "without extension"), 0


def _list(place: Path) -> tuple[list[str], list[str], list[str]]:
    """The visible names in a folder, sorted: things that are no folders, folders, links to folders."""
    names: list[str] = []
    folders: list[str] = []
    links: list[str] = []
    with os.scandir(place) as listing:
        for item in listing:
            if not item.name.startswith("."):
                (names if not _is_folder(item) else links if item.is_symlink() else folders).append(item.name)
    return sorted(names), sorted(folders), sorted(links)


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
