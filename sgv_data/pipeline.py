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
    AGAIN,
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
    """One row of the table. `needs` names the manifest section without which the stage is left out.

    `always`: also in a run that is nothing but a training on conversations, which has no pictures of its own.
    """

    name: str
    module: str
    reads: tuple[str, ...]
    writes: str
    needs: str | None = None
    always: bool = False


STAGES = (
    Stage("index", "index", (), "images-*.parquet"),
    Stage("collect", "collect", ("index",), "captions-*.parquet, replies.sqlite"),
    Stage("filter-teacher", "filter", ("index", "collect"), "verdicts-*.parquet"),
    Stage("train", "train", ("index", "collect", "filter-teacher"), "model/, metrics.jsonl", "captioner", always=True),
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
          "index.html, states-*.parquet", always=True),
)

_LIBRARIES = ("openai", "pyarrow", "pillow", "torch", "transformers", "webdataset", "datasets")


def active_stages(manifest: Manifest) -> tuple[Stage, ...]:
    """The stages this manifest asks for, in order."""
    return tuple(
        stage
        for stage in STAGES
        if (stage.needs is None or getattr(manifest, stage.needs) is not None)
        and (stage.always or not manifest.only_trains)
    )


def find_stage(manifest: Manifest, name: str) -> Stage:
    """The active stage of that name.

    Raises:
        ManifestError: if the manifest leaves that stage out, naming the missing section.
    """
    for stage in active_stages(manifest):
        if stage.name == name:
            return stage
    if manifest.only_trains:
        raise ManifestError(f"{manifest.name}: this manifest only trains a captioner, so there is nothing to {name}")
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


def run_stage(
    stage: Stage,
    manifest: Manifest,
    run: RunFolder,
    progress: Progress,
    redo: bool = False,
    again: tuple[str, ...] = (),
) -> StageResult:
    """Runs one stage, or skips it when its record says that it is done. The caller holds the run folder's lock.

    `again` is for the stage (`StageContext.again`): a finished one is opened once more and keeps what it has.

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
        if not again and not (folder / AGAIN).is_file():
            check_files(folder, done)
            return StageResult(stage, done.report, skipped=True)
        _reopen(folder, done)
    if (begun := run.started(stage.name)) is not None:
        _same_or_raise(run, stage, begun, plan)
    folder.mkdir(parents=True, exist_ok=True)
    if begun is None or again:
        write_durably(run.root / "manifest.yaml", yaml.safe_dump(manifest.model_dump(mode="json"), sort_keys=False))
    if begun is None:
        write_durably(folder / STARTED, plan.model_dump_json(indent=1))
    report = module.run(manifest, StageContext(run, stage.name, active, progress, again)).balance()
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
    (folder / AGAIN).unlink(missing_ok=True)
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
    inputs, input_files = {}, {}
    for name in stage.reads:
        if name not in active:
            continue
        record = run.record(name)
        if record is None:
            raise RunFolderError(f"{stage.name} needs {name}, which is not finished in {run.root}; run it first")
        inputs[name] = record.fingerprint
        input_files[name] = digest({file: stamp.sha256 for file, stamp in record.files.items()})
    identity: dict[str, Any] = {"version": module.VERSION, **module.identity(manifest, stage.name)}
    return StageRecord(
        stage=stage.name,
        fingerprint=digest({"stage": stage.name, "identity": identity, "inputs": inputs}),
        identity=identity,
        inputs=inputs,
        input_files=input_files,
        code_version=sgv_data.__version__,
        libraries=_library_versions(),
        started_utc=utc_now(),
    )


def _same_or_raise(run: RunFolder, stage: Stage, there: StageRecord, wanted: StageRecord) -> None:
    made_anew = [
        name for name in wanted.inputs
        if there.inputs.get(name) != wanted.inputs[name]
        or there.input_files.get(name, wanted.input_files[name]) != wanted.input_files[name]
    ]  # fmt: skip
    if there.fingerprint == wanted.fingerprint and not made_anew:
        return
    changes = list(_changes("", there.identity, wanted.identity)) or [
        f"its input {name} was made anew" for name in made_anew
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


def _reopen(folder: Path, done: StageRecord) -> None:
    """Makes a finished stage one that was begun with the same settings."""
    begun = done.model_copy(update={"finished_utc": None, "report": None, "files": {}})
    write_durably(folder / STARTED, begun.model_dump_json(indent=1))
    (folder / RECORD).unlink()
    sync_folder(folder)


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
