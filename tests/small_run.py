"""A small run up to the shards, written straight into its tables: pictures of several formats and hostile captions.

`python -m tests.small_run ROOT EVENT` makes the shards of the run in ROOT and kills itself (SIGKILL) at the EVENT-th
event; events are pictures done and files about to get, or just given, their final names.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sgv_data.manifest import Manifest
from sgv_data.pipeline import Stage, active_stages, find_stage, run_stage
from sgv_data.progress import Silent
from sgv_data.records import (
    CaptionReject,
    CaptionRow,
    CaptionSet,
    FailureClass,
    ImageReject,
    ImageRow,
    Outcome,
    StageRecord,
    StageReport,
    Verdict,
    image_order,
)
from sgv_data.run_folder import RECORD, RunFolder, utc_now, write_durably
from sgv_data.tables import write_table

HOSTILE = (
    "A plain caption about a plain picture.",
    "Zeile eins\nZeile zwei\r\nZeile drei\n",
    "nul \x00 inside, bell \x07, escape \x1b[31m",
    "emoji 👩‍👩‍👧‍👦 🏳️‍🌈 and flags 🇪🇺",
    "right to left: ‏עברית‏ and العربية, override \u202e abc",
    "combining e\u0301 against \u00e9, and \ufeff in the middle",
    "\ufeffbyte order mark first",
    '{"json": "inside", "quote": "\\"", "slash": "\\\\"}',
    "---\nyaml: [front, matter]\n---",
    "../../etc/passwd and __key__ and .hidden",
    "   surrounded by blanks   ",
    "astral 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U0010ffff and line separators \u2028 \u2029 \x85",
    "very long " * 6_000,
)
FORMATS = (("jpeg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("gif", "GIF"))
PROMPT_TEXT = "Describe the picture.\n```\nwith a fence\n```"
PROMPT_SHA256 = hashlib.sha256(PROMPT_TEXT.encode()).hexdigest()
SAMPLING = {
    CaptionSet.TEACHER: '{"max_completion_tokens":256,"temperature":0.7}',
    CaptionSet.STUDENT: '{"do_sample":false,"max_new_tokens":64}',
}


@dataclass(frozen=True)
class SmallRun:
    """A run folder with everything `shard` reads, and its manifest."""

    manifest: Manifest
    run: RunFolder
    pictures: Path

    def stage(self, name: str) -> Path:
        return self.run.stage(name)

    def make(self, *names: str, redo: bool = False) -> StageReport:
        """Runs the stages as the pipeline does; the report of the last."""
        for name in names:
            result = run_stage(find_stage(self.manifest, name), self.manifest, self.run, Silent(), redo)
        return result.report


def small_run(root: Path, num_images: int = 40, seed: int = 0, **sections: Any) -> SmallRun:
    """A run of `num_images` pictures in `root`. `sections` replace those of the manifest."""
    pictures = root / "pictures"
    prompts = root / "prompts"
    pictures.mkdir(parents=True)
    prompts.mkdir()
    (prompts / "mine.md").write_text(f"---\nid: mine\nversion: 3\nfor: tests\n---\n{PROMPT_TEXT}\n", encoding="utf-8")
    values: dict[str, Any] = {
        "name": "small",
        "seed": 7,
        "images": [{"name": "pics", "kind": "folder", "path": str(pictures), "license": "CC0-1.0", "prompt": "mine"}],
        "teacher": {"model": "teacher-model"},
        "captioner": {"base_model": "tiny", "prompt": "mine"},
        "shard": {"max_samples": 10, "validation": 0.2, "workers": 1},
        "publish": {"to": "file://dataset"},
        "prompts": str(prompts),
    }
    manifest = Manifest.model_validate({**values, **sections})
    (root / "manifest.json").write_text(manifest.model_dump_json())
    run = RunFolder(root / "run")
    images = sorted(_images(pictures, num_images, seed), key=lambda row: image_order(row.image_id))
    write_table(run.stage("index"), "images", ImageRow, images)
    for caption_set in (CaptionSet.TEACHER, CaptionSet.STUDENT):
        _write_captions(run, caption_set, images)
    for stage in active_stages(manifest):
        if stage.name not in ("shard", "publish", "report"):
            _record(run, stage, len(images))
    return SmallRun(manifest, run, pictures)


def _images(folder: Path, count: int, seed: int) -> Iterator[ImageRow]:
    drawn = random.Random(seed)
    for number in range(count):
        name, pillow = FORMATS[number % len(FORMATS)]
        width_px, height_px = drawn.randint(20, 60), drawn.randint(20, 60)
        picture = Image.frombytes("RGB", (width_px, height_px), drawn.randbytes(width_px * height_px * 3))
        buffer = io.BytesIO()
        picture.save(buffer, pillow)
        key = f"sub.dir/{'längerer name ' * (number % 9)}pic 🖼 {number}.{name}"
        path = folder / key
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(buffer.getvalue())
        yield ImageRow(
            image_id=f"pics/{key}", source="pics", key=key, location=key, license="CC0-1.0",
            text="a title" if number % 3 else None, num_bytes=len(buffer.getvalue()),
            sha256=hashlib.sha256(buffer.getvalue()).hexdigest(), format=name, width_px=width_px, height_px=height_px,
            phash=f"{drawn.getrandbits(64):016x}",
            reject=ImageReject.DUPLICATE_OF if number % 20 == 19 else None,
            duplicate_of="pics/other" if number % 20 == 19 else None, detail=None,
            for_teacher=number % 2 == 0, for_expand=number % 10 != 8 and number % 10 != 7,
        )  # fmt: skip


def _asked(image: ImageRow, caption_set: CaptionSet) -> bool:
    return image.for_teacher if caption_set is CaptionSet.TEACHER else image.for_expand


def _write_captions(run: RunFolder, caption_set: CaptionSet, images: Sequence[ImageRow]) -> None:
    teacher = caption_set is CaptionSet.TEACHER
    captions = [
        _caption(image, caption_set) for image in images if image.reject is None and _asked(image, caption_set)
    ]
    write_table(run.stage("collect" if teacher else "expand"), "captions", CaptionRow, captions)
    verdicts = [_verdict(row) for row in captions if row.outcome is not Outcome.FAILED]
    write_table(run.stage(f"filter-{caption_set}"), "verdicts", Verdict, verdicts)


def _draw(image: ImageRow, caption_set: CaptionSet) -> int:
    return int(image_order(f"{caption_set}/{image.image_id}")[:8], 16)


def _caption(image: ImageRow, caption_set: CaptionSet) -> CaptionRow:
    drawn = _draw(image, caption_set)
    failed = drawn % 11 == 0
    teacher = caption_set is CaptionSet.TEACHER
    return CaptionRow(
        image_id=image.image_id, text="" if failed else f"{HOSTILE[drawn % len(HOSTILE)]}",
        outcome=Outcome.FAILED if failed else Outcome.OK, failure=FailureClass.TIMED_OUT if failed else None,
        detail=None, producer=caption_set, model="teacher-model" if teacher else "student-model",
        model_revision="" if teacher else "abc", prompt_id="mine", prompt_version=3, prompt_sha256=PROMPT_SHA256,
        sampling=SAMPLING[caption_set], finish_reason="" if failed else "stop", image_sha256=image.sha256,
        sent_sha256=image.sha256, prompt_tokens=10, completion_tokens=drawn % 100, cost_usd=None, request_key="k",
        request_id=None, attempts=1, latency_s=0.5, created_utc=utc_now(),
    )  # fmt: skip


def _verdict(row: CaptionRow) -> Verdict:
    kept = _draw_row(row) % 3 != 0
    return Verdict(
        image_id=row.image_id, kept=kept, reason=None if kept else CaptionReject.TOO_SHORT, refusal_score=0.0,
        cut_off_score=0.25, leak_share=0.0, repeated_share=0.1, num_words=len(row.text.split()),
        num_chars=len(row.text),
    )  # fmt: skip


def _draw_row(row: CaptionRow) -> int:
    return int(image_order(f"verdict/{row.producer}/{row.image_id}")[:8], 16)


def _record(run: RunFolder, stage: Stage, count: int) -> None:
    now = utc_now()
    record = StageRecord(
        stage=stage.name, fingerprint=hashlib.sha256(stage.name.encode()).hexdigest(), identity={}, inputs={},
        code_version="0", libraries={}, started_utc=now, finished_utc=now,
        report=StageReport(stage=stage.name, num_in=count, num_out=count),
    )  # fmt: skip
    run.stage(stage.name).mkdir(parents=True, exist_ok=True)
    write_durably(run.stage(stage.name) / RECORD, json.dumps(record.model_dump(mode="json")))


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file below `folder` but records, which hold dates."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(("_", "."))
    }


class _Fatal(Silent):
    """Counts events and kills the process at one of them."""

    def __init__(self, event: int) -> None:
        self._left = event
        self._replace = os.replace

    def event(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def advance(self, count: int = 1, note: str = "") -> None:
        self.event()

    def replace(self, source: Path, target: Path) -> None:
        self.event()
        self._replace(source, target)
        self.event()


def _main(root: Path, event: int) -> None:
    manifest = Manifest.model_validate_json((root / "manifest.json").read_text())
    fatal = _Fatal(event)
    os.replace = fatal.replace  # type: ignore[assignment]
    run_stage(find_stage(manifest, "shard"), manifest, RunFolder(root / "run"), fatal)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
