"""Stage `shard`: plan the tars and write them meanwhile, add index and checksums.

Work in progress lies in `.work/` (see `plan.py` and `write.py`). When everything is there, `.report.json` is written
and `.work/` goes: an attempt that is killed between that and the stage's record finds the report and does nothing more.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sgv_data.dataset_format import DATA
from sgv_data.errors import InputError, ManifestError
from sgv_data.manifest import Manifest
from sgv_data.processes import usable_cores
from sgv_data.provenance import SCHEMA_VERSION, Lineage
from sgv_data.records import CaptionSet, StageReport, counted
from sgv_data.run_folder import digest, write_durably
from sgv_data.shard.choose import CaptionTables, choices
from sgv_data.shard.finish import write_sidecars
from sgv_data.shard.plan import Plan, PlannedShard, make_plan, read_plan
from sgv_data.shard.takedown import REMOVED, after_takedown, note_removal, removed_keys, take_down
from sgv_data.shard.write import ShardDone, ShardTask
from sgv_data.shard.write_all import ShardWriters
from sgv_data.stage import StageContext

VERSION = 2
KEEP: tuple[str, ...] = (REMOVED,)

_REPORT = ".report.json"
_STAGES = {CaptionSet.TEACHER: ("collect", "filter-teacher"), CaptionSet.STUDENT: ("expand", "filter-student")}


def identity(manifest: Manifest, stage: str) -> dict[str, Any]:
    """What changes the shards besides the tables: the section `shard`, the seed of the splits, the form of a record."""
    settings = manifest.shard.model_dump(mode="json", exclude={"workers"})
    return {"shard": settings, "seed": manifest.seed, "provenance": SCHEMA_VERSION}


def run(manifest: Manifest, context: StageContext) -> StageReport:
    """Writes the shards of the run. `context.again` names samples to remove from finished ones.

    Raises:
        ManifestError: if the section `shard` asks for what cannot be.
        InputError: if not one of the pictures can be read, or a sample to remove is not there.
    """
    finished = context.folder / _REPORT
    work = context.folder / ".work"
    if not finished.is_file():
        report = _build(manifest, context, work)
        write_durably(finished, report.model_dump_json())
    shutil.rmtree(work, ignore_errors=True)
    if context.again:
        note_removal(context.folder, context.again)
    if removed_keys(context.folder):
        take_down(context.folder, context.progress)
        report = StageReport.model_validate_json(finished.read_text(encoding="utf-8"))
        write_durably(finished, after_takedown(report, context.folder).model_dump_json())
    return StageReport.model_validate_json(finished.read_text(encoding="utf-8"))


def _build(manifest: Manifest, context: StageContext, work: Path) -> StageReport:
    plan, shards = _write(manifest, context, work)
    if plan.shards and not any(shard.num_samples for shard in shards):
        shutil.rmtree(work)
        raise InputError("shard: not one picture can be read any more; are the folders of the manifest still there?")
    write_sidecars(context.folder, work / "notes", shards, removed_keys(context.folder))
    return _report(context.stage, plan, shards)


def _write(manifest: Manifest, context: StageContext, work: Path) -> tuple[Plan, list[ShardDone]]:
    """Plans and writes at the same time; a plan that an earlier attempt finished is used again."""
    shards: list[ShardDone] = []
    with ShardWriters(manifest.shard.workers or usable_cores()) as writers:

        def write(shard: PlannedShard) -> None:
            data, notes = context.folder / DATA, work / "notes" / shard.name
            writers.write(ShardTask(manifest, shard, work / "plan", data, notes))

        if (plan := read_plan(work / "plan")) is None:
            plan = _plan(manifest, context, work / "plan", write)
        else:
            for shard in plan.shards:
                write(shard)
        context.progress.begin("writing shards", sum(each.num_samples for each in plan.shards))
        for planned, done in zip(plan.shards, writers.results(plan.shards), strict=True):
            context.progress.advance(planned.num_samples, done.shard)
            shards.append(done)
    return plan, shards


def _plan(manifest: Manifest, context: StageContext, folder: Path, on_planned: Callable[[PlannedShard], None]) -> Plan:
    if manifest.shard.max_side_px is not None and manifest.shard.reencode is None:
        raise ManifestError(
            f"shard.max_side_px (got {manifest.shard.max_side_px}) needs shard.reencode: jpeg, png or webp"
        )
    context.progress.begin("choosing captions, writing shards", None)
    chosen = choices(context.input("index"), _caption_tables(manifest, context))
    lineage, removed = _lineage(manifest, context), removed_keys(context.folder)
    return make_plan(folder, chosen, manifest.shard, manifest.seed, lineage, context.progress, removed, on_planned)


def _caption_tables(manifest: Manifest, context: StageContext) -> list[CaptionTables]:
    tables = []
    for caption_set in map(CaptionSet, dict.fromkeys(manifest.shard.captions)):
        captions, verdicts = _STAGES[caption_set]
        if captions in context.active:
            tables.append(CaptionTables(caption_set, context.input(captions), context.input(verdicts)))
    if not tables:
        raise ManifestError("shard.captions: [student] needs the section captioner, which this manifest leaves out")
    return tables


def _lineage(manifest: Manifest, context: StageContext) -> Lineage:
    """What the captioner was made from; a model folder of the user's is told by its name, not by its path."""
    record = context.run.record("train") if "train" in context.active else None
    if record is None or manifest.captioner is None:
        return Lineage()
    base = manifest.captioner.base_model
    model = {name: stamp.sha256 for name, stamp in record.files.items() if name.startswith("model/")}
    return Lineage(
        base_model=Path(base).name if Path(base).is_absolute() else base,
        base_revision=manifest.captioner.revision or "",
        model_sha256=digest(model),
    )


def _report(stage: str, plan: Plan, shards: list[ShardDone]) -> StageReport:
    failed = Counter(plan.failed)
    for shard in shards:
        failed.update(shard.failed)
    written = [shard for shard in shards if shard.num_samples]
    samples = Counter({"train": 0})
    for shard in written:
        samples[shard.split] += shard.num_samples
    return StageReport(
        stage=stage,
        num_in=plan.num_images,
        num_out=samples.total(),
        rejected=plan.rejected,
        failed=counted(failed),
        skipped=plan.skipped,
        notes={
            "shards": len(written),
            "bytes": sum(shard.num_bytes for shard in written),
            **{f"samples_{split}": count for split, count in sorted(samples.items())},
        },
    )
