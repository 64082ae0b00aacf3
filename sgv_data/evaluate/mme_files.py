"""MME's files: results as the official script reads them, the release's questions, and answers as LLaVA writes them.

    results/<task>.txt                       picture, question, truth, response; tabs between them; one line each
    release/<task>/[questions_answers_YN/]<picture>.txt      question, truth
    answers.jsonl                            {"question_id": "<task>/<picture>.png", "prompt", "text"}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sgv_data.errors import InputError
from sgv_data.evaluate.mme import TASKS, Answer
from sgv_data.json_rows import read_json_rows
from sgv_data.run_folder import write_durably

_SHORT = "\nAnswer the question using a single word or phrase."
_YES_NO = " Please answer yes or no."


def read_results(folder: Path, partial: bool = False) -> dict[str, list[Answer]]:
    """Task -> its answers, in the order of the tasks.

    Raises:
        InputError: naming the tasks that have no file (not with `partial`), or the line that is not of this form.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of result files (<task>.txt)")
    there = {task: folder / f"{task}.txt" for task in TASKS if (folder / f"{task}.txt").is_file()}
    missing = [task for task in TASKS if task not in there]
    if not there or (missing and not partial):
        raise InputError(f"{folder}: has no result file for {', '.join(missing)}; --partial scores what there is")
    return {task: _read_task(path) for task, path in there.items()}


def _read_task(path: Path) -> list[Answer]:
    # Lines end as they do for the official script: splitlines would also split a response at other characters.
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    answers = []
    for number, line in enumerate(lines, 1):
        fields = line.split("\t")
        if len(fields) != 4:
            raise InputError(
                f"{path}, line {number}: has {len(fields)} fields, not picture, question, truth, response; a response "
                "must hold no tab and no line break"
            )
        answer = Answer(*fields)
        if answer.truth.lower() not in ("yes", "no"):
            raise InputError(f"{path}, line {number}: the truth must be yes or no (got {answer.truth!r})")
        answers.append(answer)
    if not answers or len(answers) % 2:
        raise InputError(f"{path}: has {len(answers)} answers; every picture has two")
    return answers


def write_results(folder: Path, answers: Mapping[str, Sequence[Answer]]) -> None:
    """Writes what the official script reads; tabs and line breaks in a response become spaces."""
    for task, some in answers.items():
        lines = ["\t".join(map(_one_line, (each.image, each.question, each.truth, each.response))) for each in some]
        write_durably(folder / f"{task}.txt", "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))


def _one_line(text: str) -> str:
    return text.translate({ord(char): " " for char in "\t\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"})


def read_release(folder: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(task, picture's stem) -> its questions and truths, from the folder of the release.

    Raises:
        InputError: if a task is missing, or a line is not question, tab, truth.
    """
    questions: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for task in TASKS:
        inner = folder / task / "questions_answers_YN"
        files = sorted((inner if inner.is_dir() else folder / task).glob("*.txt"))
        if not files:
            raise InputError(f"{folder / task}: no such task; this must be the folder MME_Benchmark_release_version")
        for path in files:
            questions[task, path.stem] = [_question(line, path) for line in _lines(path)]
    return questions


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def _question(line: str, path: Path) -> tuple[str, str]:
    question, tab, truth = line.rpartition("\t")
    truth = truth.strip()
    if not tab or truth.lower() not in ("yes", "no"):
        raise InputError(f"{path}: each line must be a question, a tab, and Yes or No (got {line!r})")
    return question.strip(), truth


def read_llava_answers(path: Path, release: Path) -> dict[str, list[Answer]]:
    """Answers in LLaVA's form with the truths of the release: task -> answers, both of a picture side by side.

    Raises:
        InputError: if an answer is to no question of the release, a question is answered twice or not at all.
    """
    questions = read_release(release)
    given: dict[tuple[str, str, str], Answer] = {}
    for row in read_json_rows(path):
        task, stem, answer = _answer(row.value, questions, f"{path}, row {row.number + 1}")
        if (task, stem, answer.question) in given:
            raise InputError(f"{path}, row {row.number + 1}: {answer.image} was asked this before")
        given[task, stem, answer.question] = answer
    found: dict[str, list[Answer]] = {task: [] for task in TASKS}
    missing = []
    for (task, stem), asked in questions.items():
        for question, _ in asked:
            answer_to = given.get((task, stem, question))
            missing += [f"{task}/{stem}"] if answer_to is None else []
            found[task] += [] if answer_to is None else [answer_to]
    if missing:
        raise InputError(f"{path}: {len(missing)} questions are not answered, first those about {missing[0]}")
    return found


def _answer(
    row: Mapping[str, Any], questions: Mapping[tuple[str, str], Iterable[tuple[str, str]]], place: str
) -> tuple[str, str, Answer]:
    name = PurePosixPath(str(row.get("question_id")))
    task, stem = name.parts[0] if len(name.parts) > 1 else "", name.stem
    truths = dict(questions.get((task, stem), ()))
    if not truths:
        raise InputError(f"{place}: question_id {str(name)!r} is no TASK/PICTURE of the release")
    asked = plain_question(str(row.get("prompt", row.get("question", ""))))
    by_plain = {plain_question(question): question for question in truths}
    if asked not in by_plain:
        raise InputError(f"{place}: the release asks no such question about {name}: {asked!r}")
    question = by_plain[asked]
    return task, stem, Answer(name.name, question, truths[question], str(row.get("text", row.get("answer", ""))))


def plain_question(prompt: str) -> str:
    """A question without the words that ask for a short answer, the placeholder of the picture and spare space."""
    text = prompt.replace("<image>", "").strip()
    for ending in (_SHORT.strip(), _YES_NO.strip()):
        text = text.removesuffix(ending).strip()
    return " ".join(text.split())
