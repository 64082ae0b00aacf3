"""How a dataset folder is laid out and how one sample is named: what `shard` writes, `publish` copies, `verify` reads.

    data/{split}-00000.tar          per sample the members KEY.{jpg,png,…}, KEY.json, KEY.txt, adjacent and sorted
    metadata/samples-*.parquet      SampleRow: where each member lies, with its hash; hash order
    metadata/shards-*.parquet       ShardRow
    metadata/removed.json           keys of samples that were removed on request, if there are any
    sizes.json                      {"train-00000.tar": number of samples}, as loaders read it
    wids-{split}.json               the tars of a split for access by number, as `wids` reads it
    SHA256SUMS                      of every other file, as `sha256sum -c` reads it
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sgv_data.records import FailureClass
from sgv_data.run_folder import file_sha256, write_durably

DATA = "data"
METADATA = "metadata"
SAMPLES = "samples"
SHARDS = "shards"
SIZES = "sizes.json"
REMOVED_KEYS = "removed.json"
CHECKSUMS = "SHA256SUMS"
CARD = "README.md"
SPLITS = ("train", "validation")

JSON_FIELD = "json"
TEXT_FIELD = "txt"

# Formats whose usual extension is not their name. MPO is a JPEG with more pictures behind the first.
_EXTENSIONS = {"jpeg": "jpg", "mpo": "jpg", "jpeg2000": "jp2"}
IMAGE_FIELDS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tiff", "tif", "jp2", "avif", "ppm")


@dataclass(frozen=True, slots=True)
class SampleFailure:
    """A picture that has a kept caption but could not be put into a shard. In `<shard>/failures-*.parquet`."""

    image_id: str
    key: str
    failure: FailureClass
    detail: str


def image_field(image_format: str) -> str:
    """The member extension of a picture format: `jpeg` gives `jpg`."""
    return _EXTENSIONS.get(image_format, image_format)


def tar_name(split: str, number: int) -> str:
    """`train-00000.tar`."""
    return f"{split}-{number:05d}.tar"


def wids_index(split: str) -> str:
    """`wids-train.json`."""
    return f"wids-{split}.json"


def is_of_shards(name: str) -> bool:
    """Whether a file of the `shard` stage's folder belongs to the dataset."""
    return name == SIZES or name in map(wids_index, SPLITS) or name.startswith((f"{DATA}/", f"{METADATA}/"))


def split_of(image_id: str, seed: int, validation_share: float) -> str:
    """The split of a picture: a draw that depends on nothing but its id and the seed."""
    if not validation_share:
        return SPLITS[0]
    drawn = hashlib.sha256(f"{seed}:split:{image_id}".encode("utf-8", "surrogatepass")).digest()
    return SPLITS[int.from_bytes(drawn[:8]) < validation_share * 2**64]


def visible_files(folder: Path) -> list[str]:
    """Names of the files below `folder` that belong to a dataset: hidden ones and stage records (`_*.json`) do not."""
    names = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        if path.is_file() and not hidden and not (name.startswith("_") and name.endswith(".json")):
            names.append(name)
    return sorted(names)


def write_checksums(folder: Path, names: Iterable[str], known: dict[str, str]) -> dict[str, str]:
    """Writes SHA256SUMS over `names`; hashes that are `known` are not computed again. Returns name -> sha256."""
    sums = {name: known.get(name) or file_sha256(folder / name) for name in sorted(names)}
    write_durably(folder / CHECKSUMS, "".join(f"{value}  {name}\n" for name, value in sums.items()))
    return sums


def parse_checksums(text: str) -> dict[str, str]:
    """Name -> sha256 from the text of a SHA256SUMS file.

    Raises:
        ValueError: naming the first line that is not `HASH  NAME`.
    """
    sums = {}
    for number, line in enumerate(text.splitlines(), 1):
        value, gap, name = line.partition("  ")
        if len(value) != 64 or not gap or not name:
            raise ValueError(f"line {number} is not HASH, two spaces, NAME")
        sums[name] = value
    return sums
