"""A whole run written straight into its tables, with records that agree: scenes, hostile captions, every state."""

from __future__ import annotations

import hashlib
import io
import json
import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sgv_data.demo.scenes import scene, scene_bytes
from sgv_data.filter.phrases import instructions_of
from sgv_data.filter.run import judge
from sgv_data.manifest import Manifest
from sgv_data.pipeline import active_stages
from sgv_data.progress import Silent
from sgv_data.records import (
    CaptionRow,
    CaptionSet,
    FailureClass,
    ImageReject,
    ImageRow,
    Outcome,
    SampleRow,
    StageRecord,
    StageReport,
    Verdict,
    counted,
    image_order,
)
from sgv_data.report import run as report_stage
from sgv_data.run_folder import RECORD, RunFolder, write_durably
from sgv_data.stage import StageContext
from sgv_data.tables import write_table

HOSTILE = (
    "<script>alert('x')</script> and </blockquote></main> with <img src=http://evil.example/x.png onerror=alert(1)> "
    "in it.",
    "\"Quotes\" and 'apostrophes' & ampersands &lt;b&gt; stand {{ 7 * 7 }} in {% raw %} a "
    "caption about a red barn door.",
    "קטע טקסט מימין לשמאל \u202e override \u202d about a street with shops, \u200fand العربية too.",
    "Emoji 👩‍👩‍👧‍👦 🏳️‍🌈 in a sentence about a family on a beach that walks towards the sea with two dogs.",
    "nul \x00 bell \x07 escape \x1b[31m and line separators \u2028 \u2029 \x85 in one caption of a picture.",
    "A very long caption. " * 5_000,
)
ENDED = {name: f"2026-11-22T10:{minute:02d}:00Z" for minute, name in enumerate(
    ("index", "collect", "filter-teacher", "train", "expand", "filter-student", "shard", "publish"))}  # fmt: skip


@dataclass(frozen=True)
class FakeRun:
    manifest: Manifest
    run: RunFolder

    @property
    def active(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in active_stages(self.manifest))

    def report(self) -> StageReport:
        folder = self.run.stage("report")
        folder.mkdir(parents=True, exist_ok=True)
        return report_stage.run(self.manifest, StageContext(self.run, "report", self.active, Silent())).balance()

    def page(self) -> str:
        return (self.run.stage("report") / "index.html").read_text(encoding="utf-8")

    def forget(self, *stages: str) -> None:
        """As if these stages had not run yet."""
        for stage in stages:
            (self.run.stage(stage) / RECORD).unlink()


def fake_run(root: Path, num_photos: int = 40, num_scenes: int = 60, teacher_url: str | None = None) -> FakeRun:
    photos = root / "photos"
    photos.mkdir(parents=True)
    manifest = Manifest.model_validate({
        "name": "fake-run",
        "seed": 7,
        "images": [
            {"name": "scenes", "kind": "scenes", "count": num_scenes, "prompt": "scene_plain", "apart": True},
            {"name": "photos", "kind": "folder", "path": str(photos), "license": "CC0-1.0", "prompt": "photo_plain"},
        ],
        "teacher": {"model": "teacher-model", "base_url": teacher_url},
        "filter": {"length": {"min_words": 12}},
        "captioner": {"base_model": "tiny"},
        "publish": {"to": "file://dataset"},
    })  # fmt: skip
    run = RunFolder(root / "run")
    images = [*_scenes(num_scenes), *_photos(photos, num_photos)]
    images.sort(key=lambda row: image_order(row.image_id))
    write_table(run.stage("index"), "images", ImageRow, images)
    rejects = Counter(row.reject for row in images)
    num_usable = rejects.pop(None, 0)
    _record(run, "index", StageReport(stage="index", num_in=len(images), num_out=num_usable, rejected=counted(rejects)))
    kept: dict[str, CaptionSet] = {}
    for caption_set in (CaptionSet.TEACHER, CaptionSet.STUDENT):
        kept = _write_captions(manifest, run, caption_set, images, num_usable) | kept
    _write_training(run, images)
    _write_shards(run, images, kept)
    return FakeRun(manifest, run)


def _image(source: str, key: str, data: bytes, **changes: object) -> ImageRow:
    values: dict[str, object] = {
        "image_id": f"{source}/{key}", "source": source, "key": key, "location": key, "license": "CC0-1.0",
        "text": None, "num_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "format": "png",
        "width_px": 240, "height_px": 180, "phash": "0" * 16, "reject": None, "duplicate_of": None, "detail": None,
        "for_teacher": False, "for_expand": False,
    }  # fmt: skip
    return ImageRow(**{**values, **changes})  # type: ignore[arg-type]


def _scenes(count: int) -> Iterable[ImageRow]:
    for number in range(count):
        yield _image(
            "scenes", f"{number:06d}", scene_bytes(7, number) if number < 60 else b"", location=str(number),
            for_teacher=number % 6 == 0, for_expand=number % 6 != 0,
        )  # fmt: skip


def _photos(folder: Path, count: int) -> Iterable[ImageRow]:
    drawn = random.Random(2)
    for number in range(count):
        key = f"sub/phöto <{number}>.png"
        picture = Image.linear_gradient("L").resize((240, 180)).convert("RGB")
        picture.paste((drawn.randrange(256), drawn.randrange(256), drawn.randrange(256)), (30, 30, 120, 150))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        path = folder / key
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(buffer.getvalue())
        changes: dict[str, object] = {"for_teacher": number % 4 != 3, "for_expand": number % 4 != 0}
        if number % 13 == 12:
            changes = {"reject": ImageReject.DUPLICATE_OF, "duplicate_of": "photos/other"}
        elif number % 13 == 11:
            path.write_bytes(buffer.getvalue()[:200])
            changes = {"reject": ImageReject.TRUNCATED_IMAGE, "width_px": 0, "height_px": 0}
        elif number % 13 == 10:
            changes = {}
        yield _image("photos", key, buffer.getvalue(), **changes)


def _text(image: ImageRow, caption_set: CaptionSet, drawn: random.Random) -> str:
    if image.source == "photos":
        if drawn.random() < 0.3:
            return drawn.choice(HOSTILE)
        return (
            "A photograph in landscape format shows a " + drawn.choice(["red", "green", "pale blue"]) + " rectangle on "
            "a ground that goes from black at the top to white at the bottom. The light falls evenly from above."
        )
    truth = scene(7, int(image.location))
    wrong = caption_set is CaptionSet.STUDENT and drawn.random() < 0.3
    places = [
        f"A {item.size} {'pink' if wrong else item.color} {item.shape} is in the {item.row} {item.column}."
        for item in truth.objects
    ]
    ground = f"The background is {truth.background_texture} {truth.background_color}."
    text = " ".join([f"The picture has {len(places)} shapes.", *places, ground])
    return text[: drawn.randrange(20, 60)] if drawn.random() < 0.08 else text


def _write_captions(
    manifest: Manifest, run: RunFolder, caption_set: CaptionSet, images: list[ImageRow], num_usable: int
) -> dict[str, CaptionSet]:
    teacher = caption_set is CaptionSet.TEACHER
    drawn = random.Random(str(caption_set))
    asked = [row for row in images if row.reject is None and (row.for_teacher if teacher else row.for_expand)]
    captions = [_caption(row, caption_set, drawn) for row in asked]
    instructions = instructions_of([])
    verdicts = [judge(row, instructions, manifest.filter) for row in captions if row.outcome is not Outcome.FAILED]
    stage = "collect" if teacher else "expand"
    write_table(run.stage(stage), "captions", CaptionRow, captions)
    write_table(run.stage(f"filter-{caption_set}"), "verdicts", Verdict, verdicts)
    failed = Counter(row.failure for row in captions if row.failure)
    skipped = num_usable - len(asked)
    num_out = len(captions) - failed.total()
    _record(run, stage, StageReport(
        stage=stage, num_in=num_usable, num_out=num_out, failed=counted(failed), skipped=skipped))  # fmt: skip
    reasons = Counter(verdict.reason for verdict in verdicts)
    num_kept = reasons.pop(None, 0)
    name = f"filter-{caption_set}"
    _record(run, name, StageReport(stage=name, num_in=num_out, num_out=num_kept, rejected=counted(reasons)))
    return {verdict.image_id: caption_set for verdict in verdicts if verdict.kept}


def _caption(image: ImageRow, caption_set: CaptionSet, drawn: random.Random) -> CaptionRow:
    failed = drawn.random() < 0.04
    teacher = caption_set is CaptionSet.TEACHER
    return CaptionRow(
        image_id=image.image_id, text="" if failed else _text(image, caption_set, drawn),
        outcome=Outcome.FAILED if failed else Outcome.OK, failure=FailureClass.TIMED_OUT if failed else None,
        detail=None, producer=caption_set, model="m", model_revision="", prompt_id="captioner" if not teacher else
        ("scene_plain" if image.source == "scenes" else "photo_plain"), prompt_version=1, prompt_sha256="0",
        sampling="{}", finish_reason="stop", image_sha256=image.sha256, sent_sha256=image.sha256, prompt_tokens=100,
        completion_tokens=40, cost_usd=0.001 if teacher else None, request_key="k", request_id=None, attempts=1,
        latency_s=0.5, created_utc="2026-11-22T10:00:00Z",
    )  # fmt: skip


def _write_training(run: RunFolder, images: list[ImageRow]) -> None:
    folder = run.stage("train")
    folder.mkdir(parents=True, exist_ok=True)
    steps: list[dict[str, float]] = []
    for step in range(1, 201, 5):
        steps.append({"step": step, "loss": 2.8 * math.exp(-step / 50) + 0.3, "learning_rate": 1e-4})
        if step % 20 == 1:
            steps.append({"step": step, "eval_loss": 2.7 * math.exp(-step / 50) + 0.4})
    write_durably(folder / "metrics.jsonl", "".join(json.dumps(step) + "\n" for step in steps))
    scenes = [row for row in images if row.source == "scenes" and row.for_expand][:16]
    samples = [
        {"image_id": row.image_id, "base": "A red star.", "trained": _text(row, CaptionSet.TEACHER, random.Random(1))}
        for row in scenes
    ]
    write_durably(folder / "samples.jsonl", "".join(json.dumps(sample) + "\n" for sample in samples))
    _record(run, "train", StageReport(stage="train", num_in=20, num_out=18, skipped=2))


def _write_shards(run: RunFolder, images: list[ImageRow], kept: dict[str, CaptionSet]) -> None:
    folder = run.stage("shard")
    samples = [_sample(row, kept[row.image_id]) for row in images if row.image_id in kept]
    write_table(folder / "metadata", "samples", SampleRow, samples)
    num_usable = sum(row.reject is None for row in images)
    _record(run, "shard", StageReport(
        stage="shard", num_in=num_usable, num_out=len(samples), rejected={"other": num_usable - len(samples)},
        notes={"shards": 2, "bytes": 3_400_000}))  # fmt: skip
    _record(run, "publish", StageReport(stage="publish", num_in=len(samples), num_out=len(samples)))


def _sample(row: ImageRow, producer: CaptionSet) -> SampleRow:
    return SampleRow(
        image_id=row.image_id, key=image_order(row.image_id), split="train", shard="train-00000.tar",
        image_name=f"{row.key}.png", image_offset_bytes=0, image_num_bytes=1, image_sha256=row.sha256,
        text_offset_bytes=0, text_num_bytes=1, text_sha256="0", json_offset_bytes=0, json_num_bytes=1, json_sha256="0",
        producer=producer,
    )  # fmt: skip


def _record(run: RunFolder, stage: str, report: StageReport) -> None:
    record = StageRecord(
        stage=stage, fingerprint=hashlib.sha256(stage.encode()).hexdigest(), identity={}, inputs={},
        code_version="0.1.0",
        libraries={"pyarrow": "26.0.1", "torch": "2.12.0"},
        started_utc="2026-11-22T09:58:00Z",
        finished_utc=ENDED[stage], report=report.balance(),
    )  # fmt: skip
    write_durably(run.stage(stage) / RECORD, record.model_dump_json())
