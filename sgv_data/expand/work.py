"""One worker's part of the units: claims one after another until all are finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sgv_data.captioner.setting import Setting
from sgv_data.expand.claims import Claims
from sgv_data.expand.describe import Describer
from sgv_data.expand.rows import Asking, Writer
from sgv_data.expand.units import Unit, UnitStore
from sgv_data.records import CaptionRow

TRIES_WHOLE = 2
TRIES_HALF = 1
TRIES_PICTURE = 2
"""A unit at which so many tries broke down is taken apart, its halves after one more each, and so on; a single picture
is given up after two."""

_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What a worker works with."""

    store: UnitStore
    claims: Claims
    describer: Describer
    writer: Writer
    setting: Setting

    def describe(self, units: Iterable[Unit]) -> None:
        """Describes claimed units, stores them and lets go of their claims."""
        self.describer.describe(units, self._keep)

    def _keep(self, unit: Unit, askings: list[CaptionRow]) -> None:
        self.store.write(unit, askings)
        self.claims.done(unit.name)


def work_through(
    bench: Bench, units: Callable[[], Iterator[Unit]], until_finished: bool, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Describes every unit that nobody else has finished or is at. `until_finished`: returns only when all are there,
    and takes over those whose worker is gone; else when there is nothing left to claim."""
    while True:
        suspects: list[Unit] = []
        bench.describe(_claimed(bench, units(), suspects))
        for unit in suspects:
            _take_apart(bench, unit)
            bench.claims.done(unit.name)
        if not any(not bench.store.has(unit) for unit in units()):
            return
        if not until_finished and not suspects:
            return
        sleep(_LOOK_AGAIN_S)


def _claimed(bench: Bench, units: Iterator[Unit], suspects: list[Unit]) -> Iterator[Unit]:
    """Units that are ours now; those that broke down before are set aside, to be described alone."""
    for unit in units:
        if bench.store.has(unit) or (tries := bench.claims.take(unit.name)) is None:
            continue
        if bench.store.has(unit):  # finished between the two looks
            bench.claims.done(unit.name)
        elif tries >= TRIES_WHOLE:
            suspects.append(unit)
        else:
            yield unit


def _take_apart(bench: Bench, unit: Unit) -> None:
    """Describes a claimed unit that breaks workers down: each half by itself, whose tries are counted in turn."""
    if len(unit.rows) == 1:
        bench.store.write(unit, [bench.writer.broken(unit.rows[0], Asking(bench.setting))])
        return
    halves = unit.halves()
    for half in halves:
        if bench.store.has(half):
            continue
        tries = bench.claims.take(half.name)
        if tries is not None and tries < (TRIES_HALF if len(half.rows) > 1 else TRIES_PICTURE):
            bench.describe([half])
        else:
            _take_apart(bench, half)
            bench.claims.done(half.name)
    bench.store.write(unit, [asking for half in halves for asking in bench.store.read(half)])
    for half in halves:
        bench.store.remove(half)
