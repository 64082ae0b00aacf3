"""The stage `expand`: the captioner describes every picture it is to.

    units/               finished work units; they outlive --redo, for what they hold is named by all that made it
    captions-*.parquet   their rows, in hash order
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sgv_data.captioner.generate import greedy_settings
from sgv_data.captioner.load import (
    TINY,
    ModelPlace,
    choose_device,
    choose_dtype,
    find_model,
    load_captioner,
    require_captioner_part,
    use_all_cores,
)
from sgv_data.captioner.picture import picture_opener
from sgv_data.captioner.render import Renderer
from sgv_data.errors import ManifestError, RunFolderError
from sgv_data.expand.decoding import DecodingPool
from sgv_data.expand.describe import Describer
from sgv_data.expand.rows import Writer
from sgv_data.expand.transformers_engine import TransformersEngine
from sgv_data.expand.units import Unit, UnitStore, cut_units
from sgv_data.manifest import CaptionerModel, Manifest
from sgv_data.prompts import Prompt, load_prompt
from sgv_data.records import CaptionRow, ImageRow, StageReport, counted
from sgv_data.run_folder import canonical_json, digest
from sgv_data.stage import StageContext
from sgv_data.tables import TableWriter, read_table

VERSION = 2
KEEP = ("units", "units/*")

_BATCHES_DECODED_AHEAD = 4


def identity(manifest: Manifest, stage: str) -> dict[str, Any]:
    """How captions are decoded and with which prompt; the captioner itself is the input `train`."""
    settings = _settings(manifest)
    prompt = load_prompt(settings.prompt, manifest.prompt_folders)
    return {
        "expand": {"engine": manifest.expand.engine, "max_new_tokens": manifest.expand.max_new_tokens},
        "precision": settings.precision,
        "prompt": {"id": prompt.prompt_id, "version": prompt.version, "sha256": prompt.sha256},
    }


@dataclass(frozen=True, slots=True)
class _Task:
    """What there is to do: counted before anything is loaded."""

    num_usable: int
    num_asked: int
    num_done: int
    num_units: int


def run(manifest: Manifest, context: StageContext) -> StageReport:
    """Describes the units that are not there yet, then puts the table together."""
    require_captioner_part()
    settings = _settings(manifest)
    prompt = load_prompt(settings.prompt, manifest.prompt_folders)
    writer = _writer(manifest, settings, prompt, context)
    store = UnitStore(context.folder / "units")
    task = _look(manifest, context, writer, store)
    notes: dict[str, float | int | str | None] = {"units": task.num_units}
    if task.num_done < task.num_asked:
        notes |= _describe(manifest, settings, prompt, context, writer, store, task)
    outcome = _assemble(manifest, context, writer, store)
    return StageReport(
        stage=context.stage,
        num_in=task.num_usable,
        num_out=outcome.num_captions,
        failed=counted(outcome.failures),
        skipped=task.num_usable - task.num_asked,
        from_cache=task.num_done,
        notes={**notes, "truncated": outcome.num_truncated},
    )


def _settings(manifest: Manifest) -> CaptionerModel:
    if manifest.captioner is None:
        raise ManifestError(f"{manifest.name}: this manifest has no section 'captioner', so nothing can be expanded")
    return manifest.captioner


def _writer(manifest: Manifest, settings: CaptionerModel, prompt: Prompt, context: StageContext) -> Writer:
    """What all captions of this run share. The captioner is known by the hashes in the record of `train`."""
    record = context.run.record("train")
    files = {name: stamp.sha256 for name, stamp in record.files.items() if name.startswith("model/")} if record else {}
    if not files:
        raise RunFolderError(f"{context.input('train')} holds no finished captioner; run train first")
    revision = digest(files)
    device = choose_device()
    sampling = canonical_json(
        {
            "engine": manifest.expand.engine,
            **greedy_settings(manifest.expand.max_new_tokens),
            "dtype": str(choose_dtype(settings.precision, device)).removeprefix("torch."),
        }
    )
    made_by = digest(
        {"version": VERSION, "captioner": revision, "prompt": prompt.sha256, "sampling": sampling,
         "pictures": manifest.pictures.model_dump(mode="json")}
    )  # fmt: skip
    return Writer(f"{_base_label(settings)}, fine-tuned", f"sha256:{revision}", prompt, sampling, made_by)


def _base_label(settings: CaptionerModel) -> str:
    return TINY if settings.base_model == TINY else find_model(settings.base_model, settings.revision).label


def _units(manifest: Manifest, context: StageContext, writer: Writer) -> Iterator[Unit]:
    rows = read_table(context.input("index"), "images", ImageRow)
    asked = (row for row in rows if row.reject is None and row.for_expand)
    return cut_units(asked, manifest.expand.unit_size, writer.made_by)


def _look(manifest: Manifest, context: StageContext, writer: Writer, store: UnitStore) -> _Task:
    num_usable = sum(1 for row in read_table(context.input("index"), "images", ImageRow) if row.reject is None)
    num_asked = num_done = num_units = 0
    for unit in _units(manifest, context, writer):
        num_units += 1
        num_asked += len(unit.rows)
        num_done += len(unit.rows) if store.has(unit) else 0
    return _Task(num_usable, num_asked, num_done, num_units)


def _describe(
    manifest: Manifest,
    settings: CaptionerModel,
    prompt: Prompt,
    context: StageContext,
    writer: Writer,
    store: UnitStore,
    task: _Task,
) -> dict[str, float | int | str | None]:
    use_all_cores()
    device = choose_device()
    place = ModelPlace(str(context.input("train") / "model"), None, "the captioner", is_folder=True)
    captioner = load_captioner(place, device, choose_dtype(settings.precision, device))
    renderer = Renderer(captioner, prompt)
    wanted = manifest.expand
    engine = TransformersEngine(captioner, renderer, wanted.max_new_tokens, wanted.batch_size)
    opener = picture_opener(manifest, captioner.processor.image_processor)
    context.progress.begin("expand", task.num_asked)
    context.progress.advance(task.num_done)
    started = time.monotonic()
    missing = (unit for unit in _units(manifest, context, writer) if not store.has(unit))
    with DecodingPool(opener, wanted.workers, _BATCHES_DECODED_AHEAD * wanted.batch_size) as pool:
        describer = Describer(engine, pool, store, writer, context.progress)
        describer.describe(missing)
    seconds = time.monotonic() - started
    return {
        "device": str(device),
        "captions_per_s": round(describer.num_described / seconds, 2),
        "tokens_per_s": round(describer.num_tokens / seconds, 1),
        "waiting_for_pictures_s": round(engine.load.waiting_s, 2),
        "model_s": round(engine.load.model_s, 2),
        "bottleneck": engine.load.bottleneck,
        "peak_batch": engine.load.peak_batch,
    }


@dataclass(frozen=True, slots=True)
class _Assembled:
    """The table in numbers."""

    num_captions: int
    num_truncated: int
    failures: Counter[Any]


def _assemble(manifest: Manifest, context: StageContext, writer: Writer, store: UnitStore) -> _Assembled:
    """Writes the captions of all units, which are all there, as one table in hash order."""
    num_captions = num_truncated = 0
    failures: Counter[Any] = Counter()
    with TableWriter(context.folder, "captions", CaptionRow) as table:
        for unit in _units(manifest, context, writer):
            for caption in store.read(unit):
                table.add(caption)
                if caption.failure is None:
                    num_captions += 1
                    num_truncated += caption.finish_reason == "length"
                else:
                    failures[caption.failure] += 1
    return _Assembled(num_captions, num_truncated, failures)
