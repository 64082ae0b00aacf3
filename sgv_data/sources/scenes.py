"""Source kind `scenes`: pictures drawn by the demo when they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from sgv_data.demo.scenes import SIDE_PX, scene_bytes
from sgv_data.errors import InputError
from sgv_data.sources.source import Entry


class Scenes:
    """The first `count` scenes of the series `seed`; the key is the number, padded to six digits."""

    size_px: tuple[int, int] | None = (SIDE_PX, SIDE_PX)

    def __init__(self, seed: int, count: int) -> None:
        self._seed, self._count = seed, count
        self.ignored: Counter[str] = Counter()
        self.warnings: list[str] = []

    def identity(self) -> dict[str, Any]:
        return {"seed": self._seed, "count": self._count}

    def entries(self) -> Iterator[Entry]:
        for number in range(self._count):
            yield Entry(key=f"{number:06d}", location=str(number), text=None)

    def read(self, location: str) -> bytes:
        if not location.isdigit() or int(location) >= self._count:
            raise InputError(f"scene {location!r}: there are {self._count}, counted from 0")
        return scene_bytes(self._seed, int(location))

    def part(self, location: str) -> None:
        return None
