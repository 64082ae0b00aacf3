"""What can be said to a `collect` that runs: end (Ctrl-C, SIGTERM), other limits (`sgv tune`, or SIGHUP after the
manifest was edited).

`sgv tune` leaves a small file in `collect/tune/`; the running command takes it, does as it says and removes it.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sgv_data.errors import ManifestError
from sgv_data.manifest import Limits, Manifest
from sgv_data.run_folder import write_durably

TUNE_FOLDER = "tune"
ONLY_ENDPOINT = "teacher"
_SECONDS_BETWEEN_LOOKS = 1.0

Result = TypeVar("Result")


class Tune(BaseModel):
    """Other limits, for the endpoint of that name or for all; what is not set stays as it is, null takes it away."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str | None = None
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    in_flight: int | None = Field(default=None, gt=0, le=10_000)

    def applied(self, limits: Limits) -> Limits:
        """`limits` with what is set here."""
        changes = {name: getattr(self, name) for name in self.model_fields_set if name != "endpoint"}
        return limits.model_copy(update=changes)


def endpoint_limits(manifest: Manifest) -> dict[str, Limits]:
    """The limits of each endpoint by name; without a list of endpoints there is one."""
    teacher = manifest.teacher
    if not teacher.endpoints:
        return {ONLY_ENDPOINT: teacher.limits}
    return {endpoint.name: endpoint.limits for endpoint in teacher.endpoints}


def leave_tune(stage_folder: Path, tune: Tune) -> None:
    """Writes what a running command will find within a second. Several in a row are obeyed in their order."""
    name = f"{time.time_ns():020d}.json"
    write_durably(stage_folder / TUNE_FOLDER / name, tune.model_dump_json(exclude_unset=True))


class Tunable(Protocol):
    """What limits are changed of (`fleet.Fleet`)."""

    def limits(self) -> dict[str, Limits]: ...

    def change(self, name: str, limits: Limits) -> None: ...


class Control:
    """Looks for such words while a command runs. What was left for an earlier command is forgotten."""

    def __init__(
        self,
        stage_folder: Path,
        manifest: Manifest,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._manifest, self._say, self._clock = stage_folder / TUNE_FOLDER, manifest, say, clock
        self._is_reload_wanted = False
        self._next_look_s = clock()
        for path in self._left():
            path.unlink(missing_ok=True)

    def wants_reload(self) -> None:
        """The manifest is to be read again at the next look. Safe to call from a signal handler."""
        self._is_reload_wanted = True

    def look(self, fleet: Tunable) -> None:
        """Does what was asked for; at most one look at the disk a second."""
        now = self._clock()
        if self._is_reload_wanted:
            self._is_reload_wanted = False
            self._reload(fleet)
        if now < self._next_look_s:
            return
        self._next_look_s = now + _SECONDS_BETWEEN_LOOKS
        for path in self._left():
            self._obey(path, fleet)

    def _left(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.json")) if self._folder.is_dir() else []

    def _obey(self, path: Path, fleet: Tunable) -> None:
        try:
            tune = Tune.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            self._say(f"limits stay as they are: {path} cannot be understood")
        else:
            there = fleet.limits()
            for name in there if tune.endpoint is None else {tune.endpoint} & there.keys():
                self._change(fleet, name, tune.applied(there[name]))
        with suppress(OSError):
            path.unlink()

    def _reload(self, fleet: Tunable) -> None:
        if self._manifest.origin is None:
            self._say("limits stay as they are: the manifest came from no file")
            return
        from sgv_data.manifest_file import load_manifest

        try:
            wanted = endpoint_limits(load_manifest(*self._manifest.origin))
        except ManifestError as exc:
            self._say(f"limits stay as they are: {exc}")
            return
        for name in fleet.limits().keys() & wanted.keys():
            self._change(fleet, name, wanted[name])

    def _change(self, fleet: Tunable, name: str, limits: Limits) -> None:
        if fleet.limits()[name] == limits:
            return
        fleet.change(name, limits)
        words = ", ".join(f"{key} {'unlimited' if value is None else f'{value:g}'}" for key, value in limits)
        self._say(f"limits of {name} from now on: {words}")


def run_until_told(work: Coroutine[Any, Any, Result], control: Control) -> Result:
    """`asyncio.run` that answers SIGTERM like Ctrl-C, and SIGHUP by having the manifest read again.

    Raises:
        KeyboardInterrupt: it was told to end.
    """
    try:
        return asyncio.run(_listening(work, control))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _listening(work: Coroutine[Any, Any, Result], control: Control) -> Result:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        return await work
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    loop.add_signal_handler(signal.SIGHUP, control.wants_reload)
    try:
        return await work
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
