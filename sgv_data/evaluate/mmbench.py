"""MMBench scores: options matched by rule, questions counted by CircularEval.

The benchmark's table holds every question several times, its options rotated, as rows whose index is that of the base
row plus a multiple of a million. A question is right only if the answer to each of its rows is. The rules are those of
VLMEvalKit's `matching_util.py` and `multiple_choice.py`, without a judge: an answer that no rule can read is wrong, is
counted and listed, and no option is drawn for it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sgv_data.errors import InputError

ROTATION = 1_000_000
"""The distance between the indexes of a question's rows."""
NONE_OF_THEM = "Z"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_TOKENS = 4
_ANSWER_IS = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Question:
    """One row of the table, without its picture. `answer` is None where the truth is not published."""

    index: int
    options: Mapping[str, str]
    answer: str | None
    category: str
    ability: str
    split: str

    @property
    def group(self) -> int:
        """The index of the base row."""
        return self.index % ROTATION


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A row whose answer no rule could read; None: it was not answered."""

    index: int
    prediction: str | None


@dataclass(slots=True)
class Tally:
    """Questions and how many are right."""

    num_questions: int = 0
    num_right: int = 0

    @property
    def accuracy(self) -> float:
        """In percent."""
        return self.num_right / self.num_questions * 100 if self.num_questions else 0.0


@dataclass(slots=True)
class BenchScore:
    """CircularEval over all questions, per split, ability (l2-category) and category, and the plain accuracy.

    `plain` counts the base rows alone: how good the answers are when options stand in one order only.
    """

    overall: Tally = field(default_factory=Tally)
    plain: Tally = field(default_factory=Tally)
    by_split: dict[str, Tally] = field(default_factory=dict)
    by_ability: dict[str, Tally] = field(default_factory=dict)
    by_category: dict[str, Tally] = field(default_factory=dict)
    unmatched: list[Unmatched] = field(default_factory=list)
    num_rows: int = 0
    num_incomplete: int = 0
    """Questions that have fewer rows than options."""


def matched(prediction: str, options: Mapping[str, str]) -> str | None:
    """The letter of the option that an answer means, Z for none of them, None if no rule can tell."""
    if any(refusal in prediction for refusal in _REFUSALS):
        return NONE_OF_THEM
    return _by_letter(prediction, options) or _by_phrase(prediction, options) or _by_text(prediction, options)


def _by_letter(prediction: str, options: Mapping[str, str]) -> str | None:
    """The only option letter among the words, if it is first met within the last four of them."""
    tokens = prediction.translate(_MARKS).split()
    letters = [letter for letter in options if letter in tokens]
    if len(letters) == 1:
        return letters[0] if tokens.index(letters[0]) >= len(tokens) - _LAST_TOKENS else None
    return NONE_OF_THEM if not letters and NONE_OF_THEM in tokens else None


def _by_phrase(prediction: str, options: Mapping[str, str]) -> str | None:
    """The letter behind `answer is`."""
    found = _ANSWER_IS.search(prediction)
    letter = found[1].upper() if found else None
    return letter if letter in options else None


def _by_text(prediction: str, options: Mapping[str, str]) -> str | None:
    """The only option whose words the answer holds, unless the answer is much longer than all options."""
    text = prediction.lower()
    if len(text) > 2 * sum(map(len, options.values())):
        return None
    letters = [letter for letter, words in options.items() if words.lower() in text]
    return letters[0] if len(letters) == 1 else None


def score(questions: Iterable[Question], predictions: Mapping[int, str]) -> BenchScore:
    """CircularEval over `predictions`, index -> answer.

    Raises:
        InputError: if a row has no truth, or an answer is to no row.
    """
    found, groups = BenchScore(), defaultdict[int, list[tuple[Question, bool]]](list)
    known = set()
    for question in questions:
        known.add(question.index)
        groups[question.group].append((question, _right(question, predictions.get(question.index), found)))
    strange = sorted(set(predictions) - known)
    if strange:
        first = strange[0]
        raise InputError(f"{len(strange)} answers are to no row of the table, first index {first}; another version?")
    for rows in groups.values():
        _count(rows, found)
    return found


def _right(question: Question, prediction: str | None, found: BenchScore) -> bool:
    if question.answer is None:
        raise InputError(
            f"question {question.index} has no answer in the table: this split is scored by MMBench's server; write "
            "the file for it with --submission"
        )
    found.num_rows += 1
    letter = None if prediction is None else matched(prediction, question.options)
    if letter is None:
        found.unmatched.append(Unmatched(question.index, prediction))
    return letter == question.answer


def _count(rows: Sequence[tuple[Question, bool]], found: BenchScore) -> None:
    """Adds one question; one without its base row is only counted as incomplete, since the official tools drop it."""
    base, base_right = min(rows, key=lambda row: row[0].index)
    right = all(each for _, each in rows)
    found.num_incomplete += len(rows) != len(base.options)
    if base.index >= ROTATION:
        return
    tallies = [
        found.overall,
        found.by_split.setdefault(base.split, Tally()),
        found.by_ability.setdefault(base.ability, Tally()),
        found.by_category.setdefault(base.category, Tally()),
    ]
    for tally in tallies:
        tally.num_questions += 1
        tally.num_right += right
    found.plain.num_questions += 1
    found.plain.num_right += base_right

