"""The order of a run, and how a stage is run, skipped or refused. This table is the only place that knows the order."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import yaml

import sgv_data
from sgv_data.errors import ManifestError, RunFolderError
from sgv_data.manifest import Manifest
from sgv_data.progress import Progress
from sgv_data.records import StageRecord, StageReport
from sgv_data.run_folder import (
    RECORD,
    STARTED,
    RunFolder,
    check_files,
    digest,
    stamp_files,
    sync_folder,
    utc_now,
    write_durably,
)
from sgv_data.stage import StageContext, StageModule


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the table. `needs` names the manifest section without which the stage is left out."""

    name: str
    module: str
    reads: tuple[str, ...]
    writes: str
    needs: str | None = None


STAGES = (
    Stage("index", "index", (), "images-*.parquet"),
    Stage("collect", "collect", ("index",), "captions-*.parquet, replies.sqlite"),
    Stage("filter-teacher", "filter", ("index", "collect"), "verdicts-*.parquet"),
    Stage("train", "train", ("index", "collect", "filter-teacher"), "model/, metrics.jsonl", "captioner"),
    Stage("expand", "expand", ("index", "train"), "captions-*.parquet, units/", "captioner"),
    Stage("filter-student", "filter", ("index", "expand"), "verdicts-*.parquet", "captioner"),
    Stage(
        "shard",
        "shard",
        ("index", "collect", "filter-teacher", "expand", "filter-student"),
        "data/*.tar, samples-*.parquet, shards-*.parquet, SHA256SUMS, sizes.json",
    ),
    Stage("publish", "publish", ("index", "collect", "filter-teacher", "expand", "filter-student", "shard"),
          "publication.json and the dataset at publish.to", "publish"),
    Stage("report", "report",
          ("index", "collect", "filter-teacher", "train", "expand", "filter-student", "shard", "publish"),
          "index.html, states-*.parquet"),
)

_LIBRARIES = ("openai", "pyarrow", "pillow", "torch", "transformers", "webdataset", "datasets")


def active_stages(manifest: Manifest) -> tuple[Stage, ...]:
    """The stages this manifest asks for, in order."""
    return tuple(stage for stage in STAGES if stage.needs is None or getattr(manifest, stage.needs) is not None)


def find_stage(manifest: Manifest, name: str) -> Stage:
    """The active stage of that name.

    Raises:
        ManifestError: if the manifest leaves that stage out, naming the missing section.
    """
    for stage in active_stages(manifest):
        if stage.name == name:
            return stage
    needs = next(stage.needs for stage in STAGES if stage.name == name)
    raise ManifestError(f"{manifest.name}: this manifest has no section {needs!r}, so there is nothing to {name}")


@dataclass(frozen=True, slots=True)
class StageResult:
    """`report` of a stage; `skipped` if it was done before."""

    stage: Stage
    report: StageReport
    skipped: bool


def run_all(manifest: Manifest, run: RunFolder, progress: Progress, redo: str | None = None) -> Iterator[StageResult]:
    """Runs every active stage that is not done. `redo` names a stage that is made anew with all after it."""
    redoing = False
    for stage in active_stages(manifest):
        redoing = redoing or stage.name == redo
        yield run_stage(stage, manifest, run, progress, redoing)


def run_stage(stage: Stage, manifest: Manifest, run: RunFolder, progress: Progress, redo: bool = False) -> StageResult:
    """Runs one stage, or skips it when its record says that it is done. The caller holds the run folder's lock.

    Raises:
        RunFolderError: an input is not finished, or the folder holds work of other settings and `redo` is not set.
    """
    module = cast(StageModule, importlib.import_module(f"sgv_data.{stage.module}.run"))
    active = tuple(each.name for each in active_stages(manifest))
    plan = _plan(stage, module, manifest, run, active)
    folder = run.stage(stage.name)
    if redo:
        _clear(folder, module.KEEP)
    if (done := run.record(stage.name)) is not None and done.report is not None:
        _same_or_raise(run, stage, done, plan)
        check_files(folder, done)
        return StageResult(stage, done.report, skipped=True)
    if (begun := run.started(stage.name)) is not None:
        _same_or_raise(run, stage, begun, plan)
    folder.mkdir(parents=True, exist_ok=True)
    if begun is None:
        write_durably(run.root / "manifest.yaml", yaml.safe_dump(manifest.model_dump(mode="json"), sort_keys=False))
        write_durably(folder / STARTED, plan.model_dump_json(indent=1))
    report = module.run(manifest, StageContext(run, stage.name, active, progress)).balance()
    finished = plan.model_copy(
        update={
            "started_utc": begun.started_utc if begun else plan.started_utc,
            "finished_utc": utc_now(),
            "report": report,
            "files": stamp_files(folder, module.KEEP),
        }
    )
    write_durably(folder / RECORD, finished.model_dump_json(indent=1))
    (folder / STARTED).unlink()
    return StageResult(stage, report, skipped=False)


def render_report(manifest: Manifest, run: RunFolder, progress: Progress) -> Path:
    """Writes the report from whatever is finished; returns the page."""
    stage = find_stage(manifest, "report")
    active = tuple(each.name for each in active_stages(manifest))
    folder = run.stage(stage.name)
    if all(run.record(name) for name in stage.reads if name in active):
        run_stage(stage, manifest, run, progress, redo=True)
    else:
        module = cast(StageModule, importlib.import_module(f"sgv_data.{stage.module}.run"))
        folder.mkdir(parents=True, exist_ok=True)
        module.run(manifest, StageContext(run, stage.name, active, progress))
    return folder / "index.html"


def _plan(
    stage: Stage, module: StageModule, manifest: Manifest, run: RunFolder, active: tuple[str, ...]
) -> StageRecord:
    inputs = {}
    for name in stage.reads:
        if name not in active:
            continue
        record = run.record(name)
        if record is None:
            raise RunFolderError(f"{stage.name} needs {name}, which is not finished in {run.root}; run it first")
        inputs[name] = record.fingerprint
    identity: dict[str, Any] = {"version": module.VERSION, **module.identity(manifest, stage.name)}
    return StageRecord(
        stage=stage.name,
        fingerprint=digest({"stage": stage.name, "identity": identity, "inputs": inputs}),
        identity=identity,
        inputs=inputs,
        code_version=sgv_data.__version__,
        libraries=_library_versions(),
        started_utc=utc_now(),
    )


def _same_or_raise(run: RunFolder, stage: Stage, there: StageRecord, wanted: StageRecord) -> None:
    if there.fingerprint == wanted.fingerprint:
        return
    changes = list(_changes("", there.identity, wanted.identity)) or [
        f"its input {name} was made anew" for name in wanted.inputs if there.inputs.get(name) != wanted.inputs[name]
    ]
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    raise RunFolderError(
        f"{run.stage(stage.name)} was made with other settings: {'; '.join(changes[:3])}{more}. "
        f"Use --redo {stage.name} to make it and what follows anew, or --set name=NAME for another run folder"
    )


def _changes(place: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _changes(f"{place}.{key}" if place else key, old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for position, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _changes(f"{place}.{position}", before, after)
    elif old != new:
        yield f"{place} was {_short(old)}, is now {_short(new)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _clear(folder: Path, keep: tuple[str, ...]) -> None:
    """Empties a stage folder, the record first so that no half-cleared folder looks done."""
    (folder / RECORD).unlink(missing_ok=True)
    for path in folder.iterdir() if folder.is_dir() else ():
        if any(path.match(pattern) for pattern in keep):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if folder.is_dir():
        sync_folder(folder)


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
