from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sgv_data.errors import InputError
from sgv_data.sources.source import Entry
from sgv_data.sources.webdataset import WebDataset

SAMPLES = [
    ("a.jpg", b"picture a"),
    ("a.txt", b" words of a\n"),
    ("b.json", b"{}"),
    ("b.png", b"picture b" * 200),
    ("c.txt", b"x"),
]


def write_tar(path: Path, members: list[tuple[str, bytes]], kind: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def entries(path: Path) -> list[Entry]:
    return list(WebDataset(str(path)).entries())


@contextmanager
def refused(*parts: str) -> Iterator[None]:
    with pytest.raises(InputError) as caught:
        yield
    for part in parts:
        assert part in str(caught.value)


def test_samples_of_one_tar(tmp_path: Path) -> None:
    source = WebDataset(str(write_tar(tmp_path / "train-0.tar", SAMPLES)))
    found = list(source.entries())
    assert [(entry.key, entry.text) for entry in found] == [("train-0/a", "words of a"), ("train-0/b", None)]
    assert [source.read(entry.location) for entry in found] == [b"picture a", b"picture b" * 200]
    assert source.ignored == {"sample without picture": 1}


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_and_foreign_names(tmp_path: Path, kind: int) -> None:
    name = "ä" * 150 + "/" + "long" * 40
    source = WebDataset(str(write_tar(tmp_path / "x#1.tar", [(f"{name}.jpg", b"data")], kind)))
    (entry,) = source.entries()
    assert entry.key == f"x#1/{name}"
    assert source.read(entry.location) == b"data"


def test_the_first_member_with_a_picture_extension_is_the_picture(tmp_path: Path) -> None:
    source = WebDataset(
        str(write_tar(tmp_path / "x.tar", [("a.cls", b"1"), ("a.left.png", b"left"), ("a.jpg", b"right")]))
    )
    assert [source.read(entry.location) for entry in source.entries()] == [b"left"]


def test_a_folder_and_a_glob_of_tars(tmp_path: Path) -> None:
    for name in ("one/0.tar", "two/0.tar"):
        write_tar(tmp_path / name, SAMPLES)
    wanted = ["one/0/a", "one/0/b", "two/0/a", "two/0/b"]
    assert [entry.key for entry in entries(tmp_path)] == wanted
    by_glob = WebDataset(str(tmp_path / "*" / "*.tar"))
    assert [entry.key for entry in by_glob.entries()] == wanted
    assert by_glob.read(next(by_glob.entries()).location) == b"picture a"


def test_hidden_members_and_folders_are_left_out(tmp_path: Path) -> None:
    source = WebDataset(str(write_tar(tmp_path / "x.tar", [("._a.jpg", b"mac"), ("./a.jpg", b"real")])))
    assert [entry.key for entry in source.entries()] == ["x/a"]
    assert source.ignored == {"hidden or special member": 1}


@pytest.mark.parametrize("at", [200, 512 + 100, 3 * 512 + 10])
def test_a_tar_cut_off_is_refused_with_the_place(tmp_path: Path, at: int) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.jpg", b"1" * 700), ("b.jpg", b"2" * 700)])
    path.write_bytes(path.read_bytes()[:at])
    with refused("x.tar", "cut off" if at > 512 else "no tar"):
        entries(path)


def test_a_tar_cut_between_members_is_noticed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.jpg", b"1" * 512), ("b.jpg", b"2" * 512)])
    path.write_bytes(path.read_bytes()[:1024])
    source = WebDataset(str(path))
    assert [entry.key for entry in source.entries()] == ["x/a"]
    assert "ends at byte 1024" in source.warnings[0]


def test_a_whole_tar_gives_no_warning(tmp_path: Path) -> None:
    source = WebDataset(str(write_tar(tmp_path / "x.tar", SAMPLES)))
    assert len(list(source.entries())) == 2
    assert source.warnings == []


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.jpg", b"1" * 512), ("b.jpg", b"2" * 512)])
    data = bytearray(path.read_bytes())
    data[1024:1100] = b"\xff" * 76
    path.write_bytes(data)
    with refused("damaged at byte 1024"):
        entries(path)


def test_a_member_twice_in_a_sample(tmp_path: Path) -> None:
    with refused("'a'", "two members .jpg"):
        entries(write_tar(tmp_path / "x.tar", [("a.jpg", b"1"), ("a.jpg", b"2")]))


@pytest.mark.parametrize("beginning", [b"\x1f\x8b\x08\0", b"BZh91", b"\x28\xb5\x2f\xfd"])
def test_a_compressed_tar(tmp_path: Path, beginning: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(beginning + bytes(2000))
    with refused("is compressed"):
        entries(tmp_path / "x.tar")


@pytest.mark.parametrize(
    ("name", "sentence"), [("", "holds no .tar"), ("no.tar", "no such tar"), ("*.tar", "no such tar")]
)
def test_no_tars(tmp_path: Path, name: str, sentence: str) -> None:
    with refused(sentence):
        entries(tmp_path / name)


def test_tars_without_pictures(tmp_path: Path) -> None:
    with refused("no pictures"):
        entries(write_tar(tmp_path / "x.tar", [("a.txt", b"words")]))


def test_a_tar_that_became_shorter_cannot_be_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", SAMPLES)
    source = WebDataset(str(path))
    last = list(source.entries())[-1]
    path.write_bytes(path.read_bytes()[:2100])
    with pytest.raises(OSError, match="ends before byte"):
        source.read(last.location)


def test_a_location_of_another_kind(tmp_path: Path) -> None:
    with refused("no place in a tar"):
        WebDataset(str(tmp_path)).read("a.png")


def test_identity_is_of_names_and_sizes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_tar(tmp_path / folder / "0.tar", SAMPLES)
    before = WebDataset(str(tmp_path / "one")).identity()
    assert before == WebDataset(str(tmp_path / "two")).identity()
    write_tar(tmp_path / "two" / "1.tar", SAMPLES)
    assert before != WebDataset(str(tmp_path / "two")).identity()


def test_a_part_names_the_bytes_that_reading_gives(tmp_path: Path) -> None:
    source = WebDataset(str(write_tar(tmp_path / "x#1.tar", SAMPLES)))
    for entry in source.entries():
        part = source.part(entry.location)
        assert Path(part.path).read_bytes()[part.offset_bytes :][: part.num_bytes] == source.read(entry.location)


def test_the_samples_of_the_single_tars_are_all_entries(tmp_path: Path) -> None:
    for name in ("one/0.tar", "two/0.tar"):
        write_tar(tmp_path / name, SAMPLES)
    source = WebDataset(str(tmp_path))
    assert [entry for tar in source.tars() for entry in source.samples(tar)] == entries(tmp_path)
    assert source.num_bytes("one/0.tar") == (tmp_path / "one" / "0.tar").stat().st_size
