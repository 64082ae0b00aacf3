from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from sgv_data.errors import InputError
from sgv_data.evaluate.mme import CATEGORIES, TASKS, Answer, Parser, category_scores, oddities, parsed, score_task
from sgv_data.evaluate.mme_files import read_llava_answers, read_results, write_results
from tests.unit.evaluate import official_mme

ODD = (
    "know", "The answer is yes", "yes", "no", "Yes.", "No, it is not", "", " ", "  yes", "   no", "\tyes", "no\nyes",
    "**Yes**", "eyes", "cannot", "not sure", "none", "another", "YES!", "y", "n", "Nope", "yes and no", "I'd say no",
    "Yes\r\nIt is", "答案是 yes", "No\u2028yes", "yesno",
)  # fmt: skip


def random_answers(seed: int) -> dict[str, list[Answer]]:
    """A whole set of answers, a good part of them odd, with as many questions per task as the benchmark has."""
    drawn = random.Random(seed)
    careful = drawn.random()
    answers: dict[str, list[Answer]] = {}
    for task, count in TASKS.items():
        answers[task] = []
        for number in range(count):
            truth = ("Yes", "No")[number % 2]
            reply = truth if drawn.random() < careful else drawn.choice(ODD)
            answers[task].append(Answer(f"{number // 2:04d}.png", f"Question {number}?", truth, reply))
    return answers


def test_the_tasks_are_those_published() -> None:
    assert [sum(tasks.values()) for tasks in CATEGORIES.values()] == [2114, 260]
    assert sum(TASKS.values()) == 2374
    assert list(CATEGORIES["perception"]) == official_mme.PERCEPTION
    assert list(CATEGORIES["cognition"]) == official_mme.COGNITION


@pytest.mark.parametrize("seed", range(50))
def test_scores_equal_the_published_rule_on_random_answers(tmp_path: Path, seed: int) -> None:
    answers = random_answers(seed)
    write_results(tmp_path, answers)
    read = read_results(tmp_path)
    ours = category_scores({task: score_task(some, Parser.OFFICIAL) for task, some in read.items()})
    assert ours == official_mme.scores(tmp_path)


@pytest.mark.parametrize("seed", range(50))
def test_strict_scores_equal_a_count_of_whole_words(seed: int) -> None:
    answers = random_answers(seed)["count"]
    right = [
        (re.search(rf"\b{each.truth.lower()}\b", each.response.lower()) is not None)
        and (re.search(rf"\b{'no' if each.truth == 'Yes' else 'yes'}\b", each.response.lower()) is None)
        for each in answers
    ]
    both = sum(a and b for a, b in zip(right[::2], right[1::2], strict=True))
    expected = sum(right) / 60 * 100 + both / 30 * 100
    assert score_task(answers, Parser.WHOLE_WORD).score == expected


@pytest.mark.parametrize(
    ("reply", "official", "whole_word"),
    [
        ("know", "no", "other"),
        ("The answer is yes", "other", "yes"),
        ("eyes", "yes", "other"),
        ("none", "no", "other"),
        ("cannot", "other", "other"),
        ("**Yes**", "other", "yes"),
        ("", "other", "other"),
        (" No.", "no", "no"),
        ("  yes", "other", "yes"),
        ("Yes, there is no dog", "yes", "other"),
        ("NO", "no", "no"),
        ("no\n", "no", "no"),
        ("yes's", "yes", "other"),
    ],
)
def test_how_an_answer_is_read(reply: str, official: str, whole_word: str) -> None:
    assert (parsed(reply, Parser.OFFICIAL), parsed(reply, Parser.WHOLE_WORD)) == (official, whole_word)


def test_a_written_result_is_read_back_with_tabs_and_line_breaks_as_spaces(tmp_path: Path) -> None:
    answers = {"count": [Answer("a.png", "Q?", "Yes", "yes\tor\r\nno\u2028"), Answer("a.png", "R?", "No", "")]}
    write_results(tmp_path, answers)
    assert read_results(tmp_path, partial=True) == {
        "count": [Answer("a.png", "Q?", "Yes", "yes or  no "), Answer("a.png", "R?", "No", "")]
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\tQ\tYes\tyes\na\tR\tNo\tno\tmore\n", "line 2: has 5 fields"),
        ("a\tQ\tYes\tyes\n\na\tR\tNo\tno\n", "line 2: has 1 fields"),
        ("a\tQ\tMaybe\tyes\na\tR\tNo\tno\n", "line 1: the truth must be yes or no"),
        ("a\tQ\tYes\tyes\n", "1 answers; every picture has two"),
        ("", "0 answers"),
    ],
)
def test_a_damaged_result_file_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "count.txt").write_text(text)
    with pytest.raises(InputError, match=says):
        read_results(tmp_path, partial=True)


def test_missing_tasks_are_named(tmp_path: Path) -> None:
    answers = random_answers(0)
    del answers["OCR"], answers["scene"]
    write_results(tmp_path, answers)
    with pytest.raises(InputError, match="no result file for scene, OCR"):
        read_results(tmp_path)
    assert len(read_results(tmp_path, partial=True)) == 12


def test_what_the_official_script_overlooks_is_said() -> None:
    answers = random_answers(0)["count"]
    assert oddities("count", answers) == []
    torn = oddities("count", answers[1:-1])
    assert "58 answers" in torn[0]
    assert "29 pairs are of two different pictures, first 0000.png" in torn[1]


def _release(folder: Path, answers: dict[str, list[Answer]]) -> Path:
    for task, some in answers.items():
        place = folder / task / ("questions_answers_YN" if task in ("landmark", "scene") else "")
        place.mkdir(parents=True)
        for first, second in zip(some[::2], some[1::2], strict=True):
            lines = [f"{each.question} Please answer yes or no.\t{each.truth}\n" for each in (first, second)]
            (place / f"{Path(first.image).stem}.txt").write_text("".join(lines))
    return folder


def _llava(path: Path, answers: dict[str, list[Answer]]) -> Path:
    rows = [
        {
            "question_id": f"{task}/{each.image}",
            "prompt": f"{each.question}\nAnswer the question using a single word or phrase.",
            "text": each.response,
        }
        for task, some in answers.items()
        for each in some
    ]
    random.Random(1).shuffle(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_in_llavas_form_find_their_truth_in_any_order(tmp_path: Path) -> None:
    answers = random_answers(4)
    read = read_llava_answers(_llava(tmp_path / "answers.jsonl", answers), _release(tmp_path / "release", answers))
    for parser in Parser:
        ours = {task: score_task(some, parser) for task, some in read.items()}
        assert ours == {task: score_task(some, parser) for task, some in answers.items()}


def test_answers_to_unknown_or_unanswered_questions_are_refused(tmp_path: Path) -> None:
    answers = random_answers(4)
    release = _release(tmp_path / "release", answers)
    whole = _llava(tmp_path / "answers.jsonl", answers).read_text().splitlines(keepends=True)
    few = tmp_path / "few.jsonl"
    for lines, says in (
        (whole[1:], "1 questions are not answered"),
        ([*whole, whole[0]], "was asked this before"),
        ([*whole, '{"question_id": "count/none.png", "prompt": "?", "text": ""}\n'], "no TASK/PICTURE"),
        ([*whole, '{"question_id": "count/0000.png", "prompt": "Other?", "text": ""}\n'], "asks no such question"),
    ):
        few.write_text("".join(lines))
        with pytest.raises(InputError, match=says):
            read_llava_answers(few, release)
