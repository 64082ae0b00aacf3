from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sgv_data.errors import InputError
from sgv_data.sources.folder import Folder
from sgv_data.sources.paths import quote_path, unquote_path


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (shade, 0, 0)).save(path, format="PNG")
    return path


def keys(folder: Path) -> list[str]:
    return [entry.key for entry in Folder(str(folder)).entries()]


@contextmanager
def refused(sentence: str) -> Iterator[None]:
    with pytest.raises(InputError) as caught:
        yield
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pictures_are_found_at_any_depth(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/deep/er/x.jpg", "a/y.webp"):
        picture(tmp_path / name)
    assert sorted(keys(tmp_path)) == ["a/deep/er/x.jpg", "a/y.webp", "b.PNG"]


def test_read_gives_the_bytes_back(tmp_path: Path) -> None:
    path = picture(tmp_path / "sub" / "100% odd #1?.png")
    source = Folder(str(tmp_path))
    (entry,) = source.entries()
    assert source.read(entry.location) == path.read_bytes()


def test_pictures_without_an_extension_are_known_by_their_bytes(tmp_path: Path) -> None:
    picture(tmp_path / "plain")
    picture(tmp_path / "wrong.dat")
    assert sorted(keys(tmp_path)) == ["plain", "wrong.dat"]


def test_other_files_are_counted_and_no_entries(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for name in ("notes.pdf", "more.PDF", "README", "b.txt"):
        (tmp_path / name).write_text("words")
    source = Folder(str(tmp_path))
    assert [entry.key for entry in source.entries()] == ["a.png"]
    assert source.ignored == {".pdf": 2, "without extension": 1, ".txt": 1}


def test_what_is_named_like_a_picture_is_an_entry_even_if_it_is_none(tmp_path: Path) -> None:
    (tmp_path / "fake.jpg").write_text("words")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    assert keys(tmp_path) == ["fake.jpg", "gone.png"]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in (".hidden.png", ".thumbs/a.png", "seen.png"):
        picture(tmp_path / name)
    assert keys(tmp_path) == ["seen.png"]


def test_links_in_a_circle_end_and_give_each_picture_once(tmp_path: Path) -> None:
    picture(tmp_path / "z" / "a.png")
    (tmp_path / "a_loop").symlink_to(tmp_path)
    (tmp_path / "z" / "up").symlink_to(tmp_path / "z")
    assert keys(tmp_path) == ["z/a.png"]


def test_a_link_to_another_folder_is_followed(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    assert keys(tmp_path / "root") == ["link/a.png"]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    source = Folder(str(tmp_path))
    assert [entry.key for entry in source.entries()] == ["a.png"]
    assert source.ignored == {"special file": 1}


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    shutil.copy(picture(tmp_path / "source.bin"), raw)
    (tmp_path / "source.bin").unlink()
    source = Folder(str(tmp_path))
    (entry,) = source.entries()
    assert entry.key == entry.location == "caf%E9.png"
    assert source.read(entry.location).startswith(b"\x89PNG")
    assert source.identity()["files"] == 1


@given(st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name))
def test_quoted_paths_are_plain_text_and_come_back(name: bytes) -> None:
    path = os.fsdecode(name)
    quoted = quote_path(path, also="#")
    assert quoted.encode("utf-8")
    assert "#" not in quoted
    assert unquote_path(quoted) == path


def test_text_from_a_file_beside_the_picture(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("  A red square.\n")
    source = Folder(str(tmp_path))
    assert [entry.text for entry in source.entries()] == ["A red square."]
    assert not source.ignored


@pytest.mark.parametrize("name", ["index.jsonl", "metadata.jsonl"])
def test_texts_from_a_list(tmp_path: Path, name: str) -> None:
    for each in ("sub/a.png", "b.png", "c.png"):
        picture(tmp_path / each)
    lines = [{"file": "sub/a.png", "text": "An A."}, {"file_name": "b.png", "text": None, "title": "B"}]
    (tmp_path / name).write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    texts = {entry.key: entry.text for entry in Folder(str(tmp_path)).entries()}
    assert texts == {"sub/a.png": "An A.", "b.png": "B", "c.png": None}


def test_a_list_that_is_no_jsonl(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "index.jsonl").write_text('{"file": "a.png"}\n{"file":\n')
    with refused("index.jsonl, line 2: is no JSON"):
        keys(tmp_path)


def test_a_missing_folder(tmp_path: Path) -> None:
    with refused("no such folder"):
        keys(tmp_path / "nowhere")


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    with refused("is a file"):
        keys(picture(tmp_path / "a.png"))


def test_an_empty_folder(tmp_path: Path) -> None:
    with refused("this folder is empty"):
        keys(tmp_path)


def test_a_folder_without_pictures_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_text("words")
    with refused("no pictures in this folder, only other things (1 .pdf)"):
        keys(tmp_path)


def test_identity_is_that_of_a_copy_elsewhere(tmp_path: Path) -> None:
    picture(tmp_path / "one" / "sub" / "a.png")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    os.utime(tmp_path / "two" / "sub" / "a.png", (1, 1))
    assert Folder(str(tmp_path / "one")).identity() == Folder(str(tmp_path / "two")).identity()


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "resized", "text", "list"])
def test_identity_differs_when_the_pictures_do(tmp_path: Path, change: str) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    before = Folder(str(tmp_path)).identity()
    match change:
        case "added":
            picture(tmp_path / "c.png")
        case "removed":
            (tmp_path / "b.png").unlink()
        case "renamed":
            (tmp_path / "b.png").rename(tmp_path / "c.png")
        case "resized":
            (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes() + b"more")
        case "text":
            (tmp_path / "a.txt").write_text("words")
        case "list":
            (tmp_path / "index.jsonl").write_text('{"file": "a.png", "text": "words"}\n')
    assert Folder(str(tmp_path)).identity() != before


@pytest.mark.parametrize("location", ["../secret.png", "/etc/hostname", "a/../../b"])
def test_a_location_outside_the_folder_is_not_read(tmp_path: Path, location: str) -> None:
    with refused("is outside"):
        Folder(str(tmp_path)).read(location)


def test_the_pictures_that_come_with_the_project() -> None:
    assert len(list(Folder("sgv:photos").entries())) >= 20
