"""Stage `index`: reads all sources, writes `images-*.parquet`, one row per input in hash order.

An interrupted attempt leaves nothing that counts: the next one starts over.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgv_data.index.duplicates import kept_equals
from sgv_data.index.look import Found, SourceEntry, look_at
from sgv_data.index.spill import Spill
from sgv_data.index.usable import Usable, gather
from sgv_data.index.workers import in_chunks
from sgv_data.manifest import Manifest
from sgv_data.processes import usable_cores
from sgv_data.progress import Progress
from sgv_data.quotas import choose
from sgv_data.records import ImageReject, ImageRow, StageReport, counted
from sgv_data.sources.open import open_source
from sgv_data.sources.reader import PictureReader
from sgv_data.sources.source import PictureSource
from sgv_data.stage import StageContext
from sgv_data.tables import TableWriter

VERSION = 1
KEEP: tuple[str, ...] = ()

_SPILL = ".spill"


def identity(manifest: Manifest, stage: str) -> dict[str, Any]:
    """The pictures, what makes one usable, and the quotas; the order of the sources does not count.

    Raises:
        InputError: if a source is not there or holds no pictures.
    """
    return {
        "seed": manifest.seed,
        "pictures": manifest.pictures.model_dump(mode="json"),
        "images": {
            spec.name: {
                **spec.model_dump(mode="json", include={"kind", "license", "teacher", "expand", "apart"}),
                **open_source(spec, manifest.seed).identity(),
            }
            for spec in manifest.images
        },
    }


def run(manifest: Manifest, context: StageContext, num_workers: int | None = None) -> StageReport:
    """Indexes the manifest's sources; `num_workers` processes look at pictures, by default one per core."""
    spill = Spill(context.folder / _SPILL)
    try:
        began_s = time.monotonic()
        sources = {spec.name: open_source(spec, manifest.seed) for spec in manifest.images}
        num_inputs = _look_at_all(manifest, sources, spill, num_workers or usable_cores(), context.progress)
        seconds = time.monotonic() - began_s
        context.progress.begin("comparing pictures", None)
        usable = gather(spill, manifest, context.folder / _SPILL)
        decided = _decide(usable, manifest)
        tally = _write(spill, decided, context)
    finally:
        spill.close()
    notes = _notes(sources, decided, tally, context.progress)
    notes["pictures_per_s"] = round(num_inputs / max(seconds, 1e-3), 1)
    return StageReport(
        stage=context.stage, num_in=num_inputs, num_out=tally.num_out, rejected=counted(tally.rejected), notes=notes
    )


def _look_at_all(
    manifest: Manifest, sources: dict[str, PictureSource], spill: Spill, num_workers: int, progress: Progress
) -> int:
    progress.begin("looking at pictures", None)
    look = partial(look_at, reader=PictureReader(manifest), limits=manifest.pictures)
    num_inputs = 0
    for some in in_chunks(look, _entries(manifest, sources), num_workers):
        for found in some:
            spill.add(found)
        num_inputs += len(some)
        progress.advance(len(some))
    return num_inputs


def _entries(manifest: Manifest, sources: dict[str, PictureSource]) -> Iterator[SourceEntry]:
    for spec in manifest.images:
        for entry in sources[spec.name].entries():
            yield SourceEntry(spec.name, spec.license, entry)


@dataclass(frozen=True, slots=True)
class _Decided:
    """Per usable picture in hash order: the kept picture it equals (itself if kept), how, and who describes it."""

    equal: NDArray[np.int64]
    same_bytes: NDArray[np.bool_]
    for_teacher: NDArray[np.bool_]
    for_expand: NDArray[np.bool_]
    notes: list[str]


@dataclass(slots=True)
class _Tally:
    num_out: int = 0
    rejected: Counter[ImageReject] = field(default_factory=Counter)
    by_source: Counter[str] = field(default_factory=Counter)


def _decide(usable: Usable, manifest: Manifest) -> _Decided:
    bits = manifest.pictures.duplicate_bits
    equal = kept_equals(usable.sha256, usable.phash, usable.thumbs, usable.comparable, bits)
    kept = equal == np.arange(len(equal))
    for_teacher, for_expand = np.zeros_like(kept), np.zeros_like(kept)
    notes: list[str] = []
    for number, source in enumerate(manifest.images):
        mine = np.flatnonzero(kept & (usable.source == number))
        for_teacher[mine], for_expand[mine], some = choose(source, usable.teacher_draw[mine], usable.expand_draw[mine])
        notes += some
    same_bytes = usable.sha256 == usable.sha256[equal]
    return _Decided(equal, same_bytes, for_teacher, for_expand, notes)


def _write(spill: Spill, decided: _Decided, context: StageContext) -> _Tally:
    """Writes the table, with duplicates and choices filled in."""
    names = _names_of_equals(spill, decided.equal)
    tally = _Tally()
    with TableWriter(context.folder, "images", ImageRow) as table:
        for position, found in _numbered(spill):
            row = found.row if position is None else _finished(found.row, position, decided, names)
            tally.by_source[f"{row.source}.{'usable' if row.reject is None else row.reject}"] += 1
            tally.by_source[f"{row.source}.for_teacher"] += row.for_teacher
            tally.by_source[f"{row.source}.for_expand"] += row.for_expand
            if row.reject is None:
                tally.num_out += 1
            else:
                tally.rejected[row.reject] += 1
            table.add(row)
    return tally


def _numbered(spill: Spill) -> Iterator[tuple[int | None, Found]]:
    """All rows in hash order with their position among the usable ones, None for the others."""
    position = 0
    for batch in spill.batches():
        for found in batch:
            if found.row.reject is None:
                yield position, found
                position += 1
            else:
                yield None, found


def _names_of_equals(spill: Spill, equal: NDArray[np.int64]) -> dict[int, str]:
    """Position -> image id of the pictures that have copies."""
    needed = set(equal[equal != np.arange(len(equal))].tolist())
    if not needed:
        return {}
    return {
        position: found.row.image_id
        for position, found in _numbered(spill)
        if position is not None and position in needed
    }


def _finished(row: ImageRow, position: int, decided: _Decided, names: dict[int, str]) -> ImageRow:
    equal = int(decided.equal[position])
    if equal != position:
        detail = "same bytes" if decided.same_bytes[position] else "looks the same"
        return replace(row, reject=ImageReject.DUPLICATE_OF, duplicate_of=names[equal], detail=detail)
    return replace(
        row, for_teacher=bool(decided.for_teacher[position]), for_expand=bool(decided.for_expand[position])
    )


def _notes(
    sources: dict[str, PictureSource], decided: _Decided, tally: _Tally, progress: Progress
) -> dict[str, float | int | str | None]:
    notes: dict[str, float | int | str | None] = {name: tally.by_source[name] for name in sorted(tally.by_source)}
    for name, source in sources.items():
        if source.ignored:
            notes[f"{name}.ignored"] = ", ".join(f"{count} {kind}" for kind, count in sorted(source.ignored.items()))
    sentences = [f"{name}: {line}" for name, source in sources.items() for line in source.warnings] + decided.notes
    for line in sentences:
        progress.say(line)
    if sentences:
        notes["warnings"] = "; ".join(sentences[:20])
    return notes
