"""What one command asks, in order: the pictures without an answer, then each retry round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from sgv_data.api.cache import ReplyCache
from sgv_data.collect.again import Round, all_rounds
from sgv_data.collect.pending_again import pending_again
from sgv_data.collect.questions import Questions
from sgv_data.collect.scan import PendingRows, pending_rows
from sgv_data.manifest import Manifest
from sgv_data.records import ImageRow

Parts = Iterator[list[ImageRow]]


class Phase:
    """Pictures that are asked about in one way; `find` gives those that have no end yet.

    `manifest` is that of the run with the teacher of this phase.
    """

    def __init__(self, manifest: Manifest, questions: Questions, is_round: bool, find: Callable[[], Parts]) -> None:
        self.manifest, self.questions, self.is_round, self._find = manifest, questions, is_round, find
        self._found: Parts | None = None
        self.num_done_before = 0

    def has_parts(self) -> bool:
        """Whether anything is pending. What was found so far is kept for `take`."""
        if self._found is None:
            parts = self._find()
            first = next(parts, None)
            if isinstance(parts, PendingRows):
                self.num_done_before = parts.num_done
            self._found = chain([first], parts) if first is not None else None
        return self._found is not None

    def take(self) -> Parts | None:
        """What is pending now, in lists; None if nothing is."""
        if not self.has_parts():
            return None
        found, self._found = self._found, None
        return found

    def at(self, address: str, base_url: str) -> None:
        """From now on the endpoints called `address` are at `base_url`."""
        teacher = self.manifest.teacher
        endpoints = tuple(
            each.model_copy(update={"base_url": base_url}) if each.base_url == address else each
            for each in teacher.endpoints
        )
        own = base_url if teacher.base_url == address else teacher.base_url
        teacher = teacher.model_copy(update={"base_url": own, "endpoints": endpoints})
        self.manifest = self.manifest.model_copy(update={"teacher": teacher})


def phases_of(
    manifest: Manifest, questions: Questions, rounds: Sequence[Round], folder: Path, index: Path, cache: ReplyCache,
    session: str,
) -> list[Phase]:  # fmt: skip
    """The first asking, then `rounds`; `folder` is that of the stage."""
    phases = [Phase(manifest, questions, False, lambda: pending_rows(index, manifest, questions, cache, session))]
    for each in rounds:
        phases.append(_phase(each, manifest, questions, folder, index, cache, session))
    return phases


def _phase(
    this: Round, manifest: Manifest, questions: Questions, folder: Path, index: Path, cache: ReplyCache, session: str
) -> Phase:
    def find() -> Parts:
        return pending_again(index, manifest, questions, this, all_rounds(folder), cache, session)

    return Phase(this.manifest(manifest), this.questions(manifest), True, find)
