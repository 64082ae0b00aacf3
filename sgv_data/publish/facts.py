"""What the card tells, gathered from records and tables of the run in streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sgv_data.dataset_format import METADATA, SAMPLES, SHARDS
from sgv_data.errors import RunFolderError
from sgv_data.manifest import Manifest
from sgv_data.prompts import Prompt, load_prompt
from sgv_data.provenance import json_features
from sgv_data.records import (
    CaptionRow,
    CaptionSet,
    ImageRow,
    SampleRow,
    ShardRow,
    StageReport,
    image_order,
)
from sgv_data.stage import StageContext
from sgv_data.tables import merge_join, read_table

_CAPTIONS = {CaptionSet.TEACHER: "collect", CaptionSet.STUDENT: "expand"}


@dataclass(slots=True)
class SplitFacts:
    """One split. `num_bytes` is that of the members, `tar_bytes` that of the files."""

    name: str
    num_samples: int = 0
    num_bytes: int = 0
    num_shards: int = 0
    tar_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Writer:
    """One way in which captions were made."""

    producer: str
    model: str
    revision: str
    prompt_id: str
    prompt_version: int
    prompt_sha256: str
    sampling: str


@dataclass(frozen=True, slots=True)
class Threshold:
    """One number of the filter policy, with the meaning its manifest field gives."""

    name: str
    value: str
    meaning: str


@dataclass(slots=True)
class DatasetFacts:
    """All of it. Counters count samples, `num_offered` those with a caption made with the source's words at hand."""

    name: str
    title: str
    license: str
    splits: list[SplitFacts]
    image_fields: list[str]
    features: list[dict[str, Any]]
    sources: Counter[tuple[str, str]]
    writers: Counter[Writer]
    num_words: int
    prompts: list[Prompt]
    funnel: list[StageReport]
    thresholds: list[Threshold]
    captioner: dict[str, str] = field(default_factory=dict)
    num_offered: int = 0

    @property
    def num_samples(self) -> int:
        """Over all splits."""
        return sum(split.num_samples for split in self.splits)


def gather(manifest: Manifest, context: StageContext) -> DatasetFacts:
    """The facts of the dataset that the run's shards make up.

    Raises:
        RunFolderError: if a prompt is not there any more as it was sent.
    """
    assert manifest.publish is not None
    metadata = context.input("shard") / METADATA
    splits, image_fields = _splits(metadata)
    writers, num_words = _writers(context, metadata)
    return DatasetFacts(
        name=manifest.name,
        title=manifest.publish.title or manifest.name,
        license=manifest.publish.license or "unknown",
        splits=splits,
        image_fields=image_fields,
        features=_features(image_fields, writers),
        sources=_sources(context, metadata),
        writers=writers,
        num_words=num_words,
        prompts=_prompts(manifest, writers),
        funnel=_funnel(context),
        thresholds=list(_thresholds("", manifest.filter)),
        captioner=_captioner(manifest, context),
        num_offered=sum(row.source_text_offered for row in samples(metadata)),
    )


def samples(metadata: Path) -> Iterator[SampleRow]:
    """The samples of the dataset, in hash order."""
    return read_table(metadata, SAMPLES, SampleRow)


def _splits(metadata: Path) -> tuple[list[SplitFacts], list[str]]:
    found: dict[str, SplitFacts] = {}
    for shard in read_table(metadata, SHARDS, ShardRow):
        split = found.setdefault(shard.split, SplitFacts(shard.split))
        split.num_shards += 1
        split.num_samples += shard.num_samples
        split.tar_bytes += shard.num_bytes
    image_fields = set()
    for row in samples(metadata):
        found[row.split].num_bytes += row.image_num_bytes + row.text_num_bytes + row.json_num_bytes
        image_fields.add(row.image_name.partition(".")[2])
    return list(found.values()), sorted(image_fields)


def _features(image_fields: list[str], writers: Counter[Writer]) -> list[dict[str, Any]]:
    """The schema as the Hub's YAML writes it, the loader's own two columns included."""
    return [
        *({"name": name, "dtype": "image"} for name in image_fields),
        {"name": "json", "struct": json_features(writer.sampling for writer in writers)},
        *({"name": name, "dtype": "string"} for name in ("txt", "__key__", "__url__")),
    ]


def _sources(context: StageContext, metadata: Path) -> Counter[tuple[str, str]]:
    """Samples by source and licence."""
    joined = merge_join(
        read_table(context.input("index"), "images", ImageRow),
        samples(metadata),
        lambda image: image_order(image.image_id),
        lambda row: row.key,
    )
    return Counter((image.source, image.license) for image, row in joined if row is not None)


def _writers(context: StageContext, metadata: Path) -> tuple[Counter[Writer], int]:
    """Samples by the way their caption was made, and the number of words of all captions."""
    writers: Counter[Writer] = Counter()
    num_words = 0
    for caption_set, stage in _CAPTIONS.items():
        if stage not in context.active:
            continue
        for caption, row in merge_join(
            read_table(context.input(stage), "captions", CaptionRow),
            (row for row in samples(metadata) if row.producer is caption_set),
            lambda caption: image_order(caption.image_id),
            lambda row: row.key,
        ):
            if row is not None:
                writers[_writer(caption)] += 1
                num_words += len(caption.text.split())
    return writers, num_words


def _writer(row: CaptionRow) -> Writer:
    prompt = (row.prompt_id, row.prompt_version, row.prompt_sha256)
    return Writer(str(row.producer), row.model, row.model_revision, *prompt, row.sampling)


def _prompts(manifest: Manifest, writers: Counter[Writer]) -> list[Prompt]:
    prompts = []
    for prompt_id, sha256 in sorted({(writer.prompt_id, writer.prompt_sha256) for writer in writers}):
        prompt = load_prompt(prompt_id, manifest.prompt_folders)
        if prompt.sha256 != sha256:
            raise RunFolderError(
                f"prompt {prompt_id!r} is not the one that was sent any more; put its old text back, or make the "
                "captions anew with --redo collect"
            )
        prompts.append(prompt)
    return prompts


def _funnel(context: StageContext) -> list[StageReport]:
    """The reports of all finished stages before this one, in the order of the run."""
    reports = []
    for stage in context.active:
        if stage == context.stage:
            break
        record = context.run.record(stage)
        if record is not None and record.report is not None:
            reports.append(record.report)
    return reports


def _thresholds(place: str, section: BaseModel) -> Iterator[Threshold]:
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _thresholds(f"{place}{name}.", value)
        else:
            yield Threshold(f"{place}{name}", str(value), info.description or "")


def _captioner(manifest: Manifest, context: StageContext) -> dict[str, str]:
    settings = manifest.captioner
    record = context.run.record("train") if "train" in context.active else None
    if settings is None or record is None or record.report is None:
        return {}
    base = Path(settings.base_model)
    return {
        "base model": (base.name if base.is_absolute() else settings.base_model)
        + (f" at {settings.revision}" if settings.revision else ""),
        "trained on": f"{record.report.num_out} kept captions of the teacher",
        "held out": f"{record.report.skipped} captions",
        "learning rate": f"{settings.learning_rate:g}",
        "batch size": str(settings.batch_size),
        "epochs": f"{settings.epochs:g}",
        "trained parts": ", ".join(f"{part} {how}" for part, how in settings.parts.model_dump().items()),
    }
