from __future__ import annotations

import random
from pathlib import Path

import pytest

from sgv_data.errors import InputError
from sgv_data.index.look import Found
from sgv_data.index.spill import Spill
from sgv_data.records import ImageRow, image_order


def found(image_id: str, location: str = "x") -> Found:
    key = image_id.partition("/")[2]
    row = ImageRow(image_id, "p", key, location, "", None, 0, "", "", 0, 0, "", None, None, None, False, False)
    return Found(row, b"thumb")


def ids(spill: Spill) -> list[str]:
    return [each.row.image_id for batch in spill.batches() for each in batch]


@pytest.mark.parametrize("rows_in_memory", [5, 100, 1000])
def test_rows_come_out_in_hash_order_whatever_the_memory(tmp_path: Path, rows_in_memory: int) -> None:
    names = [f"p/{number}" for number in range(500)]
    random.Random(1).shuffle(names)
    spill = Spill(tmp_path / "spill", rows_in_memory)
    for name in names:
        spill.add(found(name))
    wanted = sorted(names, key=image_order)
    assert ids(spill) == wanted
    assert ids(spill) == wanted


def test_what_a_killed_run_left_is_removed_and_so_are_our_files(tmp_path: Path) -> None:
    (tmp_path / "spill").mkdir()
    (tmp_path / "spill" / "00.rows").write_bytes(b"old")
    spill = Spill(tmp_path / "spill", 1)
    for name in ("p/a", "p/b", "p/c"):
        spill.add(found(name))
    assert sorted(ids(spill)) == ["p/a", "p/b", "p/c"]
    spill.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows_in_memory", [0, 100])
def test_two_rows_of_one_id_are_an_error_that_names_both(tmp_path: Path, rows_in_memory: int) -> None:
    spill = Spill(tmp_path / "spill", rows_in_memory)
    spill.add(found("p/a", "here"))
    spill.add(found("p/a", "there"))
    with pytest.raises(InputError, match=r"'p/a': (here and there|there and here)"):
        ids(spill)


def test_no_rows(tmp_path: Path) -> None:
    assert ids(Spill(tmp_path / "spill")) == []
