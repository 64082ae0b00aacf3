"""`progress.jsonl`: snapshots of a run, one per line, kept small by thinning out what is old.

A line that a crash cut off is passed over by the readers and does no harm to the next one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from sgv_data.collect.snapshot import Snapshot
from sgv_data.run_folder import write_durably

PROGRESS_LOG = "progress.jsonl"

_DENSE_FOR_S = 60.0
_DENSE_EVERY_S = 1.0
_THEN_EVERY_S = 5.0
_MOST_BYTES = 3_000_000
_THINNED_TO_BYTES = 1_500_000
_NEWEST_KEPT = 120
_TAIL_BYTES = 64_000


class ProgressLog:
    """Appends to a log: a line a second in the first minute, one every five seconds after it."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self._first_s: float | None = None
        self._last_s = 0.0
        self._given_up = False

    def write(self, snapshot: Snapshot, at_once: bool = False) -> str | None:
        """Appends a snapshot if it is time for one, or `at_once`.

        Returns a sentence when the log cannot be written: the work is then to go on without it.
        """
        now_s = self._clock()
        if self._given_up or not (at_once or self._is_due(now_s)):
            return None
        self._first_s = now_s if self._first_s is None else self._first_s
        self._last_s = now_s
        try:
            self._append(snapshot.model_dump_json().encode())
        except OSError as exc:
            self._given_up = True
            return f"{self._path} cannot be written ({exc.strerror}); going on without it"
        return None

    def _is_due(self, now_s: float) -> bool:
        if self._first_s is None:
            return True
        every_s = _DENSE_EVERY_S if now_s - self._first_s < _DENSE_FOR_S else _THEN_EVERY_S
        return now_s - self._last_s >= every_s

    def _append(self, line: bytes) -> None:
        with self._path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            cut_off = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * cut_off + line + b"\n")
        if size > _MOST_BYTES:
            lines = self._path.read_bytes().splitlines(keepends=True)
            write_durably(self._path, b"".join(_thinned(lines, _THINNED_TO_BYTES)))


def read_latest(path: Path) -> Snapshot | None:
    """The newest snapshot in a log; None if there is none, or no log. Reads the end of the file only."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    return next((found for line in reversed(lines) if (found := _parsed(line)) is not None), None)


def _parsed(line: bytes) -> Snapshot | None:
    try:
        return Snapshot.model_validate_json(line)
    except ValidationError:
        return None


def _thinned(lines: Sequence[bytes], most_bytes: int) -> Iterator[bytes]:
    """The newest lines, and of the others about as many as fit, evenly spread over the time they are about."""
    newest = lines[-_NEWEST_KEPT:]
    room = max(1, most_bytes * len(lines) // sum(map(len, lines)) - len(newest))
    dated = [
        (datetime.fromisoformat(found.at_utc).timestamp(), line)
        for line in lines[:-_NEWEST_KEPT]
        if (found := _parsed(line)) is not None
    ]
    last_slot = None
    for at_s, line in dated:
        slot = int((at_s - dated[0][0]) / max(1.0, dated[-1][0] - dated[0][0]) * room)
        if slot != last_slot:
            yield line
        last_slot = slot
    yield from newest
