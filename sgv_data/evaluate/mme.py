"""MME scores. The rules are those of the official `eval_tool/calculation.py` (MME, branch Evaluation), whose parser is
`Parser.OFFICIAL`; `Parser.WHOLE_WORD` reads the same answers strictly.

Every question is asked about a picture twice, once with the truth yes and once with no. Of a task,
    accuracy       100 * right answers / questions
    accuracy+      100 * pictures with both answers right / pictures
    score          accuracy + accuracy+, 0 to 200
and a category's score is the sum over its tasks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from sgv_data.errors import InputError

PERCEPTION = {
    "existence": 60, "count": 60, "position": 60, "color": 60, "posters": 294, "celebrity": 340, "scene": 400,
    "landmark": 400, "artwork": 400, "OCR": 40,
}  # fmt: skip
COGNITION = {"commonsense_reasoning": 140, "numerical_calculation": 40, "text_translation": 40, "code_reasoning": 40}
"""Tasks with how many questions each has, in the order in which their scores are added up."""
CATEGORIES: Mapping[str, Mapping[str, int]] = {"perception": PERCEPTION, "cognition": COGNITION}
TASKS: Mapping[str, int] = {**PERCEPTION, **COGNITION}

Label = Literal["yes", "no", "other"]
_WORDS = re.compile(r"[a-z0-9]+(?:['’][a-z]+)?")
_OFFICIAL_PREFIX_CHARS = 4


class Parser(StrEnum):
    """How an answer becomes yes or no."""

    OFFICIAL = "official"
    WHOLE_WORD = "whole-word"


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of a result file: `truth` is yes or no in any case."""

    image: str
    question: str
    truth: str
    response: str


@dataclass(frozen=True, slots=True)
class TaskScore:
    """The numbers of one task."""

    num_questions: int
    num_right: int
    num_pairs_right: int
    num_other: int

    @property
    def accuracy(self) -> float:
        """Share of right answers, in percent."""
        return self.num_right / self.num_questions * 100

    @property
    def accuracy_plus(self) -> float:
        """Share of pictures with both answers right, in percent."""
        return self.num_pairs_right / (self.num_questions // 2) * 100

    @property
    def score(self) -> float:
        """0 to 200."""
        return self.accuracy + self.accuracy_plus


def parsed(response: str, parser: Parser) -> Label:
    """What an answer says.

    The official parser looks at the first four characters, so `know` is a no and `The answer is yes` is neither. The
    strict one looks for the whole words: only one of them may occur, anywhere.
    """
    text = response.lower()
    if parser is Parser.OFFICIAL:
        start = text[:_OFFICIAL_PREFIX_CHARS]
        return "yes" if "yes" in start else "no" if "no" in start else "other"
    words = set(_WORDS.findall(text))
    if ("yes" in words) == ("no" in words):
        return "other"
    return "yes" if "yes" in words else "no"


def score_task(answers: Sequence[Answer], parser: Parser) -> TaskScore:
    """The score of one task; answers 1 and 2, 3 and 4, … are those about one picture.

    Raises:
        InputError: if there are none, an odd number of them, or a truth is not yes or no.
    """
    if not answers or len(answers) % 2:
        raise InputError(f"{len(answers)} answers: every picture has two, and there must be some")
    num_right = num_pairs_right = num_other = 0
    for pair in _pairs(answers):
        right = 0
        for answer in pair:
            label = parsed(answer.response, parser)
            num_other += label == "other"
            right += label == _truth(answer)
        num_right += right
        num_pairs_right += right == 2
    return TaskScore(len(answers), num_right, num_pairs_right, num_other)


def _pairs(answers: Sequence[Answer]) -> Iterator[tuple[Answer, Answer]]:
    return zip(answers[::2], answers[1::2], strict=False)


def _truth(answer: Answer) -> str:
    truth = answer.truth.lower()
    if truth not in ("yes", "no"):
        raise InputError(f"the truth about {answer.image} must be yes or no (got {answer.truth!r})")
    return truth


def category_scores(tasks: Mapping[str, TaskScore]) -> dict[str, float]:
    """Perception (0 to 2000) and cognition (0 to 800): the sums over those of their tasks that there are."""
    return {
        category: sum(tasks[name].score for name in names if name in tasks) for category, names in CATEGORIES.items()
    }


def oddities(task: str, answers: Sequence[Answer]) -> list[str]:
    """Sentences about what the official script would not notice: lines missing or pairs of different pictures."""
    found = []
    if len(answers) != TASKS[task]:
        found.append(f"{task}: has {len(answers)} answers, the benchmark asks {TASKS[task]} questions")
    torn = [first.image for first, second in _pairs(answers) if first.image != second.image]
    if torn:
        found.append(f"{task}: {len(torn)} pairs are of two different pictures, first {torn[0]}; lines are missing")
    return found
