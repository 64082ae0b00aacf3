"""One sample of a published dataset, fetched by its place in a tar: a few ranges of bytes, however large the tars are.

The dataset may lie in a folder, behind HTTP (with range requests), on the Hub (`hf://datasets/OWNER/NAME`), or wherever
else `fsspec` reads.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgv_data.dataset_format import DATA, METADATA, SAMPLES
from sgv_data.errors import InputError, VerifyFailed
from sgv_data.records import CaptionSet, SampleRow, image_order

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_KEY = re.compile(r"[0-9a-f]{20}")


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample with its contents, whose hashes are those of the index."""

    row: SampleRow
    picture: bytes
    text: str
    record: dict[str, Any]


def fetch_sample(dataset: str, name: str) -> Sample:
    """The sample with that key or image id.

    Raises:
        InputError: if there is no such dataset or sample.
        VerifyFailed: if the bytes at its place are not those of the index.
    """
    from fsspec.core import url_to_fs

    if (Path(dataset) / "shard" / DATA).is_dir():
        dataset = str(Path(dataset) / "shard")
    files, root = url_to_fs(dataset)
    row = _find(files, root.rstrip("/"), name, dataset)
    with files.open(f"{root.rstrip('/')}/{DATA}/{row.shard}", "rb", block_size=1 << 16) as tar:

        def read(offset_bytes: int, num_bytes: int, sha256: str) -> bytes:
            tar.seek(offset_bytes)
            data = bytes(tar.read(num_bytes))
            if hashlib.sha256(data).hexdigest() != sha256:
                raise VerifyFailed(f"{dataset}: {row.shard} does not hold {row.key} where the index says")
            return data

        record = read(row.json_offset_bytes, row.json_num_bytes, row.json_sha256)
        text = read(row.text_offset_bytes, row.text_num_bytes, row.text_sha256)
        picture = read(row.image_offset_bytes, row.image_num_bytes, row.image_sha256)
    return Sample(row, picture, text.decode("utf-8"), json.loads(record))


def _find(files: AbstractFileSystem, root: str, name: str, dataset: str) -> SampleRow:
    import pyarrow.parquet as pq

    key = name if _KEY.fullmatch(name) else image_order(name)
    num_tables = 0
    for table in _tables(files, root):
        num_tables += 1
        with files.open(table, "rb", block_size=1 << 16) as file:
            found = pq.read_table(file, filters=[("key", "=", key)]).to_pylist()
        if found:
            values = {field.name: found[0][field.name] for field in fields(SampleRow)}
            return SampleRow(**{**values, "producer": CaptionSet(values["producer"])})
    if not num_tables:
        raise InputError(f"{dataset}: no such dataset, or it has no {METADATA}/{SAMPLES}-00000.parquet")
    raise InputError(f"{dataset} has no sample {name!r}")


def _tables(files: AbstractFileSystem, root: str) -> Iterator[str]:
    number = 0
    while files.exists(path := f"{root}/{METADATA}/{SAMPLES}-{number:05d}.parquet"):
        yield path
        number += 1
