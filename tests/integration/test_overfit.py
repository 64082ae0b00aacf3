"""A small captioner learns a hundred real pictures by heart: its greedy captions are then their sentences.

`SGV_TEST_PHOTOS` names a folder of photographs with an `index.jsonl` (`file`, `text`); without it the photographs that
come with the project are used, each several times over, cut differently, with its part named in the sentence.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps

from sgv_data.captioner.tiny import TinySize, build_tiny
from sgv_data.manifest import Manifest
from sgv_data.package_data import resolve_asset
from sgv_data.records import CaptionRow, ImageRow, Verdict, image_order
from sgv_data.run_folder import RunFolder
from sgv_data.tables import read_table, write_table
from tests.captioner_run import make, picture_row, teacher_row, write_record

pytestmark = pytest.mark.slow

NUM_PICTURES, SIDE_PX, MAX_CHARS = 100, 64, 60
SIZE = TinySize(
    side_px=SIDE_PX, patch_px=8, vision_width=128, vision_inner=256, vision_blocks=3, vision_heads=4,
    language_width=128, language_inner=256, language_blocks=3, language_heads=4, vocabulary_tokens=1500,
    context_tokens=256,
)  # fmt: skip
"""About a million parameters."""


def photographs() -> Iterator[tuple[Image.Image, str]]:
    """Pictures of people's own with the first sentence that belongs to them."""
    folder = os.environ.get("SGV_TEST_PHOTOS")
    if folder:
        for line in (Path(folder) / "index.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            sentence = re.split(r"(?<=[.!?])\s", (row.get("text") or row.get("title") or "").strip())[0][:MAX_CHARS]
            if sentence:
                with Image.open(Path(folder) / row["file"]) as image:
                    yield image.convert("RGB"), sentence.strip()
        return
    for path in sorted(resolve_asset("sgv:photos").rglob("*.jpg")):
        with Image.open(path) as image:
            whole = ImageOps.fit(image.convert("RGB"), (256, 256))
        name = path.stem.replace("_", " ").replace("-", " ")
        for number in range(16):
            left, top = number % 4 * 48, number // 4 * 48
            yield whole.crop((left, top, left + 112, top + 112)), f"Part {number + 1} of {name}."


def learning_run(root: Path) -> tuple[Manifest, RunFolder, dict[str, str]]:
    """A run folder whose teacher captions are those sentences; two more pictures are there to be held out."""
    pictures, prompts = root / "pictures", root / "prompts"
    pictures.mkdir()
    prompts.mkdir()
    (prompts / "mine.md").write_text("---\nid: mine\nversion: 1\nfor: tests\n---\nDescribe.\n", encoding="utf-8")
    rows: list[tuple[ImageRow, str]] = []
    seen: set[str] = set()
    for image, sentence in photographs():
        key = hashlib.sha256(image.tobytes()).hexdigest()
        if key in seen or len(rows) == NUM_PICTURES + 2:
            continue
        seen.add(key)
        path = pictures / f"{len(rows):04d}.png"
        image.resize((SIDE_PX, SIDE_PX)).save(path)
        rows.append((picture_row(path), sentence))
    assert len(rows) == NUM_PICTURES + 2
    rows.sort(key=lambda pair: image_order(pair[0].image_id))
    torch.manual_seed(1)
    build_tiny(root / "base", [sentence for _, sentence in rows], SIZE)
    manifest = Manifest.model_validate({
        "name": "small", "seed": 3, "prompts": str(prompts), "teacher": {"model": "teacher"},
        "images": [{"name": "pics", "kind": "folder", "path": str(pictures), "prompt": "mine"}],
        "captioner": {
            "base_model": str(root / "base"), "prompt": "mine", "learning_rate": 1e-3, "weight_decay": 0.01,
            "batch_size": 25, "micro_batch_size": 25, "epochs": 100, "held_out": 0.02, "samples": 0,
            "checkpoint_every_steps": 200, "parts": {"vision": "full"},
        },
        "expand": {"max_new_tokens": 64, "batch_size": 32},
    })  # fmt: skip
    run = RunFolder(root / "run")
    write_table(run.stage("index"), "images", ImageRow, (row for row, _ in rows))
    write_table(run.stage("collect"), "captions", CaptionRow, (teacher_row(*pair) for pair in rows))
    kept = (Verdict(row.image_id, True, None, 0.0, 0.0, 0.0, 0.0, 10, 50) for row, _ in rows)
    write_table(run.stage("filter-teacher"), "verdicts", Verdict, kept)
    for stage in ("index", "collect", "filter-teacher"):
        write_record(run, stage)
    return manifest, run, {row.image_id: sentence for row, sentence in rows}


def test_a_hundred_pictures_are_learned_by_heart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, run, sentences = learning_run(tmp_path)
    started_s = time.monotonic()

    report = make(manifest, run, "train")
    trained_s = time.monotonic() - started_s
    make(manifest, run, "expand")

    written = {row.image_id: row.text for row in read_table(run.stage("expand"), "captions", CaptionRow)}
    num_equal = sum(written[image_id] == sentence for image_id, sentence in sentences.items())
    with capsys.disabled():
        sys.stdout.write(f"\n{num_equal} of {len(sentences)} equal, trained in {trained_s:.0f} s, {report.notes}\n")
    # Two of the pictures were held out: nobody can know their sentences.
    assert num_equal >= 90
