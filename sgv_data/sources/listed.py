"""What sources have in common whose pictures are named by a list: a table of paths, or a LLaVA-format file.

A picture's key is its listed path, wherever it is found, so that ids do not depend on how something was unpacked. What
is listed twice counts once. Pictures that are nowhere are entries too: the index rejects them by name.
"""

from __future__ import annotations

import errno
import hashlib
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from sgv_data.errors import InputError
from sgv_data.run_folder import file_sha256
from sgv_data.sources.locate import Locator
from sgv_data.sources.missing import Explained
from sgv_data.sources.paths import quote_path, unquote_path
from sgv_data.sources.source import Entry, FilePart

_MISSING = "listed, but the file is missing"


class Listed(ABC):
    """The pictures below `images` that the file `path` names."""

    size_px: tuple[int, int] | None = None

    def __init__(self, path: str, images: str | None) -> None:
        self._list = Path(path).expanduser()
        self._root = Path(images).expanduser() if images else self._list.parent
        self.ignored: Counter[str] = Counter()
        self.warnings: list[str] = []

    @abstractmethod
    def _rows(self) -> Iterator[tuple[str, str | None]]:
        """Every listed path, as it is written, with the text beside it; counts in `ignored` what names none.

        Raises:
            InputError: if the list is not there or is damaged.
        """

    def identity(self) -> dict[str, Any]:
        """Digest over the list and the sizes of the pictures that are there."""
        hasher, count = hashlib.sha256(), 0
        for entry in self.entries():
            hasher.update(f"{entry.key}\0{self._size(entry.location)}\n".encode())
            count += 1
        return {"listed": count, "list": file_sha256(self._list), "listing": hasher.hexdigest()}

    def entries(self) -> Iterator[Entry]:
        self._check()
        self.ignored, self.warnings = Counter(), []
        locator, explained = Locator(self._root), Explained(str(self._root))
        seen: set[bytes] = set()
        for written, text in self._rows():
            path = self._inside(written)
            short = hashlib.sha256(os.fsencode(path)).digest()[:12]
            if short in seen:
                continue
            seen.add(short)
            located = locator.find(path)
            explained.note(path, located)
            yield Entry(key=quote_path(path), location=quote_path(located.path), text=text)
        if not seen:
            raise InputError(f"{self._list}: lists no pictures")
        self.warnings = explained.sentences()
        if explained.num_missing == len(seen):
            raise InputError(f"{self._list}: none of the {len(seen):,} listed pictures is there. {self.warnings[0]}")

    def read(self, location: str) -> bytes:
        try:
            return self.part(location).read()
        except FileNotFoundError as exc:
            raise OSError(errno.ENOENT, _MISSING, exc.filename) from exc

    def part(self, location: str) -> FilePart:
        path = unquote_path(location)
        if os.path.isabs(path) or ".." in path.split("/"):
            raise InputError(f"{location}: is outside {self._root}")
        return FilePart(f"{self._root}/{path}")

    def _check(self) -> None:
        if not self._list.is_file():
            raise InputError(f"{self._list}: no such list of pictures")
        if not self._root.is_dir():
            raise InputError(f"{self._root}: no such folder of pictures (images)")

    def _inside(self, written: str) -> str:
        """A listed path relative to the root.

        Raises:
            InputError: if it is a URL or leads out of the root.
        """
        if written.startswith(("http://", "https://", "s3://", "gs://", "hf://")):
            raise InputError(f"{self._list}: lists URLs ({written}); fetch the pictures first, e.g. with img2dataset")
        path = PurePosixPath(written)
        root = PurePosixPath(str(self._root.absolute()))
        if path.is_absolute() and path.is_relative_to(root):
            path = path.relative_to(root)
        if path.is_absolute() or ".." in path.parts:
            raise InputError(f"{self._list}: lists {written}, which is outside {self._root}")
        return str(path)

    def _size(self, location: str) -> int:
        try:
            return os.stat(self.part(location).path).st_size
        except OSError:
            return -1
