"""Sources as people have them, indexed: the paper's layouts at 1:1000, and a tree in which everything is wrong."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sgv_data.manifest import Manifest
from sgv_data.manifest_file import load_manifest
from sgv_data.pipeline import find_stage, run_stage
from sgv_data.progress import Silent
from sgv_data.records import ImageReject, ImageRow, StageReport
from sgv_data.run_folder import RunFolder
from sgv_data.sources.reader import PictureReader
from sgv_data.tables import read_table
from tests.unit.sources.trees import llava_file, picture, put

NUM_COCO, NUM_LCS, NUM_SAM = 118, 558, 570


class Said(Silent):
    """Remembers the sentences."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def indexed(manifest: Manifest, folder: Path) -> tuple[StageReport, list[ImageRow], list[str]]:
    said = Said()
    done = run_stage(find_stage(manifest, "index"), manifest, RunFolder(folder / "run"), said, False)
    rows = list(read_table(folder / "run" / "index", "images", ImageRow))
    return done.report, rows, said.lines


def _sam_tar(path: Path, numbers: range) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number in numbers:
            for name, data in ((f"./sa_{number}.jpg", picture(10_000 + number)), (f"./sa_{number}.json", b"{}")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def _paper_trees(root: Path) -> list[str]:
    """The manifest's sources at 1:1000; the overrides that lead there."""
    put(root, (f"coco/train2017/{number:012d}.jpg" for number in range(NUM_COCO)))
    lcs = [f"{number % 7:05d}/{number:09d}.jpg" for number in range(NUM_LCS)]
    put(root / "llava/images", lcs, 1_000)
    llava_file(root / "llava/blip.json", lcs)
    for tar in range(2):
        _sam_tar(root / f"sam/sa_{tar:06d}.tar", range(tar * 285 + 1, tar * 285 + 286))
    small = ("share_textvqa", "wikiart", "web-landmark", "web-celebrity")
    for place, name in enumerate(small):
        put(root / name / "images", (f"{number}.jpg" for number in range(3)), 20_000 + 10 * place)
    paths = ["coco/train2017", "llava/blip.json", "sam/sa_0000[0-5][0-9].tar", *(f"{name}/images" for name in small)]
    teacher = (50, 30, 20, 1, 1, 1, 1)
    overrides = [f"images.{place}.path={root / path}" for place, path in enumerate(paths)]
    overrides += [f"images.{place}.teacher={number}" for place, number in enumerate(teacher)]
    return [*overrides, f"images.1.images={root / 'llava/images'}"]


def test_the_papers_manifest_states_the_papers_counts() -> None:
    manifest = load_manifest(Path("manifests/sharegpt4v.yaml"))
    teacher = {source.name: source.teacher for source in manifest.images}
    assert teacher == {
        "coco": 50_000, "lcs": 30_000, "sam": 20_000, "textcaps": 500, "wikiart": 500, "landmarks": 500,
        "celebrities": 500,
    }  # fmt: skip
    assert [source.name for source in manifest.images if source.expand == "all"] == ["coco", "lcs", "sam"]


def test_the_papers_layouts_are_indexed_at_a_thousandth(tmp_path: Path) -> None:
    manifest = load_manifest(Path("manifests/sharegpt4v.yaml"), _paper_trees(tmp_path / "data"))
    report, rows, _ = indexed(manifest, tmp_path)
    assert report.num_in == report.num_out == NUM_COCO + NUM_LCS + NUM_SAM + 12
    assert sum(row.for_expand for row in rows) == NUM_COCO + NUM_LCS + NUM_SAM
    assert sum(row.for_teacher for row in rows) == 104
    texts = {row.key: row.text for row in rows if row.source == "lcs"}
    assert texts["00003/000000003.jpg"] == "Text 3."
    reader = PictureReader(manifest)
    for row in rows[:40]:
        assert reader.read_row(row)


def test_every_missing_and_broken_picture_and_layout_mistake_is_found_and_explained(tmp_path: Path) -> None:
    data = tmp_path / "data"
    coco = [f"coco/train2017/{number:012d}.jpg" for number in range(100)]
    sam = [f"sam/images/sa_{number}.jpg" for number in range(11_180, 11_200)]
    web = [f"web-celebrity/images/Name_{number}.jpg" for number in range(10)]
    ocr = [f"ocr_vqa/images/{number}.jpg" for number in range(10)]
    gone = [*coco[:6], sam[-1]]
    put(data, (path for path in (*coco, *sam) if path not in gone))
    put(data / "web-celebrity/images/data", web, 500)
    put(data, (path.replace(".jpg", ".gif") for path in ocr), 700)
    put(data / "wikiart/images/images", ["a.jpg"], 900)
    broken = coco[50]
    (data / broken).write_bytes(picture(50)[:200])
    listed = [*coco, *sam, *web, *ocr, "wikiart/images/a.jpg", "gqa/images/1.jpg"]
    source = {"name": "mix", "kind": "llava", "path": str(llava_file(data / "mix.json", listed)), "images": str(data)}
    manifest = Manifest.model_validate({"name": "x", "images": [source], "teacher": {"model": "m"}})
    report, rows, lines = indexed(manifest, tmp_path)
    missing = {row.key: row.detail for row in rows if row.reject is ImageReject.UNREADABLE_FILE}
    assert missing == dict.fromkeys([*gone, "gqa/images/1.jpg"], "listed, but the file is missing")
    assert [row.key for row in rows if row.reject is ImageReject.TRUNCATED_IMAGE] == [broken]
    assert (report.num_in, report.num_out) == (len(listed), len(listed) - len(missing) - 1)
    told = "\n".join(lines)
    for part in (
        "6 of 100 pictures listed in coco/train2017 are missing",
        f"1 of 20 pictures listed in sam/images are missing ({sam[-1]}). By their numbers they are in sa_000001",
        "1 of 1 pictures listed in gqa/images are missing",
        "10 of 10 pictures listed in web-celebrity/images are taken from elsewhere: below the folders that the",
        "10 of 10 pictures listed in ocr_vqa/images are taken from elsewhere: with another extension",
        "1 of 1 pictures listed in wikiart/images are taken from elsewhere: unpacked a level deeper",
    ):
        assert part in told


def test_a_table_parquet_and_img2dataset_are_indexed_together(tmp_path: Path) -> None:
    put(tmp_path / "table", [f"{number}.jpg" for number in range(80)])
    (tmp_path / "table/list.json").write_text(json.dumps([f"{number}.jpg" for number in range(80)]))
    (tmp_path / "parquet").mkdir()
    images = [{"bytes": picture(1_000 + number), "path": None} for number in range(80)]
    pq.write_table(pa.table({"image": images}), tmp_path / "parquet/train.parquet", row_group_size=16)
    _sam_tar(tmp_path / "fetched/00000.tar", range(5))
    status = {"status": ["success"] * 5 + ["failed_to_download"], "error_message": [None] * 5 + ["HTTP Error 404"]}
    pq.write_table(pa.table(status), tmp_path / "fetched/00000.parquet")
    kinds = {"table": "table/list.json", "parquet": "parquet", "img2dataset": "fetched"}
    sources = [{"name": kind, "kind": kind, "path": str(tmp_path / path)} for kind, path in kinds.items()]
    manifest = Manifest.model_validate({"name": "x", "images": sources, "teacher": {"model": "m"}})
    report, rows, lines = indexed(manifest, tmp_path)
    assert report.num_out == len(rows) == 165
    assert report.notes["img2dataset.ignored"] == "1 URL not fetched: HTTP 404"
    assert any("1 of 6 URLs gave no picture" in line for line in lines)
    reader = PictureReader(manifest)
    assert all(len(reader.read_row(row)) == row.num_bytes for row in rows)
