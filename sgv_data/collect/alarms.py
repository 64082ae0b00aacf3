"""Alarms: what looks so wrong in the latest answers that no more money should go out. No clock, no I/O."""

from __future__ import annotations

import hashlib
import string
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sgv_data.errors import AlarmRaised, redact
from sgv_data.manifest import Alarms
from sgv_data.printable import printable
from sgv_data.records import FailureClass, Outcome

_EXAMPLE_CHARS = 120
_KEPT_CHARS = 600
_NO_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + "–—…“”‘’«»¿¡、。，", " "))


class _Kind(StrEnum):
    """The alarms, named as their thresholds in the manifest."""

    REFUSED = "refused_share"
    TRUNCATED = "truncated_share"
    FAILED = "failed_share"
    SAME_TEXT = "same_text_share"


_Mark = tuple[_Kind, str]
"""What an answer counts as; the second part tells failure classes, or texts, apart."""


@dataclass(frozen=True, slots=True)
class _Answer:
    marks: tuple[_Mark, ...]
    start: str


class AlarmBell:
    """Looks at the last `over` answers it was told of; silent until there are so many. Rings once."""

    def __init__(self, alarms: Alarms) -> None:
        self._thresholds: dict[_Kind, float | None] = {kind: getattr(alarms, kind.value) for kind in _Kind}
        self._over = alarms.over
        self._window: deque[_Answer] = deque()
        self._marks: Counter[_Mark] = Counter()
        self._rung = False

    def ended(self, outcome: Outcome, failure: FailureClass | None, text: str) -> None:
        """Counts one answer; `text` is the caption, or what was said of a refusal or a failure.

        Raises:
            AlarmRaised: the share of something in the window has come to its threshold.
        """
        if self._rung:
            return
        answer = _Answer(_marks_of(outcome, failure, text), text[:_KEPT_CHARS])
        if len(self._window) == self._over:
            self._forget(self._window.popleft())
            grown: Iterable[_Mark] = answer.marks
        else:
            grown = self._marks
        self._window.append(answer)
        self._marks.update(answer.marks)
        if len(self._window) == self._over:
            self._check(grown)

    def _forget(self, answer: _Answer) -> None:
        for mark in answer.marks:
            self._marks[mark] -= 1
            if not self._marks[mark]:
                del self._marks[mark]

    def _check(self, marks: Iterable[_Mark]) -> None:
        for mark in marks:
            threshold = self._thresholds[mark[0]]
            if threshold is not None and self._marks[mark] >= threshold * self._over:
                self._rung = True
                start = next(answer.start for answer in reversed(self._window) if mark in answer.marks)
                raise AlarmRaised(_sentence(mark, self._marks[mark], self._over, threshold, start))


def _marks_of(outcome: Outcome, failure: FailureClass | None, text: str) -> tuple[_Mark, ...]:
    """Refusals are often worded alike, so that equal words count against captions only."""
    match outcome:
        case Outcome.REFUSED:
            return ((_Kind.REFUSED, ""),)
        case Outcome.FAILED:
            return ((_Kind.FAILED, failure.value if failure else "failed"),)
        case Outcome.TRUNCATED:
            return ((_Kind.TRUNCATED, ""), *_same_words(text))
        case _:
            return _same_words(text)


def _same_words(text: str) -> tuple[_Mark, ...]:
    """Equal for captions that differ in case, spaces and punctuation only; none for one without a word."""
    words = " ".join(text.casefold().translate(_NO_PUNCTUATION).split())
    if not words:
        return ()
    return ((_Kind.SAME_TEXT, hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:20]),)


def _sentence(mark: _Mark, count: int, over: int, threshold: float, start: str) -> str:
    kind, detail = mark
    what = {
        _Kind.REFUSED: "are refusals",
        _Kind.TRUNCATED: "are cut off at the token limit",
        _Kind.FAILED: f"failed with {detail}",
        _Kind.SAME_TEXT: "say the same words",
    }[kind]
    said = printable(redact(printable(start)), _EXAMPLE_CHARS).rstrip(".")
    example = f", for example: “{said}”" if said else ""
    field = f"teacher.alarms.{kind}"
    return (
        f"spending was stopped: {count} of the last {over} answers {what} ({field} is {threshold:g}){example}. "
        f"Everything answered is stored. The same command goes on and judges the next {over} answers afresh; "
        f"to bear more, raise {field}, or switch this alarm off with --set {field}=null"
    )
