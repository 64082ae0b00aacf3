"""Which caption a picture gets: the tables of a run joined picture by picture, in hash order and flat memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sgv_data.errors import RunFolderError
from sgv_data.records import (
    CaptionReject,
    CaptionRow,
    CaptionSet,
    FailureClass,
    ImageRow,
    Outcome,
    Verdict,
    image_order,
)
from sgv_data.tables import merge_join, read_table


@dataclass(frozen=True, slots=True)
class CaptionTables:
    """The folders with the captions of one set and with the verdicts on them."""

    caption_set: CaptionSet
    captions: Path
    verdicts: Path

    def asked(self, image: ImageRow) -> bool:
        """Whether a caption of this set was asked for."""
        return image.for_teacher if self.caption_set is CaptionSet.TEACHER else image.for_expand


@dataclass(frozen=True, slots=True)
class Candidate:
    """A caption and, unless asking for it failed, the verdict on it."""

    caption: CaptionRow
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """A picture with the caption it is published with."""

    image: ImageRow
    caption: CaptionRow
    verdict: Verdict


Candidates = tuple[Candidate | None, ...]
LeftOut = CaptionReject | FailureClass | None


def choices(index: Path, sets: Sequence[CaptionTables]) -> Iterator[Chosen | LeftOut]:
    """For every usable picture the caption of the first set that has a kept one, or why there is none.

    A picture whose sets all say no is counted under the first of them that was asked; None: no caption was asked for.

    Raises:
        RunFolderError: if the tables do not belong together.
    """
    for image, candidates in _joined(index, sets):
        if image.reject is None:
            yield _choose(image, candidates, sets)


def _choose(image: ImageRow, candidates: Candidates, sets: Sequence[CaptionTables]) -> Chosen | LeftOut:
    refusals: list[CaptionReject | FailureClass] = []
    for tables, candidate in zip(sets, candidates, strict=True):
        if candidate is None:
            if tables.asked(image):
                raise RunFolderError(f"{tables.captions} has no row for {image.image_id}; make it anew with --redo")
            continue
        if candidate.caption.outcome is Outcome.FAILED:
            refusals.append(candidate.caption.failure or FailureClass.BAD_REPLY)
        elif candidate.verdict is None:
            raise RunFolderError(f"{tables.verdicts} has no row for {image.image_id}; make it anew with --redo")
        elif candidate.verdict.kept:
            return Chosen(image, candidate.caption, candidate.verdict)
        elif candidate.verdict.reason is None:
            raise RunFolderError(f"{tables.verdicts} rejects {image.image_id} without a reason")
        else:
            refusals.append(candidate.verdict.reason)
    return refusals[0] if refusals else None


def _joined(index: Path, sets: Sequence[CaptionTables]) -> Iterator[tuple[ImageRow, Candidates]]:
    rows: Iterator[tuple[ImageRow, Candidates]] = ((image, ()) for image in read_table(index, "images", ImageRow))
    for tables in sets:
        rows = _with_candidate(rows, tables)
    return rows


def _with_candidate(
    rows: Iterator[tuple[ImageRow, Candidates]], tables: CaptionTables
) -> Iterator[tuple[ImageRow, Candidates]]:
    judged = merge_join(
        read_table(tables.captions, "captions", CaptionRow),
        read_table(tables.verdicts, "verdicts", Verdict),
        lambda caption: image_order(caption.image_id),
        lambda verdict: image_order(verdict.image_id),
    )
    candidates = (Candidate(caption, verdict) for caption, verdict in judged)
    for (image, found), candidate in merge_join(
        rows, candidates, lambda row: image_order(row[0].image_id), lambda each: image_order(each.caption.image_id)
    ):
        yield image, (*found, candidate)
