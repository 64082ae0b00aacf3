"""Source kind `img2dataset`: the tars of that tool, and the Parquet lists beside them, which know what is missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sgv_data.errors import InputError
from sgv_data.sources.source import Entry
from sgv_data.sources.webdataset import WebDataset

_SUCCESS = "success"
_HTTP = re.compile(r"HTTP Error (\d{3})")
_CAUSES = (
    ("timed out", re.compile(r"timed out|timeout", re.IGNORECASE)),
    ("no such host", re.compile(r"name or service not known|name resolution|getaddrinfo|nodename", re.IGNORECASE)),
    ("certificate", re.compile(r"certificate|ssl", re.IGNORECASE)),
    ("forbidden by the page", re.compile(r"use of image disallowed|noai|x-robots", re.IGNORECASE)),
    ("no picture", re.compile(r"decod|cannot identify|not an image|corrupt", re.IGNORECASE)),
    ("connection", re.compile(r"connection|refused|reset|unreachable", re.IGNORECASE)),
)


class Img2Dataset(WebDataset):
    """Samples as in any webdataset; URLs that gave none are counted by cause in `ignored` and explained."""

    def entries(self) -> Iterator[Entry]:
        counts: Counter[str] = Counter()
        for entry in super().entries():
            counts[entry.location.rpartition("#")[0]] += 1
            yield entry
        causes: Counter[str] = Counter()
        num_listed = 0
        for tar in self.tars():
            path = Path(self._root / tar).with_suffix(".parquet")
            if not path.is_file():
                self.warnings.append(f"{tar}: has no list {path.name} beside it, so what was not fetched is not known")
                continue
            listed = _statuses(path)
            num_listed += listed.total()
            causes.update({cause: count for cause, count in listed.items() if cause != _SUCCESS})
            self._compare(tar, counts[tar], listed[_SUCCESS])
        for cause, count in causes.items():
            self.ignored[f"URL not fetched: {cause}"] += count
        if causes:
            shown = ", ".join(f"{count:,} {cause}" for cause, count in causes.most_common(6))
            self.warnings.append(
                f"{causes.total():,} of {num_listed:,} URLs gave no picture ({shown}). Those that timed out or were "
                "refused for a while may come with another run of img2dataset; the others are gone"
            )

    def _compare(self, tar: str, num_found: int, num_fetched: int) -> None:
        if num_found != num_fetched:
            self.warnings.append(
                f"{tar}: holds {num_found:,} pictures, its list says {num_fetched:,}: the two are of different runs, "
                "or the tar is not whole; fetch it again"
            )


def _statuses(path: Path) -> Counter[str]:
    """How many URLs of one list ended how: success, or the cause of the failure."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    counts: Counter[str] = Counter()
    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in ("status", "error_message") if name in file.schema_arrow.names]
            if "status" not in columns:
                raise InputError(f"{path}: has no column status; it is no list of img2dataset")
            for batch in file.iter_batches(columns=columns):
                rows = batch.to_pylist()
                counts.update(_cause(row["status"], row.get("error_message")) for row in rows)
    except pa.ArrowInvalid as exc:
        raise InputError(f"{path}: is no Parquet file or is cut off ({exc})") from exc
    return counts


def _cause(status: str | None, message: str | None) -> str:
    if status == _SUCCESS:
        return _SUCCESS
    found = _HTTP.search(message or "")
    if found:
        return f"HTTP {found[1]}"
    return next((name for name, pattern in _CAUSES if pattern.search(message or "")), status or "unknown")
