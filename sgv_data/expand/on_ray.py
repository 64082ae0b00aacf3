"""Engines on a Ray cluster: one actor per GPU, or per few cores where there are none.

Ray places the actors, starts them again elsewhere when their machine is lost, and tells which calls were lost with
them. Actors rather than Ray Data: an engine keeps a batch running over many units and hands each back as it is
finished, which a map over blocks does not, and what was lost with a machine is counted per unit, so that a picture that
breaks engines is found. Each actor has one call under way, of a few units: that is the back-pressure.

Only this process writes: what it writes is what a local run writes.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sgv_data.errors import MissingPart, SgvError
from sgv_data.expand.gauge import FORECAST_FROM, forecast
from sgv_data.expand.here import Notes
from sgv_data.expand.rows import Asking
from sgv_data.expand.setup import Work
from sgv_data.expand.units import Unit, UnitStore
from sgv_data.expand.work import TRIES_HALF, TRIES_PICTURE, TRIES_WHOLE
from sgv_data.progress import Progress, Silent
from sgv_data.records import CaptionRow

_UNITS_PER_CALL = 8
_LOOK_S = 1.0
_MOST_DEATHS_WITHOUT_A_UNIT = 24  # per engine


def describe_on_ray(work: Work, progress: Progress, num_left: int) -> Notes:
    """Describes all units that are not there yet.

    Raises:
        MissingPart: Ray is not installed.
        SgvError: the cluster cannot be reached, holds no engine, or engines die one after the other.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as exc:
        raise MissingPart("--on ray needs Ray, which is not installed: pip install 'sgv_data[ray]'") from exc
    with ExitStack() as stack:
        if not ray.is_initialized():
            _connect(ray, work.manifest.expand.ray_address)
            stack.callback(ray.shutdown)
        actors = _actors(ray, work)
        progress.say(f"expand: {len(actors)} engines on the Ray cluster")
        started = time.monotonic()
        shift = _Shift(ray, work, actors, progress, num_left)
        shift.work()
        rate = round(num_left / max(time.monotonic() - started, 1e-9), 2)
        for actor in actors:
            ray.kill(actor)
    return {"engines": len(actors), "captions_per_s": rate, "calls_lost": shift.num_lost}


def _connect(ray: Any, address: str | None) -> None:
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(address=address, log_to_driver=False)
        else:
            ray.init(include_dashboard=False, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as exc:
        raise SgvError(f"the Ray cluster {address or '(started here)'} cannot be reached: {exc}") from exc


def _actors(ray: Any, work: Work) -> list[Any]:
    """As many engines as the cluster has room for."""
    resources = ray.cluster_resources()
    # An engine and the processes that decode for it.
    num_cpus = 1 + work.manifest.expand.workers
    if num := int(resources.get("GPU", 0)):
        needs = {"num_gpus": 1, "num_cpus": num_cpus}
    else:
        num, needs = int(resources.get("CPU", 0)) // num_cpus, {"num_cpus": num_cpus}
    if not num:
        raise SgvError(f"the Ray cluster has no room for an engine, which takes {num_cpus} CPUs; it has {resources}")
    kind = ray.remote(max_restarts=-1, max_task_retries=0, **needs)(EngineActor)
    return [kind.remote(work) for _ in range(num)]


class EngineActor:
    """One engine, in a process of Ray's. It is opened by its first call, so that an error in it is that call's."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._stack = ExitStack()
        self._describer: Any = None

    def is_there(self) -> bool:
        """Answered by an actor that is up, again after its process or machine was lost."""
        return True

    def describe(self, units: list[Unit]) -> Iterator[tuple[str, list[CaptionRow]]]:
        """The askings of each unit, under its name, as soon as it is finished."""
        if self._describer is None:
            self._describer = self._open()
        for unit, askings in self._describer.finished(units):
            yield unit.name, askings

    def _open(self) -> Any:
        from sgv_data.expand.decoding import DecodingPool
        from sgv_data.expand.describe import Describer
        from sgv_data.expand.engines import opened_engine
        from sgv_data.expand.gauge import Gauge
        from sgv_data.expand.here import num_decoded_ahead
        from sgv_data.expand.ladder import Ladder

        work, expand = self._work, self._work.manifest.expand
        pool = self._stack.enter_context(DecodingPool(work.opener(), expand.workers, num_decoded_ahead(expand)))
        engine = self._stack.enter_context(opened_engine(work))
        gauge = Gauge(Silent(), 0, expand.workers)
        return Describer(engine, pool, work.writer, Ladder(expand), work.setting, gauge)


@dataclass(slots=True)
class _Call:
    """What an actor is at: the units not handed back yet."""

    actor: Any
    results: Any
    units: dict[str, Unit]


@dataclass(slots=True)
class _Pieces:
    """Units still to be described, and what is known of those at which engines died."""

    fresh: Iterator[Unit]
    store: UnitStore
    tries: dict[str, int] = field(default_factory=dict)
    alone: deque[Unit] = field(default_factory=deque)
    ahead: list[Unit] = field(default_factory=list)
    parents: dict[str, tuple[Unit, tuple[Unit, Unit]]] = field(default_factory=dict)

    def next_call(self) -> list[Unit]:
        """The units for one call: those with a past go alone."""
        if self.alone:
            return [self.alone.popleft()]
        units, self.ahead = self.ahead or list(islice(self.fresh, _UNITS_PER_CALL)), []
        return units

    def are_left(self) -> bool:
        """Whether any are waiting for a call."""
        self.ahead = self.ahead or list(islice(self.fresh, _UNITS_PER_CALL))
        return bool(self.alone or self.ahead)

    def finished(self, unit: Unit, askings: list[CaptionRow]) -> None:
        """Stores a unit, and the one it is half of when the other half is there."""
        self.store.write(unit, askings)
        self.tries.pop(unit.name, None)
        if (found := self.parents.pop(unit.name, None)) is None:
            return
        parent, halves = found
        if all(self.store.has(half) for half in halves):
            self.finished(parent, [asking for half in halves for asking in self.store.read(half)])
            for half in halves:
                self.store.remove(half)

    def lost(self, unit: Unit, work: Work) -> None:
        """An engine died over a unit: again, in halves, or given up."""
        tries = self.tries[unit.name] = self.tries.get(unit.name, 0) + 1
        is_half, num_rows = unit.name in self.parents, len(unit.rows)
        if tries < (TRIES_PICTURE if num_rows == 1 else TRIES_HALF if is_half else TRIES_WHOLE):
            self.alone.append(unit)
        elif num_rows == 1:
            self.finished(unit, [work.writer.broken(unit.rows[0], Asking(work.setting))])
        else:
            halves = unit.halves()
            for half in halves:
                self.parents[half.name] = (unit, halves)
            self.alone.extend(half for half in halves if not self.store.has(half))


class _Shift:
    """Hands units to actors until all are described."""

    def __init__(self, ray: Any, work: Work, actors: list[Any], progress: Progress, num_left: int) -> None:
        self._ray, self._work, self._progress, self._num_left = ray, work, progress, num_left
        self._idle = list(actors)
        self._num_engines = len(actors)
        store = work.store()
        self._pieces = _Pieces((unit for unit in work.units() if not store.has(unit)), store)
        self._calls: list[_Call] = []
        self._coming_back: list[tuple[Any, Any]] = []  # actors that were lost, and what they are to answer
        self._started = time.monotonic()
        self._num_done = self._deaths_in_a_row = 0
        self.num_lost = 0

    def work(self) -> None:
        """Returns when there is nothing left to describe."""
        while self._calls or self._pieces.are_left():
            self._hand_out()
            results = [call.results for call in self._calls]
            answers = [answer for _, answer in self._coming_back]
            ready, _ = self._ray.wait([*results, *answers], num_returns=1, timeout=_LOOK_S)
            for call in [call for call in self._calls if any(call.results is each for each in ready)]:
                self._take(call)
            for actor, answer in [pair for pair in self._coming_back if any(pair[1] is each for each in ready)]:
                self._greet(actor, answer)

    def _hand_out(self) -> None:
        while self._idle and (units := self._pieces.next_call()):
            actor = self._idle.pop()
            results = actor.describe.options(num_returns="streaming").remote(units)
            self._calls.append(_Call(actor, results, {unit.name: unit for unit in units}))

    def _take(self, call: _Call) -> None:
        from ray.exceptions import RayActorError, RayTaskError

        try:
            name, askings = self._ray.get(next(call.results))
        except StopIteration:
            self._end(call)
        except RayTaskError as exc:
            if isinstance(exc.cause, SgvError):
                raise exc.cause from exc
            self._lose(call, exc)
        except RayActorError as exc:
            self._lose(call, exc)
        else:
            unit = call.units.pop(name)
            self._pieces.finished(unit, askings)
            self._deaths_in_a_row = 0
            self._tell(len(unit.rows))

    def _end(self, call: _Call) -> None:
        self._calls.remove(call)
        self._idle.append(call.actor)

    def _greet(self, actor: Any, answer: Any) -> None:
        """An actor that was lost is up again, or still is not."""
        from ray.exceptions import RayActorError

        self._coming_back = [pair for pair in self._coming_back if pair[1] is not answer]
        try:
            self._ray.get(answer)
        except RayActorError as exc:
            self._count_death(exc)
            time.sleep(_LOOK_S)
            self._coming_back.append((actor, actor.is_there.remote()))
        else:
            self._idle.append(actor)

    def _count_death(self, exc: BaseException) -> None:
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row > _MOST_DEATHS_WITHOUT_A_UNIT * self._num_engines:
            raise SgvError(f"the engines on the cluster break down one after the other, the last with: {exc}") from exc

    def _lose(self, call: _Call, exc: BaseException) -> None:
        """A machine, a process or a picture: what was not handed back is described by whoever is free."""
        from ray.exceptions import RayActorError

        self.num_lost += 1
        self._count_death(exc)
        for unit in call.units.values():
            self._pieces.lost(unit, self._work)
        self._calls.remove(call)
        if isinstance(exc, RayActorError):
            self._coming_back.append((call.actor, call.actor.is_there.remote()))
        else:
            self._idle.append(call.actor)

    def _tell(self, num_new: int) -> None:
        self._num_done += num_new
        self._progress.advance(num_new)
        if self._num_done >= FORECAST_FROM:
            seconds = time.monotonic() - self._started
            self._progress.show(forecast(self._num_done, self._num_left, seconds, self._num_engines))
