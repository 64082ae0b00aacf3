"""Sets of captions: what a run keeps, a dataset folder, or a LLaVA-format file. Read as streams, as often as needed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from sgv_data.dataset_format import DATA, IMAGE_FIELDS, METADATA, SAMPLES, image_field
from sgv_data.errors import InputError
from sgv_data.json_rows import read_json_rows
from sgv_data.mix.questions import PLACEHOLDER
from sgv_data.mix.records import Caption
from sgv_data.records import CaptionRow, CaptionSet, ImageRow, SampleRow, Verdict, image_order
from sgv_data.sources.paths import unquote_path
from sgv_data.tables import merge_join, read_table, table_files

_STAGES = {CaptionSet.TEACHER: ("collect", "filter-teacher"), CaptionSet.STUDENT: ("expand", "filter-student")}
_HUMAN, _MODEL = ("human", "user"), ("gpt", "assistant", "model")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Captions(Protocol):
    """A set of captions. `passed_over` counts, for the latest complete reading, what is no caption, by why."""

    label: str
    passed_over: Counter[str]

    def __iter__(self) -> Iterator[Caption]:
        """All captions, in an order that is always the same.

        Raises:
            SgvError: if the set is damaged.
        """


def open_captions(path: Path, only: CaptionSet | None = None, places: Mapping[str, str] | None = None) -> Captions:
    """The captions at `path`: a run folder, a dataset folder, or a `.json` or `.jsonl` file.

    `only` chooses the teacher's or the student's; `places` says in which folder the pictures of a source lie, by
    default one of the source's name.

    Raises:
        InputError: if it is none of these.
    """
    if path.is_file():
        if only is not None:
            raise InputError(f"{path}: a file does not say who wrote its captions; leave --of out")
        return FileCaptions(path)
    if table_files(path / "index", "images"):
        return RunCaptions(path, only, places or {})
    if table_files(path / METADATA, SAMPLES):
        return DatasetCaptions(path, only, places or {})
    if not path.exists():
        raise InputError(f"{path}: no such set of captions")
    raise InputError(f"{path}: is no run folder (index/images-*.parquet) and no dataset folder (metadata/samples-*)")


class FileCaptions:
    """The rows of a LLaVA-format file that hold one picture, one question and one answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.label = path.name
        self.passed_over: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Caption]:
        passed_over: Counter[str] = Counter()
        for row in read_json_rows(self._path):
            image, said = row.value.get("image"), exchange_of(row.value)
            if not isinstance(image, str) or not image:
                passed_over["without one picture"] += 1
            elif said is None:
                passed_over["not one question and one answer"] += 1
            elif not said[1].strip():
                passed_over["empty"] += 1
            else:
                yield Caption(image=image, source=image.lstrip("./").split("/")[0], text=said[1])
        self.passed_over = passed_over


def exchange_of(row: Mapping[str, object]) -> tuple[str, str] | None:
    """Question and answer of a row that holds nothing else; None for any other row."""
    turns = row.get("conversations")
    if not isinstance(turns, list) or len(turns) != 2 or not all(isinstance(turn, dict) for turn in turns):
        return None
    asking, answering = turns
    asked, answered = asking.get("value"), answering.get("value")
    if asking.get("from") not in _HUMAN or answering.get("from") not in _MODEL:
        return None
    return (asked, answered) if isinstance(asked, str) and isinstance(answered, str) else None


class RunCaptions:
    """The kept captions of a run, one per picture: the teacher's where there is one, else the student's."""

    def __init__(self, root: Path, only: CaptionSet | None, places: Mapping[str, str]) -> None:
        wanted = [only] if only else list(CaptionSet)
        self._root, self._places = root, places
        self._sets = [each for each in wanted if table_files(root / _STAGES[each][1], "verdicts")]
        if not self._sets:
            stages = " or ".join(_STAGES[each][1] for each in wanted)
            raise InputError(f"{root}: has no kept captions yet; the stage {stages} has not run")
        self.label = root.name
        self.passed_over: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Caption]:
        passed_over: Counter[str] = Counter()
        rows: Iterator[tuple[ImageRow, str | None]]
        rows = ((image, None) for image in read_table(self._root / "index", "images", ImageRow))
        for each in self._sets:
            rows = self._with_texts(rows, each)
        for image, text in rows:
            if text is None:
                passed_over["without a kept caption"] += 1
            else:
                yield Caption(_picture_path(image.image_id, image.format, self._places), image.source, text)
        self.passed_over = passed_over

    def _with_texts(
        self, rows: Iterator[tuple[ImageRow, str | None]], caption_set: CaptionSet
    ) -> Iterator[tuple[ImageRow, str | None]]:
        captions, verdicts = (self._root / name for name in _STAGES[caption_set])
        judged = merge_join(
            read_table(captions, "captions", CaptionRow),
            read_table(verdicts, "verdicts", Verdict),
            lambda caption: image_order(caption.image_id),
            lambda verdict: image_order(verdict.image_id),
        )
        joined = merge_join(rows, judged, lambda row: image_order(row[0].image_id), _order_of_judged)
        for (image, text), found in joined:
            kept = found[0].text if found is not None and found[1] is not None and found[1].kept else None
            yield image, text if text is not None else kept


def _order_of_judged(judged: tuple[CaptionRow, Verdict | None]) -> str:
    return image_order(judged[0].image_id)


class DatasetCaptions:
    """The captions in a dataset folder: those in the tars that its tables of samples point to."""

    def __init__(self, root: Path, only: CaptionSet | None, places: Mapping[str, str]) -> None:
        self._root, self._only, self._places = root, only, places
        self.label = root.name
        self.passed_over: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Caption]:
        passed_over: Counter[str] = Counter()
        for row in read_table(self._root / METADATA, SAMPLES, SampleRow):
            if self._only is not None and row.producer is not self._only:
                passed_over[f"of the {row.producer}"] += 1
                continue
            suffix = row.image_name.rpartition(".")[2]
            path = _picture_path(row.image_id, suffix, self._places)
            yield Caption(path, row.image_id.partition("/")[0], self._text(row))
        self.passed_over = passed_over

    def _text(self, row: SampleRow) -> str:
        tar = self._root / DATA / row.shard
        try:
            with tar.open("rb") as file:
                file.seek(row.text_offset_bytes)
                data = file.read(row.text_num_bytes)
        except OSError as exc:
            raise InputError(f"{tar}: cannot be read ({exc.strerror}); sgv verify says what is wrong") from exc
        if len(data) != row.text_num_bytes:
            raise InputError(f"{tar}: is cut off; sgv verify says what is wrong")
        return data.decode("utf-8", "replace")


def _picture_path(image_id: str, image_format: str, places: Mapping[str, str]) -> str:
    """Where a picture lies below the folder of all pictures; one that came from a tar gets its extension."""
    source, _, key = image_id.partition("/")
    path = unquote_path(key)
    if _SURROGATE.search(path):
        path = key
    if path.rpartition(".")[2].lower() not in IMAGE_FIELDS:
        path += f".{image_field(image_format)}"
    return f"{places.get(source, source).rstrip('/')}/{path}"


def without_placeholder(text: str) -> str:
    """A caption without the word that stands for a picture, which would be taken for one in training."""
    return text.replace(PLACEHOLDER, "").strip() if PLACEHOLDER in text else text
