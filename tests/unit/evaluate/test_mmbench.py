from __future__ import annotations

import csv
import json
import random
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sgv_data.errors import InputError
from sgv_data.evaluate.mmbench import matched, score
from sgv_data.evaluate.mmbench_files import read_predictions, read_questions, write_submission, write_unmatched

COLUMNS = [
    "index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "source", "l2-category", "comment",
    "split",
]  # fmt: skip
Row = dict[str, Any]


# The published rule, written down once more and on its own ------------------------------------------------------------


def infer(text: str, choices: dict[str, str]) -> str | None:
    for phrase in ("Sorry, I can't help with images of people yet.", "Cannot determine the answer"):
        if phrase in text:
            return "Z"
    spaced = "".join(" " if char in ".()[],:;!*#{}" else char for char in text)
    tokens = spaced.split()
    present = [letter for letter in choices if tokens.count(letter)]
    if len(present) == 1 and tokens.index(present[0]) > len(tokens) - 5:
        return present[0]
    if not present and "Z" in tokens:
        return "Z"
    lowered = text.lower()
    place = lowered.find("answer is ")
    while place >= 0:
        rest = lowered[place + len("answer is ") :].lstrip("* ")
        if rest[:1] in ("a", "b", "c", "d"):
            return rest[0].upper() if rest[0].upper() in choices else infer_text(lowered, choices)
        place = lowered.find("answer is ", place + 1)
    return infer_text(lowered, choices)


def infer_text(lowered: str, choices: dict[str, str]) -> str | None:
    if len(lowered) > 2 * len("".join(choices.values())):
        return None
    held = [letter for letter, words in choices.items() if lowered.count(words.lower())]
    return held[0] if len(held) == 1 else None


def circular(rows: Iterable[Row], predictions: dict[int, str]) -> dict[str, float]:
    """Accuracy overall and per category: the share of base rows whose every rotation is right."""
    rows = list(rows)
    right: dict[str, list[bool]] = {"": []}
    for base in rows:
        if base["index"] >= 10**6:
            continue
        turns = [row for row in rows if row["index"] % 10**6 == base["index"]]
        hit = all(
            infer(predictions[row["index"]], {c: row[c] for c in "ABCD" if row[c]}) == row["answer"]
            if row["index"] in predictions else False
            for row in turns
        )  # fmt: skip
        right[""].append(hit)
        right.setdefault(base["category"], []).append(hit)
    return {name: sum(hits) / len(hits) * 100 for name, hits in right.items()}


# ---------------------------------------------------------------------------------------------------------------------


def table(drawn: random.Random, num_questions: int = 25) -> list[Row]:
    rows = []
    for index in range(num_questions):
        words = drawn.sample(["a dog", "two cats", "blue", "A red\ncar", 'the "sign"', "None", "nan", "left"], 4)
        words = words[: drawn.randint(2, 4)]
        place = drawn.randrange(len(words))
        for shift in range(len(words)):
            turned = words[shift:] + words[:shift]
            row: Row = dict.fromkeys(COLUMNS, "")
            row |= dict(zip("ABCD", turned, strict=False))
            row |= {
                "index": index + shift * 10**6, "question": f"What\tis {index}?", "image": "aGVsbG8=" * 2000,
                "answer": "ABCD"[(place - shift) % len(words)], "category": f"kind{index % 3}",
                "l2-category": f"ability{index % 2}", "split": "dev",
            }  # fmt: skip
            rows.append(row)
    drawn.shuffle(rows)
    return rows


def write_table(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def reply(drawn: random.Random, row: Row, careful: float) -> str:
    options = {letter: row[letter] for letter in "ABCD" if row[letter]}
    letter = row["answer"] if drawn.random() < careful else drawn.choice("ABCDZ")
    words = options.get(letter, "none of them")
    forms = [
        letter, f"{letter}.", f"({letter})", f"{letter}. {words}", words, words.upper(), f"The answer is {letter}.",
        f"The correct answer is **{letter}**, since it shows {words} and not the others at all", letter.lower(),
        f"'{letter}'", f"{letter} or A", "", "Cannot determine the answer", f"I think it is {letter} in the end, or so",
        "A dog runs here", "The answer is blue", f"{words} " * 20, "Z",
    ]  # fmt: skip
    return forms[0] if drawn.random() < careful else drawn.choice(forms)


@pytest.mark.parametrize("seed", range(50))
def test_scores_equal_the_published_rule_on_random_answers(tmp_path: Path, seed: int) -> None:
    drawn = random.Random(seed)
    careful = drawn.choice([0.3, 0.8, 0.97])
    rows = table(drawn)
    predictions = {row["index"]: reply(drawn, row, careful) for row in rows if drawn.random() < 0.99}
    found = score(read_questions(write_table(tmp_path / "dev.tsv", rows)), predictions)
    expected = circular(rows, predictions)
    assert found.overall.accuracy == expected.pop("")
    assert {name: tally.accuracy for name, tally in found.by_category.items()} == expected
    unread = {
        row["index"] for row in rows
        if row["index"] not in predictions
        or infer(predictions[row["index"]], {c: row[c] for c in "ABCD" if row[c]}) is None
    }  # fmt: skip
    assert {each.index for each in found.unmatched} == unread
    assert (found.num_rows, found.num_incomplete) == (len(rows), 0)


OPTIONS = {"A": "a red car", "B": "blue", "C": "two cats"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(B) blue", "B"),
        ("b", None),
        ("'B'", None),
        ("blue", "B"),
        ("It shows two cats", "C"),
        ("A dog runs here", "A"),
        ("A dog runs around over here", None),
        ("The answer is blue, I am quite sure", "B"),
        ("A or B", None),
        ("Z", "Z"),
        ("Cannot determine the answer", "Z"),
        ("blue or two cats", None),
        ("", None),
        ("D", None),
    ],
)
def test_which_option_an_answer_means(text: str, letter: str | None) -> None:
    assert matched(text, OPTIONS) == letter


def test_one_wrong_rotation_costs_the_question() -> None:
    drawn = random.Random(0)
    rows = table(drawn, 1)
    predictions = {row["index"]: row["answer"] for row in rows}
    questions = list(_questions(rows))
    assert score(questions, predictions).overall.accuracy == 100
    turned = max(predictions)
    predictions[turned] = "Z"
    found = score(questions, predictions)
    assert (found.overall.accuracy, found.plain.accuracy, found.unmatched) == (0, 100, [])


def _questions(rows: list[Row]) -> Any:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        yield from read_questions(write_table(Path(folder) / "t.tsv", rows))


def test_missing_rotations_are_counted() -> None:
    rows = table(random.Random(3), 5)
    rows.remove(next(row for row in rows if row["index"] >= 10**6))
    rows.remove(next(row for row in rows if row["index"] == 4))
    found = score(_questions(rows), {})
    assert found.overall.num_questions == 4
    assert found.num_incomplete in (1, 2)


def test_a_split_without_truth_is_sent_to_the_server() -> None:
    rows = [{**row, "answer": ""} for row in table(random.Random(3), 2)]
    with pytest.raises(InputError, match="--submission"):
        score(_questions(rows), {})


def test_answers_to_no_row_are_refused() -> None:
    with pytest.raises(InputError, match="first index 77"):
        score(_questions(table(random.Random(3), 2)), {77: "A"})


@pytest.mark.parametrize("form", ["jsonl", "json", "tsv", "csv", "xlsx"])
def test_answers_are_read_from_every_form(tmp_path: Path, form: str) -> None:
    wanted = {3: "A", 1_000_003: 'B, "b"\nor so', 7: ""}
    path = tmp_path / f"answers.{form}"
    if form == "jsonl":
        lines = [json.dumps({"question_id": index, "text": text, "model_id": "m"}) for index, text in wanted.items()]
        path.write_text("\n".join(lines))
    elif form == "json":
        path.write_text(json.dumps([{"index": str(k), "prediction": v} for k, v in wanted.items()]))
    elif form == "xlsx":
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.Workbook()
        book.active.append(["index", "prediction"])
        for row in wanted.items():
            book.active.append(list(row))
        book.save(path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if form == "tsv" else ",")
            writer.writerows([("index", "prediction"), *wanted.items()])
    assert read_predictions(path) == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"index": 1, "text": "A"}\n{"index": 1, "text": "B"}', "answered before"),
        ('{"index": "one", "text": "A"}', "whole number"),
        ('{"index": 1}', "has neither text nor prediction"),
    ],
)
def test_odd_answer_files_are_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "answers.jsonl").write_text(text)
    with pytest.raises(InputError, match=says):
        read_predictions(tmp_path / "answers.jsonl")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("index\tquestion\n1\t?\n", "no column A"),
        ("index\tquestion\tA\n1\t?\n", "row 2: has 2 cells instead of 3"),
        ("index\tquestion\tA\n1\t?\tx\n1\t?\tx\n", "occurs twice"),
        ("index\tquestion\tA\nx\t?\tx\n", "whole number"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(InputError, match=says):
        list(read_questions(tmp_path / "t.tsv"))


def test_the_submission_has_the_servers_columns_and_the_answers_as_they_are(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    rows = table(random.Random(5), 3)
    predictions = {row["index"]: f"({row['answer']}) {string.punctuation}\x07" for row in rows[1:]}
    num_without = write_submission(write_table(tmp_path / "t.tsv", rows), predictions, tmp_path / "out.xlsx")
    sheet = list(openpyxl.load_workbook(tmp_path / "out.xlsx").active.iter_rows(values_only=True))
    assert sheet[0] == ("index", "question", "A", "B", "C", "D", "prediction", "answer", "split")
    assert [line[0] for line in sheet[1:]] == [row["index"] for row in rows]
    assert [line[6] for line in sheet[2:]] == [predictions[row["index"]].replace("\x07", "") for row in rows[1:]]
    assert (num_without, sheet[1][6]) == (1, None)


def test_unmatched_answers_are_listed(tmp_path: Path) -> None:
    found = score(_questions(table(random.Random(3), 1)), {0: "??"})
    write_unmatched(found.unmatched, tmp_path / "unmatched.jsonl")
    listed = [json.loads(line) for line in (tmp_path / "unmatched.jsonl").read_text().splitlines()]
    assert {"index": 0, "prediction": "??"} in listed
    assert len(listed) == found.num_rows
