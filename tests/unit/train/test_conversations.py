"""LLaVA's JSON is read as a stream; every row is used or counted with its reason."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from sgv_data.captioner.conversation import Exchange
from sgv_data.errors import InputError
from sgv_data.train import conversations
from sgv_data.train.conversations import ConversationFile, read_rows, write_conversations


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]


def row(*texts: str, **more: Any) -> dict[str, Any]:
    return {"id": "r", **more, "conversations": turns(*texts)}


def stored(folder: Path, *rows: Any) -> ConversationFile:
    (folder / "a.jpg").touch()
    (folder / "below").mkdir()
    (folder / "below" / "b.jpg").touch()
    path = folder / "rows.json"
    path.write_text(json.dumps(rows))
    return write_conversations(folder / "rows.arrow", path, folder)


@pytest.mark.parametrize("read_bytes", [1, 7, 1 << 22])
@pytest.mark.parametrize("form", ["array", "indented", "lines"])
def test_values_come_one_by_one_however_the_file_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_bytes: int, form: str
) -> None:
    monkeypatch.setattr(conversations, "_READ_BYTES", read_bytes)
    values = [{"a": 'ü ] [ , " 鳥'}, {"b": [1, 2]}, {}]
    path = tmp_path / "rows"
    texts = {
        "array": json.dumps(values, ensure_ascii=False), "indented": json.dumps(values, indent=2),
        "lines": "".join(json.dumps(value) + "\n" for value in values),
    }  # fmt: skip
    path.write_text(texts[form], encoding="utf-8")

    assert list(read_rows(path)) == values


@pytest.mark.parametrize("text", ['[{"a": 1}, {"b": ', "hello", '{"a": 1} x'])
def test_what_is_no_json_is_said_with_its_row(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)

    with pytest.raises(InputError, match=r"rows\.json: is neither a JSON array nor JSON Lines: row \d cannot be read"):
        list(read_rows(path))


def test_usable_rows_keep_their_order_and_their_words(tmp_path: Path) -> None:
    file = stored(
        tmp_path,
        row("<image>\nA?", "B.", "C?", "D.", image="a.jpg"),
        row("E?", "F."),
        row("G?", "H.", image="below/b.jpg"),
    )

    assert [each.images for each in (file[0], file[1], file[2])] == [("a.jpg",), (), ("below/b.jpg",)]
    assert file[0].exchanges == (Exchange("<image>\nA?", "B."), Exchange("C?", "D."))
    assert file.without_picture().tolist() == [False, True, False]
    assert file.num_chars().tolist() == [len("<image>\nA?B.C?D."), 4, 4]
    assert file.unusable == {}
    assert pickle.loads(pickle.dumps(file))[2] == file[2]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row("<image>\nA?", "B.", image="c.jpg"), "missing_picture"),
        (row("<image>\nA?", "B.", image="../a.jpg"), "missing_picture"),
        (row("<image>\nA?", "B.", image="/a.jpg"), "missing_picture"),
        (row("<image>\nA?", "B.", image=7), "missing_picture"),
        (row("A?", "B.", "<image>\nC?", "D.", image="a.jpg"), "picture_in_later_turn"),
        (row("<image><image>\nA?", "B.", image="a.jpg"), "other_number_of_pictures"),
        (row("A?"), "no_answer"),
        (row("A?", "  "), "no_answer"),
        (row(), "no_answer"),
        ({"conversations": "A?"}, "no_conversation"),
        ({"conversations": [{"from": "human", "value": 3}, {"from": "gpt", "value": "B."}]}, "no_conversation"),
        ({"conversations": [{"from": "human", "value": "A"}, {"from": "human", "value": "B"}]}, "no_conversation"),
        (17, "no_conversation"),
    ],
)
def test_a_row_that_cannot_be_used_is_counted(tmp_path: Path, bad: Any, reason: str) -> None:
    file = stored(tmp_path, row("A?", "B."), bad)

    assert (len(file), file.unusable) == (1, {reason: 1})


def test_what_the_model_says_first_and_a_question_without_answer_are_left_out(tmp_path: Path) -> None:
    talk = {"conversations": [{"from": "gpt", "value": "Hi."}, *turns("A?", "B.", "C?")]}

    assert stored(tmp_path, talk)[0].exchanges == (Exchange("A?", "B."),)
