"""How true captions of drawn scenes are. Only runs with a source of kind `scenes` have this: their truth is known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from sgv_data.manifest import Manifest, ScenesSource
from sgv_data.records import Outcome
from sgv_data.report.pictures import Answer, ModelSample, Picture
from sgv_data.run_folder import write_durably

if TYPE_CHECKING:
    from sgv_data.demo.scenes import Scene

# Captions judged per table. Pictures come in hash order, so that the first ones are a fair draw; the standard error of
# a share over 2,000 captions is about 0.01.
MAX_CAPTIONS = 2_000


class AccuracyRow(BaseModel):
    """One kind of statement: the share that is right, and the share that other pictures' captions would get."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    num_statements: int
    share: float | None
    floor: float | None


class AccuracyTable(BaseModel):
    """The statements of one set of captions. The last row is over all kinds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    num_captions: int
    faultless_share: float | None
    rows: tuple[AccuracyRow, ...]

    @property
    def sentence(self) -> str:
        """`0.93 (floor 0.27; 400 captions)`."""
        over_all = self.rows[-1]
        return f"{_number(over_all.share)} (floor {_number(over_all.floor)}; {self.num_captions:,} captions)"


_TABLES = TypeAdapter(tuple[AccuracyTable, ...])


def read_accuracy(path: Path) -> tuple[AccuracyTable, ...]:
    """The tables that the report stage stored; empty if there are none."""
    return _TABLES.validate_json(path.read_bytes()) if path.is_file() else ()


def write_accuracy(path: Path, tables: tuple[AccuracyTable, ...]) -> None:
    """Stores the tables for the summary at the end of `sgv run`."""
    write_durably(path, json.dumps(_TABLES.dump_python(tables, mode="json"), indent=1))


class AccuracyCollector:
    """Picks out captions of scenes while pictures stream by; at most MAX_CAPTIONS per table are held."""

    def __init__(self, manifest: Manifest, samples: dict[str, ModelSample]) -> None:
        self._scenes = {source.name for source in manifest.images if isinstance(source, ScenesSource)}
        self._seed = manifest.seed
        self._samples = samples if self._scenes else {}
        self._teacher: list[tuple[str, int]] = []
        self._base: list[tuple[str, int]] = []
        self._trained: list[tuple[str, int]] = []
        self._student: list[tuple[str, int]] = []

    def add(self, picture: Picture) -> None:
        """Takes what a picture contributes, if it is a scene."""
        if picture.image.source not in self._scenes or picture.image.reject is not None:
            return
        number = int(picture.image.location)
        _take(self._teacher, picture.teacher, number)
        if not picture.image.for_teacher:
            _take(self._student, picture.student, number)
        if (sample := self._samples.get(picture.image.image_id)) is not None:
            self._base.append((sample.base, number))
            self._trained.append((sample.trained, number))

    def tables(self) -> tuple[AccuracyTable, ...]:
        """One table per set of captions that is there."""
        sets = (
            ("teacher", self._teacher),
            ("base model before training", self._base),
            ("captioner, the same pictures", self._trained),
            ("captioner, pictures it never saw", self._student),
        )
        return tuple(_measure(title, list(self._with_scenes(captions))) for title, captions in sets if captions)

    def _with_scenes(self, captions: Iterable[tuple[str, int]]) -> Iterator[tuple[str, Scene]]:
        from sgv_data.demo.scenes import scene

        for text, number in captions:
            yield text, scene(self._seed, number)


def _take(captions: list[tuple[str, int]], answer: Answer | None, number: int) -> None:
    if answer is None or len(captions) >= MAX_CAPTIONS or answer.caption.outcome is Outcome.FAILED:
        return
    captions.append((answer.caption.text, number))


def _measure(title: str, pairs: list[tuple[str, Scene]]) -> AccuracyTable:
    from sgv_data.demo.accuracy import score_captions

    accuracy = score_captions(pairs)
    rows = [
        AccuracyRow(
            kind=str(kind), num_statements=tally.total, share=tally.share, floor=accuracy.floor_kinds[kind].share
        )
        for kind, tally in accuracy.kinds.items()
        if tally.total
    ]
    over_all: dict[str, Any] = {"share": accuracy.over_all.share, "floor": accuracy.floor.share}
    rows.append(AccuracyRow(kind="all", num_statements=accuracy.over_all.total, **over_all))
    return AccuracyTable(
        title=title, num_captions=len(pairs), faultless_share=accuracy.faultless_share, rows=tuple(rows)
    )


def _number(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.2f}"
