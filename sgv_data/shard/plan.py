"""The plan of the shards: which sample goes into which tar, fixed before any picture is read.

Because boundaries follow from the tables alone, tars can be written in any order, by any number of processes, and again
after a kill, with the same bytes. The plan lies in the stage's hidden work folder, one table per tar, and `plan.json`,
written last, says that it is whole.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from sgv_data.dataset_format import SPLITS, split_of, tar_name
from sgv_data.errors import RunFolderError
from sgv_data.manifest import Shard
from sgv_data.progress import Progress
from sgv_data.provenance import Lineage, provenance_of
from sgv_data.records import CaptionReject, CaptionSet, FailureClass, counted, image_order
from sgv_data.run_folder import write_durably
from sgv_data.shard.choose import Chosen, LeftOut
from sgv_data.shard.tar import MOST_TAIL_BYTES, member_num_bytes
from sgv_data.tables import TableWriter

TAKEN_DOWN = "taken_down"
"""The reason under which samples removed on request are counted."""

_WHOLE = "plan.json"


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """A sample before its picture is read. `provenance` is the JSON it gets if the picture goes in unchanged."""

    image_id: str
    key: str
    source: str
    location: str
    image_format: str
    image_sha256: str
    producer: CaptionSet
    text: str
    provenance: str
    source_text_offered: bool


class PlannedShard(BaseModel):
    """One tar to be written."""

    model_config = ConfigDict(extra="forbid")

    name: str
    split: str
    num_samples: int


class Plan(BaseModel):
    """All tars, and what became of the pictures that get no sample."""

    model_config = ConfigDict(extra="forbid")

    shards: list[PlannedShard]
    num_images: int
    rejected: dict[str, int] = Field(default_factory=dict)
    failed: dict[str, int] = Field(default_factory=dict)
    skipped: int = 0


def read_plan(folder: Path) -> Plan | None:
    """The plan in `folder` if it is whole, else None."""
    path = folder / _WHOLE
    return Plan.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def make_plan(
    folder: Path,
    choices: Iterable[Chosen | LeftOut],
    settings: Shard,
    seed: int,
    lineage: Lineage,
    progress: Progress,
    removed: frozenset[str] = frozenset(),
    on_planned: Callable[[PlannedShard], None] = lambda _: None,
) -> Plan:
    """Deals out the samples in the order given and writes the plan into `folder`.

    A tar is closed before it would exceed `max_samples`, or `max_bytes` counted over the pictures' original bytes.
    Samples whose keys are `removed` take their place in a tar but are not written. `on_planned` is called for each
    tar as soon as its part of the plan is on disk.

    Raises:
        RunFolderError: if two pictures have the same key.
    """
    rejected: Counter[CaptionReject] = Counter()
    failed: Counter[FailureClass] = Counter()
    num_images = skipped = num_removed = 0
    last = ("", "")
    with ExitStack() as stack:
        splits = {split: stack.enter_context(_Split(folder, split, settings, on_planned)) for split in SPLITS}
        for choice in choices:
            num_images += 1
            progress.advance()
            if isinstance(choice, Chosen):
                sample = _planned(choice, lineage if choice.caption.producer is CaptionSet.STUDENT else Lineage())
                last = _distinct(last, sample)
                gone = sample.key in removed
                num_removed += gone
                split = splits[split_of(sample.image_id, seed, settings.validation)]
                split.add(sample, choice.image.num_bytes, write=not gone)
            elif isinstance(choice, CaptionReject):
                rejected[choice] += 1
            elif isinstance(choice, FailureClass):
                failed[choice] += 1
            else:
                skipped += 1
    plan = Plan(
        shards=[shard for split in splits.values() for shard in split.shards],
        num_images=num_images,
        rejected={**counted(rejected), **({TAKEN_DOWN: num_removed} if num_removed else {})},
        failed=counted(failed),
        skipped=skipped,
    )
    write_durably(folder / _WHOLE, plan.model_dump_json(indent=1))
    return plan


def _planned(choice: Chosen, lineage: Lineage) -> PlannedSample:
    image, caption = choice.image, choice.caption
    text_sha256 = hashlib.sha256(caption.text.encode("utf-8")).hexdigest()
    return PlannedSample(
        image_id=image.image_id,
        key=image_order(image.image_id),
        source=image.source,
        location=image.location,
        image_format=image.format,
        image_sha256=image.sha256,
        producer=caption.producer,
        text=caption.text,
        provenance=provenance_of(image, caption, choice.verdict, text_sha256, lineage).to_json(),
        source_text_offered=caption.offered_text is not None,
    )


def _distinct(last: tuple[str, str], sample: PlannedSample) -> tuple[str, str]:
    key, image_id = last
    if key == sample.key:
        raise RunFolderError(f"{image_id} and {sample.image_id} have the same key {key}; give one of them another name")
    return sample.key, sample.image_id


class _Split:
    """Deals the samples of one split into tars."""

    def __init__(self, folder: Path, split: str, settings: Shard, on_planned: Callable[[PlannedShard], None]) -> None:
        self._folder, self._split, self._settings, self._on_planned = folder, split, settings, on_planned
        self._writer: TableWriter[PlannedSample] | None = None
        self._num_bytes = self._num_places = 0
        self.shards: list[PlannedShard] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.__exit__(kind)
            if kind is None:
                self._on_planned(self.shards[-1])

    def add(self, sample: PlannedSample, image_num_bytes: int, write: bool = True) -> None:
        sizes = (image_num_bytes, len(sample.provenance.encode()), len(sample.text.encode()))
        num_bytes = sum(map(member_num_bytes, sizes))
        if not self.shards or self._is_full(num_bytes):
            self._open_next()
        assert self._writer is not None
        self._num_bytes += num_bytes
        self._num_places += 1
        if write:
            self._writer.add(sample)
            self.shards[-1].num_samples += 1

    def _is_full(self, more_bytes: int) -> bool:
        too_many = self._num_places >= self._settings.max_samples
        return too_many or self._num_bytes + more_bytes > self._settings.max_bytes

    def _open_next(self) -> None:
        self.__exit__(None)
        name = tar_name(self._split, len(self.shards))
        self._writer = TableWriter(self._folder, name, PlannedSample).__enter__()
        self._num_bytes, self._num_places = MOST_TAIL_BYTES, 0
        self.shards.append(PlannedShard(name=name, split=self._split, num_samples=0))
