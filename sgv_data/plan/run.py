"""`sgv plan`: puts the plan of a run together. Needs no index and no key, and spends nothing."""

from __future__ import annotations

import os

from sgv_data.api.calibration import run_calibration
from sgv_data.api.prices import price_of
from sgv_data.api.tokens import grid_of
from sgv_data.manifest import Manifest, ScenesSource
from sgv_data.plan.estimate import source_plan, summed, words_of
from sgv_data.plan.figures import Plan
from sgv_data.plan.headers import look, sampled
from sgv_data.plan.limits import batches, disk, duration
from sgv_data.plan.pictures import SourcePictures, from_headers, from_index, from_sample, index_fits
from sgv_data.plan.what_if import warnings, what_ifs
from sgv_data.processes import usable_cores
from sgv_data.progress import Progress
from sgv_data.run_folder import RunFolder

_INDEX = "index"


def make_plan(
    manifest: Manifest,
    run: RunFolder,
    progress: Progress,
    sample: int | None = None,
    num_workers: int | None = None,
) -> Plan:
    """The plan of a run. A finished index made with the same settings is used; else headers are read, of `sample`
    pictures per source if that is given.

    Raises:
        ManifestError: if a prompt does not exist.
        InputError: if a source is not there or holds no pictures.
        RunFolderError: if the index's record cannot be read.
    """
    teacher = manifest.teacher
    bills = run_calibration(manifest, run)
    words = [words_of(manifest, teacher, spec, bills) for spec in manifest.images]
    read_from, pictures = _pictures(manifest, run, progress, sample, num_workers or usable_cores())
    sources = [source_plan(teacher, *each, bills) for each in zip(pictures, words, strict=True)]
    total = summed(teacher, sources)
    price = price_of(teacher) or price_of(teacher, "live")
    return Plan(
        name=manifest.name,
        model=teacher.model,
        model_known=grid_of(teacher.model, teacher.image.detail) is not None,
        detail=teacher.image.detail,
        max_side_px=teacher.image.max_side_px,
        lane=teacher.lane,
        read_from=read_from,
        budget_usd=teacher.budget_usd,
        prices_dated=price.dated if price else None,
        sources=tuple(sources),
        total=total,
        live=duration(teacher, total, bills, teacher.base_url or os.environ.get("OPENAI_BASE_URL")),
        batches=batches(teacher.batch, total),
        disk=disk(total),
        what_ifs=what_ifs(manifest, pictures, bills),
        calibration=bills,
        warnings=warnings(manifest, pictures, total),
    )


def _pictures(
    manifest: Manifest, run: RunFolder, progress: Progress, sample: int | None, num_workers: int
) -> tuple[str, list[SourcePictures]]:
    record = run.record(_INDEX)
    if record is not None and index_fits(manifest, record):
        return "index", from_index(manifest, run.stage(_INDEX))
    if record is not None:
        progress.say("plan: the finished index was made with other settings; headers are read instead")
    progress.begin("reading headers", None)
    expands = manifest.captioner is not None
    found = []
    for spec in manifest.images:
        if sample is None or isinstance(spec, ScenesSource):
            looked = look(spec, manifest.seed, num_workers, progress.advance)
            found.append(from_headers(spec, looked, manifest.pictures, expands))
        else:
            looked, num_found = sampled(spec, manifest.seed, sample, progress.advance)
            found.append(from_sample(spec, looked, manifest.pictures, expands, num_found))
    return ("headers" if sample is None else "sample"), found
