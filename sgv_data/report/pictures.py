"""All tables of a run joined picture by picture: a stream in hash order, in flat memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sgv_data.dataset_format import METADATA, SAMPLES, SampleFailure
from sgv_data.records import CaptionRow, CaptionSet, ImageRow, SampleRow, Verdict, image_order
from sgv_data.run_folder import RunFolder
from sgv_data.tables import merge_join, read_table, table_files

Left = TypeVar("Left")

CAPTIONS_OF = {CaptionSet.TEACHER: "collect", CaptionSet.STUDENT: "expand"}
VERDICTS_OF = {CaptionSet.TEACHER: "filter-teacher", CaptionSet.STUDENT: "filter-student"}
_FAILURES = "failures"


@dataclass(frozen=True, slots=True)
class Answer:
    """A caption, or the failure to get one, with the verdict once there is one."""

    caption: CaptionRow
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Picture:
    """One input with all that became of it so far."""

    image: ImageRow
    teacher: Answer | None
    student: Answer | None
    sample: SampleRow | None
    failure: SampleFailure | None

    def answer(self, caption_set: CaptionSet) -> Answer | None:
        """The answer of a set, if one was asked for and its stage is finished."""
        return self.teacher if caption_set is CaptionSet.TEACHER else self.student


@dataclass(frozen=True, slots=True)
class ModelSample:
    """What the base model and the trained captioner say about a picture that neither was trained on."""

    base: str
    trained: str


def read_model_samples(path: Path) -> dict[str, ModelSample]:
    """`samples.jsonl` of the training stage, by image id; empty if there is none."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return {row["image_id"]: ModelSample(row["base"], row["trained"]) for row in rows}


def finished_stages(run: RunFolder, active: tuple[str, ...]) -> frozenset[str]:
    """The stages of this run that have a record."""
    return frozenset(name for name in active if (record := run.record(name)) is not None and record.report is not None)


def pictures(run: RunFolder, done: frozenset[str]) -> Iterator[Picture]:
    """Every input of a run whose index is done, with what the stages in `done` made of it.

    Raises:
        RunFolderError: if a table is missing, damaged or of another run.
    """
    rows = read_table(run.stage("index"), "images", ImageRow)
    taught = _join(rows, _answers(run, done, CaptionSet.TEACHER), lambda row: row.image_id)
    studied = _join(taught, _answers(run, done, CaptionSet.STUDENT), lambda pair: pair[0].image_id)
    sampled = _join(studied, _samples(run, done), lambda pair: pair[0][0].image_id)
    failed = _join(sampled, _failures(run, done), lambda pair: pair[0][0][0].image_id)
    for (((image, teacher), student), sample), failure in failed:
        yield Picture(image, teacher, student, sample, failure)


Right = TypeVar("Right", Answer, SampleRow, SampleFailure)


def _join(
    left: Iterator[Left], right: Iterator[Right], id_of: Callable[[Left], str]
) -> Iterator[tuple[Left, Right | None]]:
    return merge_join(left, right, lambda row: image_order(id_of(row)), lambda row: image_order(_id(row)))


def _id(row: Answer | SampleRow | SampleFailure) -> str:
    return row.caption.image_id if isinstance(row, Answer) else row.image_id


def _answers(run: RunFolder, done: frozenset[str], caption_set: CaptionSet) -> Iterator[Answer]:
    if CAPTIONS_OF[caption_set] not in done:
        return
    captions = read_table(run.stage(CAPTIONS_OF[caption_set]), "captions", CaptionRow)
    verdicts: Iterator[Verdict] = iter(())
    if VERDICTS_OF[caption_set] in done:
        verdicts = read_table(run.stage(VERDICTS_OF[caption_set]), "verdicts", Verdict)
    for caption, verdict in merge_join(
        captions, verdicts, lambda row: image_order(row.image_id), lambda row: image_order(row.image_id)
    ):
        yield Answer(caption, verdict)


def _samples(run: RunFolder, done: frozenset[str]) -> Iterator[SampleRow]:
    if "shard" in done:
        yield from read_table(run.stage("shard") / METADATA, SAMPLES, SampleRow)


def _failures(run: RunFolder, done: frozenset[str]) -> Iterator[SampleFailure]:
    if "shard" in done and table_files(run.stage("shard"), _FAILURES):
        yield from read_table(run.stage("shard"), _FAILURES, SampleFailure)
