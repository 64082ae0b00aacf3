from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from sgv_data.errors import InputError
from sgv_data.sources.llava import Llava
from sgv_data.sources.table import PathTable
from tests.unit.sources.trees import llava_file, picture, put

WEB = "web-celebrity/images/Luke_Evans.jpg"
COCO = [f"coco/train2017/{number:012d}.jpg" for number in range(6)]


def locations(folder: Path, listed: list[str]) -> tuple[dict[str, str], list[str]]:
    """Key -> location of everything listed, and the sentences."""
    source = Llava(str(llava_file(folder / "list.json", listed)), str(folder / "data"))
    found = {entry.key: entry.location for entry in source.entries()}
    return found, source.warnings


@pytest.mark.parametrize(
    ("listed", "there", "says"),
    [
        (WEB, WEB, None),
        (WEB, "data/" + WEB, "folders that the released zip has inside"),
        (WEB, "web-celebrity/data/" + WEB, "folders that the released zip has inside"),
        (WEB, "web-celebrity/images/data/" + WEB, "folders that the released zip has inside"),
        (COCO[0], "coco/train2017/train2017/000000000000.jpg", "a level deeper"),
        (COCO[0], "coco/coco/train2017/000000000000.jpg", "a level deeper"),
        ("sam/images/sa_1.jpg", "sam/images/sa_000000/sa_1.jpg", "a level deeper"),
        (COCO[0], "000000000000.jpg", "points below the first folders"),
        (COCO[0], "train2017/000000000000.jpg", "points below the first folders"),
        ("ocr_vqa/images/1.jpg", "ocr_vqa/images/1.gif", "another extension"),
        ("ocr_vqa/images/1.jpg", "ocr_vqa/images/1.JPG", "another extension"),
        ("wikiart/images/a.b.jpg", "wikiart/images/data/wikiart/images/a.b.png", "another extension"),
    ],
)
def test_known_layouts_are_mapped_and_said(tmp_path: Path, listed: str, there: str, says: str | None) -> None:
    put(tmp_path / "data", [there])
    found, sentences = locations(tmp_path, [listed])
    assert found == {listed: there}
    assert len(sentences) == (says is not None)
    assert all(says in line for line in sentences if says)


@pytest.mark.parametrize("other", ["coco/train2017/thumbs/000000000001.jpg", "000000000001.jpg"])
def test_a_picture_of_the_same_name_is_not_taken_where_the_listed_folder_has_pictures(
    tmp_path: Path, other: str
) -> None:
    put(tmp_path / "data", [COCO[0], other])
    found, sentences = locations(tmp_path, COCO[:2])
    assert found[COCO[1]] == COCO[1]
    assert "1 of 2 pictures listed in coco/train2017 are missing" in sentences[0]


def test_missing_pictures_are_counted_named_and_explained(tmp_path: Path) -> None:
    put(tmp_path / "data", COCO[:2])
    found, sentences = locations(tmp_path, [*COCO, "wikiart/images/a.jpg"])
    assert list(found) == [*COCO, "wikiart/images/a.jpg"]
    assert sentences[0].startswith(f"4 of 6 pictures listed in coco/train2017 are missing ({COCO[2]}")
    assert "unpack train2017.zip of COCO again" in sentences[0]
    assert sentences[1].startswith("1 of 1 pictures listed in wikiart/images are missing")
    assert "has no such folder" in sentences[1]


def test_of_very_many_folders_the_worst_are_named_and_the_others_summed_up(tmp_path: Path) -> None:
    put(tmp_path / "data", ["f/0.jpg", "g/1.gif"])
    listed = [f"{folder:02d}/{number}.jpg" for folder in range(30) for number in range(30 - folder)]
    _, sentences = locations(tmp_path, [*listed, "f/0.jpg", "g/1.jpg"])
    assert len(sentences) == 13
    assert sentences[0].startswith("30 of 30 pictures listed in 00 are missing")
    assert sentences[-1] == "in 19 more folders 171 pictures are missing and 1 are taken from elsewhere"


def test_missing_pictures_of_sam_are_traced_to_their_tars(tmp_path: Path) -> None:
    put(tmp_path / "data", ["sam/images/sa_1.jpg"])
    _, sentences = locations(tmp_path, [f"sam/images/sa_{number}.jpg" for number in (1, 11_186, 11_187, 528_734)])
    assert "sa_000000.tar, sa_000001.tar, sa_000047.tar" in sentences[0]


def test_a_missing_picture_is_an_entry_that_cannot_be_read(tmp_path: Path) -> None:
    put(tmp_path / "data", COCO[:1])
    source = Llava(str(llava_file(tmp_path / "l.json", COCO[:2])), str(tmp_path / "data"))
    there, gone = source.entries()
    assert source.read(there.location) == picture(0)
    with pytest.raises(OSError, match="listed, but the file is missing"):
        source.read(gone.location)


def test_nothing_there_at_all_is_an_error_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match=r"none of the 6 listed pictures is there.*train2017\.zip of COCO"):
        locations(tmp_path, COCO)


def test_a_llava_file_gives_each_picture_once_with_its_answer(tmp_path: Path) -> None:
    put(tmp_path / "data", COCO)
    listed = [COCO[0], None, COCO[0], [COCO[1], COCO[2]]]
    source = Llava(str(llava_file(tmp_path / "l.json", listed)), str(tmp_path / "data"))
    assert [(entry.key, entry.text) for entry in source.entries()] == [
        (COCO[0], "Text 0."), (COCO[1], None), (COCO[2], None)
    ]  # fmt: skip
    assert source.ignored == {"row without a picture": 1}


def _tables(folder: Path) -> dict[str, Path]:
    rows = [{"file_name": path, "text": f"Title {number}", "x": "y"} for number, path in enumerate(COCO)]
    paths = {form: folder / f"table.{form}" for form in ("json", "jsonl", "csv", "tsv", "txt")}
    paths["json"].write_text(json.dumps(rows))
    paths["jsonl"].write_text("\n".join(map(json.dumps, rows)))
    for form, delimiter in (("csv", ","), ("tsv", "\t")):
        with paths[form].open("w", newline="") as file:
            writer = csv.DictWriter(file, ["file_name", "text", "x"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    paths["txt"].write_text("\n".join(COCO) + "\n\n")
    return paths


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "tsv", "txt"])
def test_a_table_names_pictures_in_every_form(tmp_path: Path, form: str) -> None:
    put(tmp_path, COCO)
    source = PathTable(str(_tables(tmp_path)[form]), None, None, None)
    entries = list(source.entries())
    assert [entry.key for entry in entries] == COCO
    assert [entry.text for entry in entries] == [None if form == "txt" else f"Title {n}" for n in range(6)]
    assert source.read(entries[3].location) == picture(3)


def test_a_json_list_of_bare_paths_is_a_table_absolute_ones_too(tmp_path: Path) -> None:
    put(tmp_path, COCO)
    (tmp_path / "images_to_describe.json").write_text(json.dumps([COCO[0], str(tmp_path.absolute() / COCO[1]), 7]))
    source = PathTable(str(tmp_path / "images_to_describe.json"), None, None, None)
    assert [entry.key for entry in source.entries()] == COCO[:2]
    assert source.ignored == {"row without a path": 1}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("t.csv", "a,b\n1,2\n", "has no column image or file_name"),
        ("t.txt", "https://example.org/a.jpg", "lists URLs"),
        ("t.txt", "../a.jpg", "is outside"),
        ("t.txt", "/etc/a.jpg", "is outside"),
        ("t.txt", "\n", "lists no pictures"),
        ("t.xml", "<a/>", "a table is a .json"),
        ("t.json", '[{"image": "a.jpg"', "row 1"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=says):
        list(PathTable(str(tmp_path / name), None, None, None).entries())


def test_another_column_is_named(tmp_path: Path) -> None:
    put(tmp_path, COCO[:1])
    (tmp_path / "t.csv").write_text(f"bild,worte\n{COCO[0]},Ein Bild\n")
    (entry,) = PathTable(str(tmp_path / "t.csv"), None, "bild", "worte").entries()
    assert (entry.key, entry.text) == (COCO[0], "Ein Bild")


def test_identity_differs_when_a_picture_or_the_list_does_and_not_in_a_copy(tmp_path: Path) -> None:
    def identity(name: str, listed: list[str], there: list[str]) -> object:
        put(tmp_path / name / "data", there)
        return Llava(str(llava_file(tmp_path / name / "l.json", listed)), str(tmp_path / name / "data")).identity()

    first = identity("a", COCO, COCO)
    assert identity("b", COCO, COCO) == first
    assert identity("c", COCO, COCO[:5]) != first
    assert identity("d", COCO[:5], COCO) != first


def test_no_location_leads_out_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="outside"):
        Llava(str(tmp_path / "l.json"), str(tmp_path)).read("../secret")
