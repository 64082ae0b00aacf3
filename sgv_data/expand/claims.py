"""Who works on which unit, where several processes or machines share one run folder.

    .claims/<unit>          held by one worker, whose name is in it
    .claims/<unit>.tries    a byte for each try that was begun and neither finished nor given back
    .claims/@<worker>       touched every few seconds while the worker lives

A claim is stale when its worker is known to be dead (on the same machine) or has not been seen for a while; then the
next one who wants it takes it over. Times are those of the file system, so that clocks need not agree. Two workers that
did the same unit after all would write the same captions: claims save work, they do not guard what is written.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from pathlib import Path
from types import TracebackType

from sgv_data.errors import SgvError
from sgv_data.run_folder import sync_folder

BEAT_S = 5.0
STALE_S = 60.0


class Claims:
    """The claims of one worker. Use as a context manager: while it is open, the worker is alive for the others."""

    def __init__(self, units: Path, beat_s: float = BEAT_S, stale_s: float = STALE_S) -> None:
        self._folder = units / ".claims"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._host = socket.gethostname().replace("~", "-").replace("/", "-")
        self._who = f"{self._host}~{os.getpid()}~{secrets.token_hex(4)}"
        self._beat_s, self._stale_s = beat_s, stale_s
        self._held: set[str] = set()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="claims", daemon=True)

    def __enter__(self) -> Claims:
        self._beat_file(self._who).touch()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives back what is held. Tries count as broken down only after an error that nobody foresaw."""
        broke_down = kind is not None and issubclass(kind, Exception) and not issubclass(kind, SgvError)
        for unit in list(self._held):
            self.give_back(unit, broke_down)
        self._ends.set()
        self._thread.join()
        self._beat_file(self._who).unlink(missing_ok=True)

    def take(self, unit: str) -> int | None:
        """Claims a unit: how many tries at it broke down before, or None if somebody else is at it."""
        path = self._folder / unit
        if not self._create(path) and not (self._clear_stale(path) and self._create(path)):
            return None
        self._held.add(unit)
        tries = self._folder / f"{unit}.tries"
        before = tries.stat().st_size if tries.is_file() else 0
        with tries.open("ab") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self._folder)
        return before

    def done(self, unit: str) -> None:
        """The unit is finished."""
        (self._folder / f"{unit}.tries").unlink(missing_ok=True)
        self._drop(unit)

    def give_back(self, unit: str, broke_down: bool) -> None:
        """The unit is not finished. `broke_down`: this try counts as one that did."""
        tries = self._folder / f"{unit}.tries"
        if not broke_down and tries.is_file():
            os.truncate(tries, max(0, tries.stat().st_size - 1))
        self._drop(unit)

    def sweep(self) -> None:
        """Removes what dead workers left behind, their tries excepted. For when a run is at its end."""
        for path in self._folder.iterdir():
            if path.name.startswith("@") and self._is_gone(path.name[1:]):
                path.unlink(missing_ok=True)

    def _drop(self, unit: str) -> None:
        if unit in self._held:
            self._held.discard(unit)
            (self._folder / unit).unlink(missing_ok=True)

    def _create(self, path: Path) -> bool:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(self._who)
        except FileExistsError:
            return False
        return True

    def _clear_stale(self, path: Path) -> bool:
        """Removes a claim whose worker is gone; false if it is not, or another was quicker."""
        try:
            owner = path.read_text(encoding="utf-8")
            seen = None if owner else path.stat().st_mtime  # its writer had not come to its name yet
            if not self._is_gone(owner, seen):
                return False
            aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.stale")
            os.rename(path, aside)
            taken = aside.read_text(encoding="utf-8")
            if taken != owner:  # another took it over in between, and now we hold its claim in hand
                os.rename(aside, path)
                return False
            aside.unlink()
        except FileNotFoundError:
            return True
        return True

    def _is_gone(self, owner: str, seen: float | None = None) -> bool:
        """Whether a worker is dead or was not seen for long; `seen`: when it was, where no name tells."""
        if owner == self._who:
            return False
        host, _, rest = owner.partition("~")
        pid = rest.partition("~")[0]
        if host == self._host and pid.isdigit() and _is_dead(int(pid)):
            return True
        try:
            seen = self._beat_file(owner).stat().st_mtime if seen is None else seen
            mine = self._beat_file(self._who)
            mine.touch()
            return mine.stat().st_mtime - seen > self._stale_s
        except FileNotFoundError:
            return True

    def _beat_file(self, who: str) -> Path:
        return self._folder / f"@{who}"

    def _beat(self) -> None:
        while not self._ends.wait(self._beat_s):
            try:
                self._beat_file(self._who).touch()
            except OSError:
                continue  # the shared folder may be away for a moment; others will wait for us


def _is_dead(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
