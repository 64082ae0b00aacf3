"""Stage `publish`: card and shards put together, loaded once as others will load them, and put in their place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from sgv_data.dataset_format import CARD, CHECKSUMS, METADATA, SHARDS, is_of_shards, visible_files, write_checksums
from sgv_data.errors import InputError, ManifestError, RunFolderError
from sgv_data.manifest import Manifest
from sgv_data.prompts import Prompt
from sgv_data.provenance import SCHEMA_VERSION
from sgv_data.publish.card import render_card
from sgv_data.publish.croissant import CROISSANT, render_croissant
from sgv_data.publish.facts import DatasetFacts, gather
from sgv_data.publish.open import open_target
from sgv_data.publish.preflight import Preflight, check_loads
from sgv_data.publish.target import MARKER, Target, TargetPlan, link_or_copy
from sgv_data.records import FileStamp, ShardRow, StageReport
from sgv_data.run_folder import file_sha256, write_durably
from sgv_data.stage import StageContext
from sgv_data.tables import read_table

VERSION = 2
KEEP: tuple[str, ...] = ()

_PUBLICATION = "publication.json"
_CHECKED = ".checked"
# Holds the hash of the checksums of the dataset that was loaded last, so that a resumed upload reads nothing again.


class Publication(BaseModel):
    """What was put where; SHA256SUMS alone is not among the files."""

    model_config = ConfigDict(extra="forbid")

    to: str
    name: str
    files: dict[str, FileStamp]


def identity(manifest: Manifest, stage: str) -> dict[str, Any]:
    """What the card says beyond the tables: the sections `publish`, `filter` and `captioner`, and the name."""
    return {
        "name": manifest.name,
        **manifest.model_dump(mode="json", include={"publish", "filter", "captioner"}),
    }


def run(manifest: Manifest, context: StageContext) -> StageReport:
    """Publishes the shards of the run.

    Raises:
        ManifestError: if `publish.to` names no possible target.
        InputError: if something else is there, or the Hub does not take such a dataset.
        ProviderError: if the Hub refuses, or stays out of reach.
        VerifyFailed: if the dataset does not load as it should; then nothing has changed at the target.
    """
    target = _target(manifest, context)
    facts = gather(manifest, context)
    if not facts.num_samples:
        context.progress.say("publish: no caption was kept, so there is nothing to publish; the report tells why")
        return StageReport(stage=context.stage, num_in=0, num_out=0)
    folder, files = _prepare(facts, target, context)
    target.put(folder, files)
    target.mark(context.folder)
    listed = {name: stamp for name, stamp in files.items() if name != CHECKSUMS}
    publication = Publication(to=manifest.publish.to if manifest.publish else "", name=facts.name, files=listed)
    write_durably(context.folder / _PUBLICATION, publication.model_dump_json(indent=1) + "\n")
    (context.folder / _CHECKED).unlink()
    return StageReport(
        stage=context.stage,
        num_in=facts.num_samples,
        num_out=facts.num_samples,
        notes={"files": len(listed), "bytes": sum(each.num_bytes for each in listed.values())},
    )


def rehearse(manifest: Manifest, context: StageContext) -> TargetPlan:
    """All that `run` does before it touches the target, and what it would do then. Raises as `run` does.

    InputError as well if there is nothing to publish, RunFolderError if the shards are not finished.
    """
    if context.run.record("shard") is None:
        raise RunFolderError(f"publish needs shard, which is not finished in {context.run.root}; run it first")
    context.folder.mkdir(parents=True, exist_ok=True)
    target = _target(manifest, context)
    facts = gather(manifest, context)
    if not facts.num_samples:
        raise InputError("publish: no caption was kept, so there is nothing to publish")
    folder, files = _prepare(facts, target, context)
    plan = target.plan(folder, files)
    shutil.rmtree(folder)
    return plan


def _prepare(facts: DatasetFacts, target: Target, context: StageContext) -> tuple[Path, dict[str, FileStamp]]:
    """The whole dataset in a folder that the target has chosen, loaded once unless that was done for the same bytes."""
    target.check()
    folder = target.prepare()
    sums = _assemble(folder, facts, target, context)
    sums[CHECKSUMS] = file_sha256(folder / CHECKSUMS)
    checked = context.folder / _CHECKED
    if not checked.is_file() or checked.read_text(encoding="utf-8") != sums[CHECKSUMS]:
        context.progress.begin("loading it as others will", None)
        splits = {split.name: split.num_samples for split in facts.splits}
        check_loads(Preflight(folder.resolve(), splits, tuple(facts.image_fields), context.folder / ".cache"))
        write_durably(checked, sums[CHECKSUMS])
    return folder, {name: FileStamp(num_bytes=(folder / name).stat().st_size, sha256=sums[name]) for name in sums}


def _target(manifest: Manifest, context: StageContext) -> Target:
    if manifest.publish is None:
        raise ManifestError("the manifest has no section publish")
    stages = [context.run.stage(name) for name in context.active]
    return open_target(manifest.publish, manifest.name, context.run.root, context.folder, stages, context.progress)


def _assemble(folder: Path, facts: DatasetFacts, target: Target, context: StageContext) -> dict[str, str]:
    """Builds the dataset in `folder`. Returns the sha256 of every file in it but SHA256SUMS itself."""
    shard = context.input("shard")
    record = context.run.record("shard")
    known = {name: stamp.sha256 for name, stamp in record.files.items()} if record is not None else {}
    copied = [name for name in visible_files(shard) if is_of_shards(name)]
    context.progress.begin("preparing the dataset", len(copied))
    for name in copied:
        link_or_copy(shard / name, folder / name)
        context.progress.advance()
    for prompt in facts.prompts:
        write_durably(folder / "prompts" / f"{prompt.prompt_id}.md", _prompt_file(prompt))
    write_durably(folder / MARKER, json.dumps(_description(facts), indent=1, ensure_ascii=False) + "\n")
    shards = list(read_table(folder / METADATA, SHARDS, ShardRow))
    croissant = render_croissant(facts, shards, target.location if target.on_hub else None)
    write_durably(folder / CROISSANT, croissant)
    write_durably(folder / CARD, render_card(facts, target.location, target.on_hub))
    return write_checksums(folder, visible_files(folder), {name: known[name] for name in copied if name in known})


def _prompt_file(prompt: Prompt) -> str:
    head = yaml.safe_dump({"id": prompt.prompt_id, "version": prompt.version, "for": prompt.made_for}, sort_keys=False)
    return f"---\n{head}---\n{prompt.text}\n"


def _description(facts: DatasetFacts) -> dict[str, Any]:
    """The dataset in a few words for programs; its name says which dataset a folder holds."""
    return {
        "name": facts.name,
        "title": facts.title,
        "schema_version": SCHEMA_VERSION,
        "splits": {split.name: split.num_samples for split in facts.splits},
    }
