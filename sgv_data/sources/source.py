"""What every kind of source offers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One input: `key` names it within its source, `location` finds its bytes again, `text` came along with it."""

    key: str
    location: str
    text: str | None


@dataclass(frozen=True, slots=True)
class FilePart:
    """Where a picture's bytes lie on this machine: a file from `offset_bytes` on; `num_bytes` None: to its end."""

    path: str
    offset_bytes: int = 0
    num_bytes: int | None = None

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: if they cannot be read, or the file ends before them.
        """
        if self.num_bytes is None:
            with open(self.path, "rb", buffering=0) as file:
                return file.read()
        with open(self.path, "rb", buffering=0) as file:
            data = os.pread(file.fileno(), self.num_bytes, self.offset_bytes)
        if len(data) != self.num_bytes:
            raise OSError(f"{self.path} ends before byte {self.offset_bytes + self.num_bytes}")
        return data


class PictureSource(Protocol):
    """A place pictures come from. Making one is cheap: nothing is listed or opened before it is asked for."""

    size_px: tuple[int, int] | None
    """Width and height of every picture, where they are known without looking."""

    ignored: Counter[str]
    """What the latest complete `entries()` passed over, by kind, since it does not claim to be a picture."""

    warnings: list[str]
    """Sentences about what the latest complete `entries()` found odd but could live with."""

    def identity(self) -> dict[str, Any]:
        """JSON values that differ when the pictures differ, and do not when a copy lies elsewhere.

        Raises:
            InputError: if the place is not there or holds no pictures.
        """

    def entries(self) -> Iterator[Entry]:
        """Every input, in an order that means nothing.

        Raises:
            InputError: if the place is not there, holds no pictures, or is damaged.
        """

    def read(self, location: str) -> bytes:
        """The bytes of one entry.

        Raises:
            OSError: if they cannot be read.
            InputError: if `location` is none of this source's.
        """

    def part(self, location: str) -> FilePart | None:
        """Where the bytes of one entry lie, or None where they lie in no file. Opens nothing.

        Raises:
            InputError: if `location` is none of this source's.
        """
