"""A run folder up to the filtered teacher captions, for `train` and `expand`; also run as a child to be killed."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from sgv_data.manifest import Manifest
from sgv_data.pipeline import active_stages, find_stage, run_stage
from sgv_data.progress import Progress, Silent
from sgv_data.records import (
    CaptionReject,
    CaptionRow,
    CaptionSet,
    ImageRow,
    Outcome,
    StageRecord,
    StageReport,
    Verdict,
    image_order,
)
from sgv_data.run_folder import RECORD, RunFolder, utc_now, write_durably
from sgv_data.tables import write_table

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 200), "white": (250, 250, 250)}
PROMPT_TEXT = "Describe the picture."


def captioner_run(
    root: Path, num_taught: int = 24, num_untaught: int = 12, captioner: dict[str, Any] | None = None, **sections: Any
) -> tuple[Manifest, RunFolder]:
    """A manifest and its run folder, with `index`, `collect` and `filter-teacher` finished.

    Every sixth teacher caption is not kept. Nothing here is random: equal arguments give equal tables.
    """
    pictures, prompts = root / "pictures", root / "prompts"
    pictures.mkdir(parents=True)
    prompts.mkdir()
    (prompts / "mine.md").write_text(f"---\nid: mine\nversion: 2\nfor: tests\n---\n{PROMPT_TEXT}\n", encoding="utf-8")
    manifest = Manifest.model_validate({
        "name": "small", "seed": 3, "prompts": str(prompts), "teacher": {"model": "teacher"},
        "images": [{"name": "pics", "kind": "folder", "path": str(pictures), "prompt": "mine"}],
        "captioner": {
            "base_model": "tiny", "prompt": "mine", "learning_rate": 2e-3, "batch_size": 8, "micro_batch_size": 4,
            "epochs": 2, "held_out": 0.1, "samples": 3, "checkpoint_every_steps": 2,
            "parts": {"vision": "full"}, **(captioner or {}),
        },
        "expand": {"max_new_tokens": 12, "batch_size": 8, "unit_size": 8},
        **sections,
    })  # fmt: skip
    run = RunFolder(root / "run")
    numbers = range(num_taught + num_untaught)
    drawn = [draw_picture(pictures, number, for_teacher=number < num_taught) for number in numbers]
    drawn.sort(key=lambda pair: image_order(pair[0].image_id))
    write_table(run.stage("index"), "images", ImageRow, (row for row, _ in drawn))
    taught = [pair for pair in drawn if pair[0].for_teacher]
    write_table(run.stage("collect"), "captions", CaptionRow, (teacher_row(*pair) for pair in taught))
    write_table(run.stage("filter-teacher"), "verdicts", Verdict, (verdict(row) for row, _ in taught))
    for stage in active_stages(manifest)[:3]:
        write_record(run, stage.name)
    return manifest, run


def draw_picture(folder: Path, number: int, for_teacher: bool = True) -> tuple[ImageRow, str]:
    """A picture file with a rectangle, its row, and a caption that is true."""
    chance = random.Random(number)
    ground, colour = chance.sample(sorted(COLOURS), 2)
    left = chance.random() < 0.5
    image = Image.new("RGB", (90, 60 + number % 30), COLOURS[ground])
    ImageDraw.Draw(image).rectangle((8 if left else 50, 15, 38 if left else 80, 45), fill=COLOURS[colour])
    path = folder / f"{number:04d}.png"
    image.save(path)
    side = "left" if left else "right"
    caption = f"A {colour} rectangle lies on the {side} of a {ground} ground."
    if number % 2:
        caption += f" Everything else is {ground}."
    return picture_row(path, for_teacher), caption


def picture_row(path: Path, for_teacher: bool = True, source: str = "pics") -> ImageRow:
    """The index row of a picture file."""
    data = path.read_bytes()
    with Image.open(path) as image:
        width_px, height_px = image.size
    return ImageRow(
        image_id=f"{source}/{path.name}", source=source, key=path.name, location=path.name, license="CC0-1.0",
        text=None, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), format="png", width_px=width_px,
        height_px=height_px, phash="0" * 16, reject=None, duplicate_of=None, detail=None, for_teacher=for_teacher,
        for_expand=True,
    )  # fmt: skip


def teacher_row(row: ImageRow, text: str) -> CaptionRow:
    """The teacher's answer for a picture."""
    return CaptionRow(
        image_id=row.image_id, text=text, outcome=Outcome.OK, failure=None, detail=None, producer=CaptionSet.TEACHER,
        model="teacher", model_revision="", prompt_id="mine", prompt_version=2, prompt_sha256="", sampling="{}",
        finish_reason="stop", image_sha256=row.sha256, sent_sha256=row.sha256, prompt_tokens=1, completion_tokens=1,
        cost_usd=None, request_key="k", request_id=None, attempts=1, latency_s=0.0,
        created_utc="2026-01-31T12:00:00Z",
    )  # fmt: skip


def verdict(row: ImageRow) -> Verdict:
    """Kept, but for every sixth file."""
    kept = int(row.key.partition(".")[0]) % 6 != 0
    return Verdict(row.image_id, kept, None if kept else CaptionReject.TOO_SHORT, 0.0, 0.0, 0.0, 0.0, 10, 50)


def write_record(run: RunFolder, stage: str) -> None:
    """Says that a stage is finished."""
    now = utc_now()
    record = StageRecord(
        stage=stage, fingerprint=hashlib.sha256(stage.encode()).hexdigest(), identity={}, inputs={}, code_version="0",
        libraries={}, started_utc=now, finished_utc=now, report=StageReport(stage=stage, num_in=0, num_out=0),
    )  # fmt: skip
    write_durably(run.stage(stage) / RECORD, record.model_dump_json())


def make(manifest: Manifest, run: RunFolder, *stages: str, progress: Progress | None = None) -> StageReport:
    """Runs the stages as the pipeline does; the report of the last."""
    for stage in stages:
        result = run_stage(find_stage(manifest, stage), manifest, run, progress or Silent())
    return result.report


def weights(run: RunFolder) -> str:
    """sha256 of the trained weights."""
    return hashlib.sha256((run.stage("train") / "model" / "model.safetensors").read_bytes()).hexdigest()


def kills(num_tries: int, seed: int, last_event: int) -> Iterator[int]:
    """Events at which to kill a child, different for each try."""
    chance = random.Random(seed)
    return (chance.randint(1, last_event) for _ in range(num_tries))


class Fatal(Silent):
    """Counts progress and renames, and kills the process at one of them, before or after a rename."""

    def __init__(self, event: int) -> None:
        self._left = event
        self._replace, self._rename = os.replace, os.rename

    def arm(self) -> None:
        """Puts this in the way of every rename."""
        os.replace = lambda source, target: self._around(self._replace, source, target)  # type: ignore[assignment]
        os.rename = lambda source, target: self._around(self._rename, source, target)  # type: ignore[assignment]

    def advance(self, count: int = 1, note: str = "") -> None:
        self._event()

    def _around(self, move: Any, source: Any, target: Any) -> None:
        self._event()
        move(source, target)
        self._event()

    def _event(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _main(root: Path, stage: str, event: int) -> None:
    manifest = Manifest.model_validate_json((root / "manifest.json").read_text())
    fatal = Fatal(event)
    fatal.arm()
    make(manifest, RunFolder(root / "run"), stage, progress=fatal)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
