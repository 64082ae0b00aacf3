"""What every kind of source offers."""

from __future__ import annotations

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


class PictureSource(Protocol):
    """A place pictures come from. Making one is cheap: nothing is listed or opened before it is asked for."""

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
