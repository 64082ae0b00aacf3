"""How many pictures of which size each source gives to the teacher: from a finished index, else from headers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sgv_data.api.text_tokens import text_tokens
from sgv_data.manifest import Manifest, Pictures, Source
from sgv_data.offer import clean, offer_block
from sgv_data.plan.headers import Ints, Looked
from sgv_data.quotas import choose, wanted
from sgv_data.records import ImageReject, StageRecord
from sgv_data.tables import table_files

UNREADABLE = "unreadable header"
_QUOTA_FIELDS = {"kind", "license", "teacher", "expand", "apart"}


@dataclass(frozen=True, slots=True)
class SourcePictures:
    """One source. `width_px`, `height_px`, `count`: the teacher's pictures by size; a count is no whole number where it
    was drawn up from a sample. `offered_tokens` are those of all words offered to the teacher. Bytes are those of all
    pictures that will have a caption."""

    name: str
    num_found: int
    left_out: dict[str, int]
    num_teacher: int
    num_captioned: int
    captioned_bytes: float
    offered_tokens: float
    width_px: Ints
    height_px: Ints
    count: NDArray[np.float64]
    notes: list[str] = field(default_factory=list)


def from_headers(spec: Source, looked: Looked, limits: Pictures, expands: bool) -> SourcePictures:
    """Applies limits and quotas as `index` will, but for duplicates, which only decoding shows.

    `expands`: there is a captioner, so the `expand` quota has an effect.
    """
    usable, left_out = _usable(looked, limits)
    for_teacher = np.zeros(len(looked), np.bool_)
    for_expand = for_teacher.copy()
    for_teacher[usable], for_expand[usable], notes = choose(
        spec, looked.teacher_draw[usable], looked.expand_draw[usable]
    )
    captioned = for_teacher | (for_expand & expands)
    width_px, height_px, count = _by_size(
        looked.width_px[for_teacher], looked.height_px[for_teacher], np.ones(int(for_teacher.sum()))
    )
    return SourcePictures(
        name=spec.name,
        num_found=len(looked),
        left_out=left_out,
        num_teacher=int(for_teacher.sum()),
        num_captioned=int(captioned.sum()),
        captioned_bytes=float(looked.num_bytes[captioned].sum()),
        offered_tokens=float(looked.text_tokens[for_teacher].sum()),
        width_px=width_px,
        height_px=height_px,
        count=count,
        notes=notes,
    )


def from_sample(spec: Source, looked: Looked, limits: Pictures, expands: bool, num_found: int) -> SourcePictures:
    """As `from_headers`, when `looked` is a sample by hash of `num_found` pictures: a usable one stands for several."""
    usable, left_out = _usable(looked, limits)
    num_sampled, scale = int(usable.sum()), num_found / max(1, len(looked))
    num_usable = round(num_sampled * scale)
    num_teacher = min(num_usable, wanted(spec.teacher, num_usable))
    pool = num_usable - num_teacher if spec.apart else num_usable
    num_expand = min(pool, wanted(spec.expand, pool)) if expands else 0
    overlap = 0.0 if spec.apart else num_expand * num_teacher / max(1, num_usable)
    num_captioned = num_teacher + num_expand - overlap
    share = num_teacher / max(1, num_sampled)
    width_px, height_px, count = _by_size(
        looked.width_px[usable], looked.height_px[usable], np.full(num_sampled, share)
    )
    return SourcePictures(
        name=spec.name,
        num_found=num_found,
        left_out={reason: round(number * scale) for reason, number in left_out.items()},
        num_teacher=num_teacher,
        num_captioned=round(num_captioned),
        captioned_bytes=float(looked.num_bytes[usable].sum()) / max(1, num_sampled) * num_captioned,
        offered_tokens=float(looked.text_tokens[usable].sum()) * share,
        width_px=width_px,
        height_px=height_px,
        count=count,
        notes=[f"{spec.name}: {len(looked):,} of {num_found:,} pictures were looked at; all numbers follow from them"],
    )


def _usable(looked: Looked, limits: Pictures) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which pictures `index` will not reject for what their header says, and how many of the others there are."""
    shorter, longer = np.minimum(looked.width_px, looked.height_px), np.maximum(looked.width_px, looked.height_px)
    usable = shorter > 0
    left_out = {UNREADABLE: int((~usable).sum())}
    for reason, bad in (
        (ImageReject.TOO_MANY_PIXELS, shorter * longer > limits.max_pixels),
        (ImageReject.TOO_SMALL, shorter < limits.min_side_px),
        (ImageReject.ABSURD_ASPECT, longer > limits.max_aspect * shorter),
    ):
        left_out[str(reason)] = int((usable & bad).sum())
        usable = usable & ~bad
    return usable, {reason: number for reason, number in left_out.items() if number}


def _by_size(width_px: Ints, height_px: Ints, weight: NDArray[np.float64]) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Equal sizes together, since a million pictures have a few thousand sizes."""
    both, place = np.unique(width_px << 32 | height_px, return_inverse=True)
    count = np.bincount(place, weights=weight, minlength=len(both)).astype(np.float64)
    return both >> 32, both & 0xFFFFFFFF, count


# --- from a finished index ---


def index_fits(manifest: Manifest, record: StageRecord) -> bool:
    """Whether an index was made with this manifest's seed, limits and quotas; its pictures are not looked at."""
    made = record.identity
    sources = {spec.name: spec.model_dump(mode="json", include=_QUOTA_FIELDS) for spec in manifest.images}
    before = made.get("images", {})
    return (
        made.get("seed") == manifest.seed
        and made.get("pictures") == manifest.pictures.model_dump(mode="json")
        and before.keys() == sources.keys()
        and all(wish.items() <= before[name].items() for name, wish in sources.items())
    )


def from_index(manifest: Manifest, folder: Path) -> list[SourcePictures]:
    """What a finished index holds, by column arithmetic."""
    columns = ["source", "reject", "for_teacher", "for_expand", "width_px", "height_px", "num_bytes"]
    offering = any(spec.offer_text for spec in manifest.images)
    table = pa.concat_tables(
        pq.read_table(path, columns=[*columns, *(["text"] if offering else [])])
        for path in table_files(folder, "images")
    )
    expands = manifest.captioner is not None
    return [_indexed(spec, table.filter(pc.equal(table["source"], spec.name)), expands) for spec in manifest.images]


def _indexed(spec: Source, rows: pa.Table, expands: bool) -> SourcePictures:
    rejects = pc.value_counts(rows["reject"].drop_null()).to_pylist()
    teacher = rows.filter(rows["for_teacher"])
    captioned = rows.filter(pc.or_(rows["for_teacher"], rows["for_expand"])) if expands else teacher
    width_px, height_px = (teacher[name].to_numpy().astype(np.int64) for name in ("width_px", "height_px"))
    width_px, height_px, count = _by_size(width_px, height_px, np.ones(len(width_px)))
    offered = 0
    if spec.offer_text:
        words = (clean(text) for text in teacher["text"].to_pylist())
        offered = sum(text_tokens(offer_block(each)) for each in words if each)
    return SourcePictures(
        name=spec.name,
        num_found=rows.num_rows,
        left_out={each["values"]: each["counts"] for each in sorted(rejects, key=lambda each: str(each["values"]))},
        num_teacher=teacher.num_rows,
        num_captioned=captioned.num_rows,
        captioned_bytes=float(pc.sum(captioned["num_bytes"]).as_py() or 0),
        offered_tokens=float(offered),
        width_px=width_px,
        height_px=height_px,
        count=count,
    )
