"""Whether refusals come from a limit or by chance, where no limit is known.

A server that lets in so much and no more takes the same amount per second between any two moments at which it had
nothing left, however fast it is asked. A server that turns away a request now and then takes more when asked faster.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

# Of all requests; more than this is no accident.
_CHANCE_SHARE = 0.2
_REMEMBERED = 3
_ENOUGH_TAKEN = 5
_MANY_TAKEN = 10
# Two stretches with one limit differ by this share and by the requests at their ends.
_SAME_SHARE = 0.15
_SAME_NUMBER = 1.5
# A server that is asked hardly faster than what it takes shows nothing.
_ASKED_FASTER = 1.1
_WEIGHT = 0.3
# A limit that was found may have been lowered since; after so many stretches that is no longer believed.
_MOST_LOWER = 2
# Asked no faster than a found limit, a server seems to have it. So it is tried, at first after so many refusals.
_FIRST_TRIAL = 3


@dataclass(frozen=True, slots=True)
class Stretch:
    """From one refusal to the next: requests taken and refused, how long it was, and the rate allowed at its end."""

    taken: float
    refused: int
    passed_s: float
    rate_per_s: float

    def fits(self, limit_per_s: float) -> bool:
        """Whether a server with this limit would have taken so much."""
        expected = limit_per_s * self.passed_s
        return abs(self.taken - expected) <= _SAME_SHARE * expected + _SAME_NUMBER


class Chance:
    """Judges each stretch between two refusals."""

    def __init__(self) -> None:
        self._stretches: deque[Stretch] = deque(maxlen=_REMEMBERED)
        self._found_per_s: float | None = None
        self._num_lower = self._num_agreed = 0
        self._next_trial = _FIRST_TRIAL
        self.limit_per_s: float | None = None
        """What the server takes, if that was found and the latest stretch agrees with it."""

    def explains(self, stretch: Stretch) -> bool:
        """Whether the refusal at the end of this stretch may as well be an accident: then it says nothing of a rate."""
        self._stretches.append(stretch)
        taken_per_s, found = stretch.taken / stretch.passed_s, self._found_per_s
        self.limit_per_s = None
        if found is not None and stretch.rate_per_s * _ASKED_FASTER > found and stretch.fits(found):
            found += _WEIGHT * min(1.0, stretch.taken / _MANY_TAKEN) * (taken_per_s - found)
            self._found_per_s, self.limit_per_s, self._num_lower = found, found, 0
            return self._is_trial()
        average = sum(each.taken for each in self._stretches) / sum(each.passed_s for each in self._stretches)
        if self._many_refused() or self._all_fit(average):
            self._found_per_s, self.limit_per_s, self._num_lower = average, average, 0
            return False
        if found is not None and taken_per_s < found and self._num_lower < _MOST_LOWER:
            self._num_lower += 1
            return False
        self._found_per_s, self._num_agreed, self._next_trial = None, 0, _FIRST_TRIAL
        return True

    def _is_trial(self) -> bool:
        """Whether a limit that was found is to be tried by asking faster; ever more rarely while it holds."""
        self._num_agreed += 1
        if self._num_agreed < self._next_trial:
            return False
        self._num_agreed, self._next_trial = 0, 2 * self._next_trial
        return True

    def _many_refused(self) -> bool:
        refused = sum(each.refused for each in self._stretches)
        taken = sum(each.taken for each in self._stretches)
        return refused >= _REMEMBERED and refused > _CHANCE_SHARE * (refused + taken)

    def _all_fit(self, limit_per_s: float) -> bool:
        return len(self._stretches) == _REMEMBERED and all(
            each.taken >= _ENOUGH_TAKEN and each.rate_per_s > _ASKED_FASTER * limit_per_s and each.fits(limit_per_s)
            for each in self._stretches
        )
