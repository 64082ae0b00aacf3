"""Several engines on one machine: a process for each GPU, and each takes units until none is left.

A process that dies takes nothing with it but the units it was at, which the others claim; another one is started in its
place. A second machine helps by `join` on a shared run folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sgv_data.errors import RunFolderError, SgvError
from sgv_data.expand.gauge import FORECAST_FROM, forecast
from sgv_data.expand.here import Notes, describe_here
from sgv_data.expand.setup import MADE_BY, Work, prepare
from sgv_data.manifest import Manifest
from sgv_data.processes import Workers, usable_cores
from sgv_data.progress import Progress, Silent
from sgv_data.run_folder import RunFolder

_LOOK_S = 0.5
_MOST_DEATHS_WITHOUT_A_UNIT = 24
"""Deaths in a row after which it is not a picture's fault: to find one bad picture in a unit of 256 takes 12."""


@dataclass(slots=True)
class _Member:
    """One engine's process and the place it computes on."""

    place: str
    process: Workers
    task: Future[Notes]


def describe_by_team(work: Work, root: Path, progress: Progress, num_left: int, until_finished: bool = True) -> Notes:
    """Describes all units with an engine per entry of `expand.gpus`.

    Raises:
        SgvError: what stopped the engines, or that they die one after the other.
    """
    team = _Team(work, root, until_finished)
    started = time.monotonic()
    store, num_before = work.store(), None
    with team.at_work() as members:
        while True:
            num_there = sum(len(unit.rows) for unit in work.units() if store.has(unit))
            num_before = num_there if num_before is None else num_before
            if (new := num_there - num_before - team.num_new) > 0:
                team.num_new += new
                team.num_deaths = 0
                progress.advance(new)
                if team.num_new >= FORECAST_FROM:
                    progress.show(forecast(team.num_new, num_left, time.monotonic() - started, len(members)))
            if not team.replace_dead(members) and all(member.task.done() for member in members):
                break
            time.sleep(_LOOK_S)
        found = [member.task.result() for member in members]
    rate = round(team.num_new / max(time.monotonic() - started, 1e-9), 2)
    return {"engines": len(members), "captions_per_s": rate, **_common(found)}


def _common(found: list[Notes]) -> Notes:
    """Sums of what the engines counted, and what most of them waited for."""
    names = ("waiting_for_pictures_s", "model_s", "reading_s", "decoding_s", "writing_s")
    sums: Notes = {name: round(sum(float(notes[name] or 0) for notes in found), 2) for name in names}
    waits = [str(notes["bottleneck"]) for notes in found]
    return {**sums, "bottleneck": max(set(waits), key=waits.count)} if waits else sums


class _Team:
    def __init__(self, work: Work, root: Path, until_finished: bool) -> None:
        self._work, self._root, self._until_finished = work, root, until_finished
        self._places = work.manifest.expand.gpus
        self._stack = ExitStack()
        self.num_new = self.num_deaths = 0

    @contextmanager
    def at_work(self) -> Iterator[list[_Member]]:
        with self._stack:
            yield [self._start(place) for place in self._places]

    def replace_dead(self, members: list[_Member]) -> bool:
        """Starts a new process for each that was killed; whether there was one. Their errors are ours."""
        died = False
        for number, member in enumerate(members):
            if not member.task.done() or (error := member.task.exception()) is None:
                continue
            if not isinstance(error, BrokenProcessPool | RuntimeError) or isinstance(error, SgvError):
                raise error
            self.num_deaths += 1
            if self.num_deaths > _MOST_DEATHS_WITHOUT_A_UNIT:
                raise SgvError(
                    f"the engines' processes break down one after the other, the last with: {error}. Finished units "
                    "are kept; is there enough memory for the model?"
                ) from error
            members[number] = self._start(member.place)
            died = True
        return died

    def _start(self, place: str) -> _Member:
        share = max(1, usable_cores() // len(self._places))
        process = self._stack.enter_context(Workers(1, _settle_at, place, share))
        task = process.submit(_work_at, self._work.manifest.model_dump_json(), str(self._root), self._until_finished)
        return _Member(place, process, task)


def _settle_at(place: str, num_threads: int) -> None:
    """In the process, before torch is loaded: it sees its own GPU and no other."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if place == "cpu" else place
    if place == "cpu":
        os.environ.setdefault("OMP_NUM_THREADS", str(num_threads))


def _work_at(manifest_json: str, root: str, until_finished: bool) -> Notes:
    work = prepare(Manifest.model_validate_json(manifest_json), RunFolder(Path(root)))
    return describe_here(work, Silent(), 0, until_finished)


def join(manifest: Manifest, run: RunFolder, progress: Progress) -> Notes:
    """Helps an expansion that another process, perhaps on another machine, has begun and will finish.

    Raises:
        RunFolderError: there is none, or it was begun with other settings.
    """
    from sgv_data.expand.run import identity

    begun, wanted = run.started("expand"), identity(manifest, "expand")
    if begun is None:
        raise RunFolderError(f"{run.stage('expand')}: no expansion is under way here; start it with sgv expand first")
    if {name: value for name, value in begun.identity.items() if name != "version"} != wanted:
        raise RunFolderError(f"{run.stage('expand')} was begun with other settings; join it with the same manifest")
    work = prepare(manifest, run)
    _same_captioner_as(work)
    store = work.store()
    num_left = sum(len(unit.rows) for unit in work.units() if not store.has(unit))
    progress.begin("expand", num_left)
    if manifest.expand.gpus:
        return describe_by_team(work, run.root, progress, num_left, until_finished=False)
    return describe_here(work, progress, num_left, until_finished=False)


def _same_captioner_as(work: Work) -> None:
    """Two machines may compute in different precision: then their units are not the same."""
    asked = (work.folder / "units" / MADE_BY).read_text(encoding="ascii")
    if asked != work.writer.made_by:
        raise RunFolderError(
            f"this machine would describe differently ({work.writer.sampling(work.setting)}) from the one that began; "
            "set captioner.precision in the manifest, so that all compute alike, and start again"
        )


