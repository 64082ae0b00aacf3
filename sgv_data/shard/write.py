"""One planned tar made real: pictures read, members written, and a note left that says it is finished.

The note of a tar (its sample rows, its failures, and `done.json`, written last) lies in the stage's hidden work folder
until the stage is over. After a kill a tar with a note whose hash still agrees is kept; any other is written again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from sgv_data.dataset_format import JSON_FIELD, SAMPLES, TEXT_FIELD, SampleFailure, image_field
from sgv_data.images.decode import BadPicture, decode
from sgv_data.images.encode import EncodedFormat, encode
from sgv_data.manifest import Manifest
from sgv_data.provenance import Scalar, with_picture
from sgv_data.records import FailureClass, SampleRow, ShardRow, counted
from sgv_data.run_folder import file_sha256, write_durably
from sgv_data.shard.plan import PlannedSample, PlannedShard
from sgv_data.shard.tar import TarFile
from sgv_data.sources.reader import PictureReader
from sgv_data.tables import read_table, write_table

FAILURES = "failures"
_DONE = "done.json"


@dataclass(frozen=True, slots=True)
class ShardTask:
    """What a thread needs to write one tar. `notes` is the folder of this tar's note."""

    manifest: Manifest
    shard: PlannedShard
    plan: Path
    data: Path
    notes: Path


class ShardDone(BaseModel):
    """What became of one tar; `sha256` is empty if none of its pictures could be read, since then there is no tar."""

    model_config = ConfigDict(extra="forbid")

    shard: str
    split: str
    num_samples: int
    num_bytes: int
    sha256: str
    failed: dict[str, int] = Field(default_factory=dict)

    def row(self) -> ShardRow:
        """Its row in the table of shards."""
        return ShardRow(self.shard, self.split, self.num_samples, self.num_bytes, self.sha256)


@dataclass(frozen=True, slots=True)
class _Content:
    """A picture as it goes into the tar, and the provenance that belongs to it."""

    picture: bytes
    image_format: str
    sha256: str
    provenance: str


class _Unusable(Exception):
    """A picture that cannot go into a shard."""

    def __init__(self, failure: FailureClass, detail: str) -> None:
        super().__init__(failure, detail)
        self.failure, self.detail = failure, detail


def write_shard(task: ShardTask, on_sample: Callable[[], None] = lambda: None) -> ShardDone:
    """Writes the tar, or finds it finished. `on_sample` is called after each sample and may stop it by raising.

    Raises:
        InputError: if a source is not in the manifest any more.
    """
    if (done := _finished(task)) is not None:
        return done
    rows, failures, size, sha256 = _write_tar(task, on_sample)
    write_table(task.notes, SAMPLES, SampleRow, rows)
    write_table(task.notes, FAILURES, SampleFailure, failures)
    done = ShardDone(
        shard=task.shard.name, split=task.shard.split, num_samples=len(rows), num_bytes=size, sha256=sha256,
        failed=counted(Counter(each.failure for each in failures)),
    )
    write_durably(task.notes / _DONE, done.model_dump_json())
    return done


def _finished(task: ShardTask) -> ShardDone | None:
    note, tar = task.notes / _DONE, task.data / task.shard.name
    if not note.is_file():
        return None
    done = ShardDone.model_validate_json(note.read_text(encoding="utf-8"))
    if done.num_samples == 0 or (tar.is_file() and file_sha256(tar) == done.sha256):
        return done
    note.unlink()
    return None


def _write_tar(
    task: ShardTask, on_sample: Callable[[], None]
) -> tuple[list[SampleRow], list[SampleFailure], int, str]:
    reader = PictureReader(task.manifest)
    rows: list[SampleRow] = []
    failures: list[SampleFailure] = []
    task.data.mkdir(parents=True, exist_ok=True)
    with TarFile(task.data / task.shard.name) as tar:
        for sample in read_table(task.plan, task.shard.name, PlannedSample):
            try:
                content = _content(sample, reader, task.manifest)
            except _Unusable as exc:
                failures.append(SampleFailure(sample.image_id, sample.key, exc.failure, exc.detail))
            else:
                rows.append(_add(tar, task.shard, sample, content))
            on_sample()
        size, sha256 = tar.close() if rows else (0, "")
    return rows, failures, size, sha256


def _add(tar: TarFile, shard: PlannedShard, sample: PlannedSample, content: _Content) -> SampleRow:
    field = image_field(content.image_format)
    text, record = sample.text.encode("utf-8"), content.provenance.encode("utf-8")
    members = {field: content.picture, JSON_FIELD: record, TEXT_FIELD: text}
    offsets = {name: tar.add(f"{sample.key}.{name}", members[name]) for name in sorted(members)}
    return SampleRow(
        image_id=sample.image_id,
        key=sample.key,
        split=shard.split,
        shard=shard.name,
        image_name=f"{sample.key}.{field}",
        image_offset_bytes=offsets[field],
        image_num_bytes=len(content.picture),
        image_sha256=content.sha256,
        text_offset_bytes=offsets[TEXT_FIELD],
        text_num_bytes=len(text),
        text_sha256=hashlib.sha256(text).hexdigest(),
        json_offset_bytes=offsets[JSON_FIELD],
        json_num_bytes=len(record),
        json_sha256=hashlib.sha256(record).hexdigest(),
        producer=sample.producer,
        source_text_offered=sample.source_text_offered,
    )


def _content(sample: PlannedSample, reader: PictureReader, manifest: Manifest) -> _Content:
    try:
        data = reader.read(sample.source, sample.location)
    except OSError as exc:
        raise _Unusable(FailureClass.IMAGE_CHANGED, f"cannot be read any more ({exc.strerror or exc})") from exc
    if hashlib.sha256(data).hexdigest() != sample.image_sha256:
        raise _Unusable(FailureClass.IMAGE_CHANGED, "has other bytes than when it was indexed")
    if manifest.shard.reencode is None:
        return _Content(data, sample.image_format, sample.image_sha256, sample.provenance)
    return _reencoded(sample, data, manifest, manifest.shard.reencode)


def _reencoded(sample: PlannedSample, data: bytes, manifest: Manifest, to: EncodedFormat) -> _Content:
    try:
        _, image = decode(data, manifest.pictures, manifest.shard.max_side_px)
    except BadPicture as exc:
        raise _Unusable(FailureClass.BAD_IMAGE, str(exc)) from exc
    encoded = encode(image, to)
    sha256 = hashlib.sha256(encoded).hexdigest()
    facts: dict[str, Scalar] = {
        "format": to, "width_px": image.width, "height_px": image.height, "num_bytes": len(encoded), "sha256": sha256,
        "reencoded": True,
    }  # fmt: skip
    return _Content(encoded, to, sha256, with_picture(sample.provenance, facts))
