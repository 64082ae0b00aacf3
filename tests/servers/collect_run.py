"""A run folder that holds a finished index of numbered pictures, and `collect` run in it; also as a child process."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from sgv_data.collect.run import run
from sgv_data.manifest import Manifest
from sgv_data.progress import Silent
from sgv_data.records import CaptionRow, ImageRow, StageReport, image_order
from sgv_data.run_folder import RunFolder
from sgv_data.stage import StageContext
from sgv_data.tables import read_table, write_table

PRICE = {"input_usd": 1.0, "output_usd": 2.0}


def make_manifest(folder: Path, base_url: str, **teacher: Any) -> Manifest:
    """A manifest whose waits are too short to notice."""
    return Manifest.model_validate({
        "name": "test",
        "images": [{"kind": "folder", "name": "numbers", "path": str(folder / "pictures"), "prompt": "asked"}],
        "prompts": str(folder / "prompts"),
        "teacher": {
            "model": "fake", "base_url": base_url, "max_completion_tokens": 50, "timeout_s": 5.0,
            "retry": {"attempts": 3, "max_wait_s": 0.01}, "limits": {"in_flight": 4},
            **({} if "price" in teacher else {"price": "unknown"}), **teacher,
        },
    })  # fmt: skip


def draw(number: int) -> Image.Image:
    """A small picture that no other number has."""
    return Image.new("RGB", (32, 24), (number % 256, number // 256 % 256, 90))


def make_index(folder: Path, num_pictures: int, not_asked: int = 0) -> list[ImageRow]:
    """Pictures on disk and their table; the last `not_asked` are not for the teacher."""
    prompts = folder / "prompts"
    prompts.mkdir(parents=True, exist_ok=True)
    (prompts / "asked.md").write_text("---\nid: asked\nversion: 1\nfor: tests\n---\nDescribe the picture.\n")
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    rows = []
    for number in range(num_pictures):
        path = pictures / f"{number:05d}.png"
        draw(number).save(path)
        rows.append(index_row(path, for_teacher=number < num_pictures - not_asked))
    rows.sort(key=lambda row: image_order(row.image_id))
    write_table(folder / "run" / "index", "images", ImageRow, rows)
    return rows


def index_row(path: Path, for_teacher: bool = True) -> ImageRow:
    """The index row of one file."""
    data = path.read_bytes()
    with Image.open(path) as image:
        width_px, height_px = image.size
    return ImageRow(
        image_id=f"numbers/{path.stem}", source="numbers", key=path.stem, location=path.name, license="CC0-1.0",
        text=None, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), format="png", width_px=width_px,
        height_px=height_px, phash="0" * 16, reject=None, duplicate_of=None, detail=None, for_teacher=for_teacher,
        for_expand=False,
    )  # fmt: skip


def collect(manifest: Manifest, folder: Path) -> StageReport:
    """Runs the stage as the pipeline would."""
    context = StageContext(RunFolder(folder / "run"), "collect", ("index", "collect"), Silent())
    context.folder.mkdir(parents=True, exist_ok=True)
    return run(manifest, context).balance()


def captions(folder: Path) -> dict[str, CaptionRow]:
    """The stage's table by image id."""
    rows = list(read_table(folder / "run" / "collect", "captions", CaptionRow))
    assert [row.image_id for row in rows] == sorted((row.image_id for row in rows), key=image_order)
    return {row.image_id: row for row in rows}


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    root = Path(arguments["folder"])
    collect(make_manifest(root, arguments["base_url"], **arguments["teacher"]), root)
