"""Before a dataset goes anywhere: it is loaded with the readers others will use, and compared with its index.

The readers run in a process of their own, offline, with their caches in a folder that goes away: they keep global
settings, write to the home folder, and would ask the Hub.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from sgv_data.dataset_format import DATA, METADATA, SAMPLES
from sgv_data.errors import VerifyFailed
from sgv_data.processes import in_own_process
from sgv_data.records import SampleRow
from sgv_data.tables import read_table

_MOST_PROBLEMS = 5
_PLAIN_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Preflight:
    """What to load: a dataset folder, its splits with their numbers of samples; `cache` is for what readers leave."""

    folder: Path
    splits: dict[str, int]
    image_fields: tuple[str, ...]
    cache: Path


def check_loads(preflight: Preflight) -> None:
    """Loads the dataset with `datasets` and with `webdataset`.

    With `datasets` both streaming and plainly, the latter only up to 2 GB: it writes all data into a cache once more.

    Raises:
        VerifyFailed: if a reader fails, or gives anything but the samples of the index in their order.
    """
    try:
        problems = in_own_process(load_and_compare, preflight)
    finally:
        shutil.rmtree(preflight.cache, ignore_errors=True)
    if problems:
        raise VerifyFailed("the dataset does not load as its index says:\n" + "\n".join(problems))


def load_and_compare(preflight: Preflight) -> list[str]:
    """The work of `check_loads`; only for a process of its own, since it sets environment variables and the folder."""
    cache = str(preflight.cache.resolve())
    os.environ.update(
        HF_HOME=cache, HF_DATASETS_CACHE=cache, HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1",
        HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1",
    )  # fmt: skip
    os.chdir(preflight.folder)
    problems: list[str] = []
    for split, count in preflight.splits.items():
        for reader, read in (
            ("datasets, streaming", _with_datasets),
            ("datasets", _with_plain_datasets),
            ("webdataset", _with_webdataset),
        ):
            if read is _with_plain_datasets and not _is_small(split):
                continue
            found = _differences(_rows(split), read(split, preflight.image_fields))
            problems += [f"{reader}, split {split}: {problem}" for problem in found]
        if not problems and (told := _told(split)) != count:
            problems.append(f"datasets, split {split}: the card promises {told} examples, there are {count}")
    return problems


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A sample as a reader gives it. `record` is the parsed JSON."""

    key: str
    picture: bytes
    text: str
    record: Any


def _rows(split: str) -> Iterator[SampleRow]:
    return (row for row in read_table(Path(METADATA), SAMPLES, SampleRow) if row.split == split)


def _differences(rows: Iterable[SampleRow], loaded: Iterable[_Loaded]) -> list[str]:
    """The first few differences between the index and what a reader gives; a reader that fails is one."""
    problems: list[str] = []
    tars = _Tars()
    try:
        for row, sample in zip_longest(rows, loaded):
            if problem := _difference(row, sample, tars):
                problems.append(problem)
            if len(problems) >= _MOST_PROBLEMS:
                break
    except Exception as exc:  # noqa: BLE001 - any failure of a foreign reader is the finding
        problems.append(f"{type(exc).__name__}: {exc}")
    tars.close()
    return problems


def _difference(row: SampleRow | None, sample: _Loaded | None, tars: _Tars) -> str | None:
    if row is None:
        return f"gives a sample {sample.key if sample else ''} that is not in the index"
    if sample is None:
        return f"does not give sample {row.key} of {row.shard}"
    if sample.key != row.key:
        return f"gives {sample.key} where the index has {row.key}"
    if hashlib.sha256(sample.picture).hexdigest() != row.image_sha256:
        return f"gives other picture bytes for {row.key}"
    if hashlib.sha256(sample.text.encode("utf-8")).hexdigest() != row.text_sha256:
        return f"gives another caption for {row.key}"
    written = json.loads(tars.read(row.shard, row.json_offset_bytes, row.json_num_bytes))
    if _without_nulls(sample.record) != _without_nulls(written):
        return f"gives another json for {row.key}"
    return None


class _Tars:
    """Bytes of members by their place, with the latest tar kept open."""

    def __init__(self) -> None:
        self._name = ""
        self._file: BinaryIO | None = None

    def read(self, name: str, offset_bytes: int, num_bytes: int) -> bytes:
        if self._file is None or self._name != name:
            self.close()
            self._name, self._file = name, (Path(DATA) / name).open("rb")
        self._file.seek(offset_bytes)
        return self._file.read(num_bytes)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


# --- readers -----------------------------------------------------------------------------------------------------


def _told(split: str) -> int:
    """The number of examples that the card promises."""
    import datasets

    splits = datasets.load_dataset_builder(str(Path.cwd())).info.splits or {}
    return int(splits[split].num_examples) if split in splits else -1


def _is_small(split: str) -> bool:
    return sum(path.stat().st_size for path in Path(DATA).glob(f"{split}-*.tar")) <= _PLAIN_BYTES


def _with_datasets(split: str, image_fields: Iterable[str]) -> Iterator[_Loaded]:
    return _from_datasets(split, image_fields, streaming=True)


def _with_plain_datasets(split: str, image_fields: Iterable[str]) -> Iterator[_Loaded]:
    return _from_datasets(split, image_fields, streaming=False)


def _from_datasets(split: str, image_fields: Iterable[str], streaming: bool) -> Iterator[_Loaded]:
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity_error()
    loaded = datasets.load_dataset(str(Path.cwd()), split=split, streaming=streaming)
    for name in image_fields:
        loaded = loaded.cast_column(name, datasets.Image(decode=False))
    for sample in loaded:
        picture = next(sample[name]["bytes"] for name in image_fields if sample[name] is not None)
        yield _Loaded(sample["__key__"], picture, sample["txt"], sample["json"])


def _with_webdataset(split: str, image_fields: Iterable[str]) -> Iterator[_Loaded]:
    import webdataset

    tars = sorted(str(path) for path in Path(DATA).glob(f"{split}-*.tar"))
    for sample in webdataset.WebDataset(tars, shardshuffle=False):
        picture = next(sample[name] for name in image_fields if name in sample)
        yield _Loaded(sample["__key__"], picture, sample["txt"].decode("utf-8"), json.loads(sample["json"]))


def _without_nulls(value: Any) -> Any:
    """A struct without the fields that this sample does not have; a schema adds them as nulls."""
    if isinstance(value, Mapping):
        bare = {name: _without_nulls(each) for name, each in value.items()}
        return {name: each for name, each in bare.items() if each is not None and each != {}}
    return value
