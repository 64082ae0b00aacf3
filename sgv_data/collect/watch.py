"""The watch over a run of `collect`: counts what happens, tells it as a `Snapshot`, and stops spending on an alarm."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from sgv_data.api.prices import price_of
from sgv_data.collect.alarms import AlarmBell
from sgv_data.collect.pace import Pace
from sgv_data.collect.panel import panel_of
from sgv_data.collect.progress_log import ProgressLog
from sgv_data.collect.snapshot import EndpointState, Snapshot
from sgv_data.errors import redact
from sgv_data.manifest import Manifest
from sgv_data.printable import printable
from sgv_data.progress import Progress
from sgv_data.records import FailureClass, Lane, Outcome, counted
from sgv_data.run_folder import utc_now

_SECONDS_BETWEEN_TELLINGS = 1.0
_ENOUGH_TO_PROJECT = 20
_MOST_FAULT_NAMES = 40
_FAULT_NAME_CHARS = 40
_OTHER_FAULTS = "other"


class Money(Protocol):
    """What the watch asks of the budget: all that was spent for this run folder, earlier commands included."""

    spent_usd: float


class Watch:
    """One per command. `ended` and `faulted` are told what happens, `tick` tells it on; none of them waits.

    `num_total` are all pictures asked about, `num_done_before` those with an answer when the command began. The alarms
    look at answers of this command only, so that a restart judges afresh.
    """

    def __init__(
        self,
        manifest: Manifest,
        num_total: int,
        num_done_before: int,
        budget: Money,
        progress: Progress,
        log_path: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        teacher = manifest.teacher
        self.lane = Lane(teacher.lane)
        self._num_total, self._num_done_before = num_total, num_done_before
        self._budget, self._budget_usd = budget, teacher.budget_usd
        self._spent_before_usd = budget.spent_usd
        self._priced = price_of(teacher) is not None
        self._progress, self._clock = progress, clock
        self._log = ProgressLog(log_path, clock)
        self._bell = AlarmBell(teacher.alarms)
        self._started_s = clock()
        self._pace = Pace(self._started_s)
        self._outcomes: Counter[Outcome] = Counter()
        self._failures: Counter[FailureClass] = Counter()
        self._faults: Counter[str] = Counter()
        self._fault_names: dict[str, str] = {}
        self._num_shared = 0
        self._told_s: float | None = None

    def ended(self, outcome: Outcome, failure: FailureClass | None, text: str, usage_tokens: int) -> None:
        """A picture ended, and that is on the disk. `text`: the caption, or what was said of a refusal or failure;
        `usage_tokens`: what was billed for it, in and out.

        Raises:
            AlarmRaised: the answers look so wrong that no more should be paid for. Rings once per command.
        """
        self._outcomes[outcome] += 1
        if failure is not None:
            self._failures[failure] += 1
        self._pace.ended(self._clock(), usage_tokens)
        self._bell.ended(outcome, failure, text)

    def asked_again(self, count: int) -> None:
        """So many pictures more are to be asked about: they ended before and are asked another time."""
        self._num_total += count

    def shared(self, count: int = 1) -> None:
        """So many pictures are done without having been asked about: they are equal to others."""
        self._num_shared += count

    def faulted(self, name: str) -> None:
        """A try went wrong; `name` may be a server's own word."""
        if name not in self._fault_names and len(self._fault_names) < _MOST_FAULT_NAMES:
            self._fault_names[name] = printable(redact(printable(name)), _FAULT_NAME_CHARS) or _OTHER_FAULTS
        self._faults[self._fault_names.get(name, _OTHER_FAULTS)] += 1

    def tick(
        self,
        endpoints: Sequence[EndpointState],
        in_flight: int,
        backing_off: int,
        binding: str | None = None,
        last: bool = False,
    ) -> Snapshot:
        """What is happening now; shown and logged at most once a second, and when it is the `last` one.

        `binding` is given where something else than an endpoint's limit keeps the run from being faster.
        """
        snapshot = self._snapshot(endpoints, in_flight, backing_off, binding)
        now_s = self._clock()
        if last or self._told_s is None or now_s - self._told_s >= _SECONDS_BETWEEN_TELLINGS:
            self._told_s = now_s
            self._progress.show(panel_of(snapshot))
            if (problem := self._log.write(snapshot, at_once=last)) is not None:
                self._progress.say(problem)
        return snapshot

    def _snapshot(
        self, endpoints: Sequence[EndpointState], in_flight: int, backing_off: int, binding: str | None
    ) -> Snapshot:
        now_s = self._clock()
        num_now = self._outcomes.total()
        num_done = self._num_done_before + self._num_shared + num_now
        num_left = max(0, self._num_total - num_done)
        return Snapshot(
            at_utc=utc_now(),
            lane=self.lane,
            num_total=self._num_total,
            num_done=num_done,
            num_done_now=num_now,
            in_flight=in_flight,
            backing_off=backing_off,
            per_s=round(self._pace.per_s(now_s), 3),
            tokens_per_minute=round(self._pace.tokens_per_minute(now_s), 1),
            binding=binding if binding is not None else _binding(endpoints),
            eta_s=_rounded(self._pace.eta_s(now_s, num_left), 1),
            spent_usd=_rounded(self._budget.spent_usd, 6) if self._priced else None,
            projected_usd=_rounded(self._projected_usd(num_now, num_left), 4),
            budget_usd=self._budget_usd,
            outcomes=counted(self._outcomes),
            failures=counted(self._failures),
            faults=dict(self._faults.most_common()),
            endpoints=tuple(endpoints),
        )

    def _projected_usd(self, num_now: int, num_left: int) -> float | None:
        """What all will have cost, if the rest costs what a picture of this command did, failures included."""
        if not self._priced:
            return None
        if not num_left:
            return self._budget.spent_usd
        if num_now < _ENOUGH_TO_PROJECT:
            return None
        spent_now_usd = max(0.0, self._budget.spent_usd - self._spent_before_usd)
        return self._budget.spent_usd + spent_now_usd / num_now * num_left


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _binding(endpoints: Sequence[EndpointState]) -> str:
    """What keeps the run from being faster, and where: `tokens`, or with several endpoints `tokens at a, pause at b`.

    Endpoints that are left out say so only when none is left.
    """
    working = [each for each in endpoints if not each.out]
    if not working:
        return "no endpoint answers" if endpoints else "work"
    if len(endpoints) == 1:
        return working[0].binding
    places: dict[str, list[str]] = {}
    for each in working:
        places.setdefault(each.binding, []).append(each.name)
    if len(places) == 1:
        return working[0].binding
    return ", ".join(f"{binding} at {' and '.join(names)}" for binding, names in places.items())
