"""The stage `index` over real files: every input ends as one row, whatever it is."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sgv_data.demo.scenes import scene_bytes
from sgv_data.errors import InputError
from sgv_data.index import run as index
from sgv_data.index import spill as spill_module
from sgv_data.manifest import Manifest
from sgv_data.progress import Silent
from sgv_data.records import ImageReject, ImageRow, StageReport, image_order
from sgv_data.run_folder import RunFolder
from sgv_data.sources.folder import Folder
from sgv_data.sources.source import Entry
from sgv_data.stage import StageContext
from sgv_data.tables import read_table, table_files


class Listening(Silent):
    """Keeps the lines a stage says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def manifest(*images: dict[str, Any], **more: Any) -> Manifest:
    return Manifest.model_validate({"name": "t", "seed": 3, "images": images, "teacher": {"model": "m"}, **more})


def folder_source(path: Path, name: str = "p", **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "folder", "path": str(path), **more}


def indexed(
    spec: Manifest, out: Path, progress: Silent | None = None, num_workers: int = 1
) -> tuple[StageReport, dict[str, ImageRow]]:
    context = StageContext(RunFolder(out), "index", ("index",), progress or Silent())
    context.folder.mkdir(parents=True, exist_ok=True)
    report = index.run(spec, context, num_workers).balance()
    rows = list(read_table(context.folder, "images", ImageRow))
    assert [image_order(row.image_id) for row in rows] == sorted(image_order(row.image_id) for row in rows)
    assert len(rows) == report.num_in
    assert [path.name for path in context.folder.iterdir() if path.name.startswith(".")] == []
    return report, {row.image_id: row for row in rows}


def table_bytes(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in table_files(out / "index", "images")]


def png(width_px: int, height_px: int, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


@pytest.fixture
def scenes_folder(tmp_path: Path) -> Path:
    """Thirty different pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02d}.png").write_bytes(scene_bytes(1, number))
    return folder


def test_every_reason_a_picture_can_be_rejected_for(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    good = png(40, 40)
    contents = {
        ImageReject.EMPTY_FILE: b"",
        ImageReject.NOT_AN_IMAGE: b"words only",
        ImageReject.TRUNCATED_IMAGE: png(50, 50, 1)[:3000],
        ImageReject.TOO_MANY_PIXELS: bomb(),
        ImageReject.TOO_SMALL: png(15, 40),
        ImageReject.ABSURD_ASPECT: png(420, 20),
    }
    for reject, data in contents.items():
        (folder / f"{reject}.png").write_bytes(data)
    (folder / "unreadable_file.png").symlink_to(folder / "nowhere")
    for name in ("one.png", "two.png"):
        (folder / name).write_bytes(good)
    report, rows = indexed(manifest(folder_source(folder)), tmp_path / "run")
    for reject in [*contents, ImageReject.UNREADABLE_FILE]:
        row = rows[f"p/{reject}.png"]
        assert row.reject is reject
        assert row.detail
        assert not row.for_teacher
        assert not row.for_expand
    assert report.num_out == 1
    assert report.rejected == {str(reject): 1 for reject in ImageReject}
    kept, copy = sorted([rows["p/one.png"], rows["p/two.png"]], key=lambda row: row.reject is not None)
    assert (copy.reject, copy.duplicate_of, copy.detail) == (ImageReject.DUPLICATE_OF, kept.image_id, "same bytes")
    assert image_order(kept.image_id) < image_order(copy.image_id)


def test_a_usable_row_tells_all_about_its_picture(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(40, 30))
    (folder / "a.txt").write_text("Noise.")
    _, rows = indexed(manifest(folder_source(folder, license="CC0-1.0")), tmp_path / "run")
    row = rows["p/a.png"]
    assert (row.format, row.width_px, row.height_px, row.num_bytes) == ("png", 40, 30, len(png(40, 30)))
    assert (row.license, row.text, row.location) == ("CC0-1.0", "Noise.", "a.png")
    assert (len(row.sha256), len(row.phash)) == (64, 16)
    assert row.for_teacher
    assert row.for_expand


def test_a_picture_in_two_sources_is_used_once(tmp_path: Path, scenes_folder: Path) -> None:
    shutil.copytree(scenes_folder, tmp_path / "copy")
    spec = manifest(folder_source(scenes_folder, "one"), folder_source(tmp_path / "copy", "two"))
    report, rows = indexed(spec, tmp_path / "run")
    assert (report.num_in, report.num_out) == (60, 30)
    copies = [row for row in rows.values() if row.duplicate_of]
    assert {row.duplicate_of.partition("/")[2] for row in copies if row.duplicate_of} == {row.key for row in copies}
    assert report.notes["one.usable"] + report.notes["two.usable"] == 30  # type: ignore[operator]


def test_a_smaller_copy_is_a_duplicate_unless_only_bytes_count(tmp_path: Path, scenes_folder: Path) -> None:
    with Image.open(scenes_folder / "00.png") as image:
        image.resize((108, 108)).save(scenes_folder / "small.jpg", quality=80)
    report, rows = indexed(manifest(folder_source(scenes_folder)), tmp_path / "run")
    assert report.rejected == {"duplicate_of": 1}
    assert {rows["p/00.png"].detail, rows["p/small.jpg"].detail} == {None, "looks the same"}
    exact = manifest(folder_source(scenes_folder), pictures={"duplicate_bits": -1})
    assert indexed(exact, tmp_path / "exact")[0].num_out == 31


def test_quotas_choose_among_usable_pictures(tmp_path: Path, scenes_folder: Path) -> None:
    (scenes_folder / "broken.png").write_bytes(b"")
    shutil.copy(scenes_folder / "00.png", scenes_folder / "again.png")
    spec = manifest(folder_source(scenes_folder, teacher=10, expand="all", apart=True))
    report, rows = indexed(spec, tmp_path / "run")
    assert sum(row.for_teacher for row in rows.values()) == 10
    assert sum(row.for_expand for row in rows.values()) == 20
    assert all(row.reject is None for row in rows.values() if row.for_teacher or row.for_expand)
    assert (report.notes["p.for_teacher"], report.notes["p.for_expand"], report.notes["p.usable"]) == (10, 20, 30)


def test_a_quota_that_cannot_be_met_is_said(tmp_path: Path, scenes_folder: Path) -> None:
    progress = Listening()
    report, _ = indexed(manifest(folder_source(scenes_folder, teacher=99)), tmp_path / "run", progress)
    assert progress.lines == ["p: teacher asks for 99 pictures, there are 30 to choose from; all are taken"]
    assert report.notes["warnings"] == progress.lines[0]


def test_other_files_are_told_in_the_report(tmp_path: Path, scenes_folder: Path) -> None:
    (scenes_folder / "a.pdf").write_text("words")
    report, _ = indexed(manifest(folder_source(scenes_folder)), tmp_path / "run")
    assert report.notes["p.ignored"] == "1 .pdf"


@pytest.mark.parametrize("num_workers", [1, 2])
def test_more_rows_than_memory_and_more_processes_give_the_same_table(
    tmp_path: Path, scenes_folder: Path, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30, 80):
        (scenes_folder / f"{number}.png").write_bytes(png(24, 24, number))
    (scenes_folder / "bad.png").write_bytes(b"x")
    shutil.copy(scenes_folder / "00.png", scenes_folder / "copy.png")
    spec = manifest(folder_source(scenes_folder, teacher=0.5))
    indexed(spec, tmp_path / "plain")
    monkeypatch.setattr(spill_module.Spill.__init__, "__defaults__", (7,))
    indexed(spec, tmp_path / "spilled", num_workers=num_workers)
    assert table_bytes(tmp_path / "spilled") == table_bytes(tmp_path / "plain")


NAMES = [f"{number:02d}" for number in range(12)]


@settings(max_examples=12, deadline=None)
@given(st.permutations(NAMES), st.booleans())
def test_the_order_of_the_input_does_not_matter(order: list[str], sources_swapped: bool) -> None:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        tmp_path = Path(place)
        (tmp_path / "pictures").mkdir()
        for number, name in enumerate(NAMES):  # every picture twice, two of them not at all
            (tmp_path / "pictures" / f"{name}.png").write_bytes(b"" if number > 9 else png(20, 20, number // 2))
        sources = [folder_source(tmp_path / "pictures", "one", teacher=2), folder_source(tmp_path / "pictures", "two")]
        first, _ = indexed(manifest(*sources), tmp_path / "first")
        ordered = [Entry(f"{name}.png", f"{name}.png", None) for name in order]
        patch.setattr(Folder, "entries", lambda self: iter(ordered))
        second, _ = indexed(manifest(*(sources[::-1] if sources_swapped else sources)), tmp_path / "second")
        assert table_bytes(tmp_path / "first") == table_bytes(tmp_path / "second")
        assert (first.rejected, first.num_out) == (second.rejected, second.num_out)


def test_tars_and_drawn_scenes(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t-0.tar", "w") as tar:
        for name, data in (("a.png", scene_bytes(3, 0)), ("a.txt", b"words"), ("b.jpg", b"broken")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    tars = {"name": "tars", "kind": "webdataset", "path": str(tmp_path / "t-0.tar")}
    report, rows = indexed(manifest(tars, {"name": "drawn", "kind": "scenes", "count": 4}), tmp_path / "run")
    assert set(rows) == {"tars/t-0/a", "tars/t-0/b", *(f"drawn/{number:06d}" for number in range(4))}
    assert rows["tars/t-0/a"].text == "words"
    assert report.rejected == {"duplicate_of": 1, "not_an_image": 1}
    assert "tars/t-0/a" in {
        rows["drawn/000000"].duplicate_of,
        rows["drawn/000000"].image_id,
        rows["tars/t-0/a"].image_id,
    }


def test_two_samples_of_one_name_are_an_error_that_names_them(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name in ("a.png", "b.png", "a.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(png(20, 20))
            tar.addfile(info, io.BytesIO(png(20, 20)))
    with pytest.raises(InputError, match="same id 'tars/t/a'"):
        indexed(manifest({"name": "tars", "kind": "webdataset", "path": str(tmp_path / "t.tar")}), tmp_path / "run")


@pytest.mark.parametrize("make", ["nothing", "file", "empty", "no pictures"])
def test_a_source_without_pictures_is_one_clear_sentence(tmp_path: Path, make: str) -> None:
    place = tmp_path / "place"
    if make == "file":
        place.write_bytes(png(20, 20))
    elif make != "nothing":
        place.mkdir()
    if make == "no pictures":
        (place / "a.pdf").write_text("words")
    for attempt in (lambda: index.identity(manifest(folder_source(place)), "index"), lambda: indexed(
        manifest(folder_source(place)), tmp_path / "run"
    )):  # fmt: skip
        with pytest.raises(InputError) as caught:
            attempt()
        assert str(place) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_identity_covers_pictures_limits_and_quotas_but_no_order(tmp_path: Path, scenes_folder: Path) -> None:
    shutil.copytree(scenes_folder, tmp_path / "copy")
    one, two = folder_source(scenes_folder, "one"), folder_source(scenes_folder, "two", teacher=3)
    base = index.identity(manifest(one, two), "index")
    assert index.identity(manifest(two, one), "index") == base
    assert index.identity(manifest(folder_source(tmp_path / "copy", "one"), two), "index") == base
    assert index.identity(manifest(one, {**two, "prompt": "brief"}), "index") == base
    assert index.identity(manifest(one, {**two, "teacher": 4}), "index") != base
    assert index.identity(manifest(one, two, seed=4), "index") != base
    assert index.identity(manifest(one, two, pictures={"min_side_px": 20}), "index") != base
    (scenes_folder / "more.png").write_bytes(png(20, 20))
    assert index.identity(manifest(one, two), "index") != base


SCRIPT = """
import sys
from pathlib import Path
from sgv_data.index import run as index
from sgv_data.manifest import Manifest
from sgv_data.progress import Silent
from sgv_data.run_folder import RunFolder
from sgv_data.stage import StageContext

class Telling(Silent):
    def advance(self, count=1, note=""):
        print("row", flush=True)

if __name__ == "__main__":
    context = StageContext(RunFolder(Path(sys.argv[2])), "index", ("index",), Telling())
    context.folder.mkdir(parents=True, exist_ok=True)
    index.run(Manifest.model_validate_json(sys.argv[1]), context, int(sys.argv[3]))
"""


@pytest.mark.parametrize("num_workers", [1, 2])
def test_killed_and_started_again_gives_the_table_of_an_undisturbed_run(tmp_path: Path, num_workers: int) -> None:
    spec = manifest({"name": "drawn", "kind": "scenes", "count": 200, "teacher": 50})
    indexed(spec, tmp_path / "undisturbed")
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [
        sys.executable,
        str(tmp_path / "script.py"),
        spec.model_dump_json(),
        str(tmp_path / "run"),
        str(num_workers),
    ]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert run.stdout is not None
    for _ in range(random.Random(num_workers).randrange(1, 5)):
        assert run.stdout.readline() == "row\n"
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=30)
    assert not table_files(tmp_path / "run" / "index", "images")
    indexed(spec, tmp_path / "run")
    assert table_bytes(tmp_path / "run") == table_bytes(tmp_path / "undisturbed")
