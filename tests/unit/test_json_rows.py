from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgv_data import json_rows
from sgv_data.errors import InputError
from sgv_data.json_rows import RowsWriter, read_json_rows, splice

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
VALUES = st.one_of(TEXT, st.integers(), st.lists(TEXT, max_size=3))
ROWS = st.lists(st.dictionaries(TEXT, VALUES, max_size=4), max_size=8)


def values(path: Path) -> list[dict[str, Any]]:
    return [row.value for row in read_json_rows(path)]


@settings(max_examples=60, deadline=None)
@given(ROWS, st.booleans(), st.sampled_from([None, 2]), st.integers(1, 40), st.booleans())
def test_an_array_is_read_as_json_reads_it_and_rows_know_their_bytes(
    rows: list[dict[str, Any]], ascii_only: bool, indent: int | None, piece: int, bom: bool
) -> None:
    path = Path(tempfile.mkdtemp()) / "rows.json"
    data = json.dumps(rows, ensure_ascii=ascii_only, indent=indent).encode()
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "_PIECE_BYTES", piece)
        found = list(read_json_rows(path))
    whole = path.read_bytes()
    assert [row.value for row in found] == rows
    assert [json.loads(whole[row.offset_bytes : row.offset_bytes + row.num_bytes]) for row in found] == rows


@pytest.mark.parametrize("lines", ['{"a": 1}\n{"a": 2}\n', '{"a": 1}\n\n  {"a": 2}'])
def test_json_lines_are_read_too(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines)
    assert values(path) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"a": 1}, {"a": ', "row 2"),
        ('[{"a": 1}', "cut off"),
        ('[{"a": 1} {"a": 2}]', "no comma behind row 1"),
        ('[{"a": 1}] {"a": 2}', "behind its closing"),
        ("[1, 2]", "no JSON object"),
        ('[{"a": 1}, nonsense and a good deal more of it than that]', "row 2: is no JSON"),
        ("[" + '{"a":' * 200_000 + "1" + "}" * 200_000 + "]", "row 1"),
    ],
)
def test_what_is_no_such_json_is_refused_with_its_row(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        values(path)


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(InputError, match="not UTF-8"):
        values(path)


def test_splicing_changes_the_named_bytes_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"0123456789")
    splice(source, {7: (1, b""), 2: (3, b"longer")}, target)
    assert target.read_bytes() == b"01longer5689"


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_written_rows_are_read_back(tmp_path: Path, name: str) -> None:
    rows = [{"a": "é\n\u2028"}, {}, {"b": [1]}]
    with RowsWriter(tmp_path / name) as writer:
        for row in rows:
            writer.add(row)
    assert values(tmp_path / name) == rows


def test_a_writer_that_is_interrupted_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError), RowsWriter(tmp_path / "rows.json") as writer:
        writer.add({"a": object()})
    assert list(tmp_path.iterdir()) == []
