"""Source kind `webdataset`: samples in plain local tars.

A sample is a run of members that share their name up to the first dot; its picture is the first member with a picture's
extension, its text the member `.txt`. A location is `TAR#OFFSET+SIZE`, so that one read gets a picture.
"""

from __future__ import annotations

import glob
import hashlib
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgv_data.errors import InputError
from sgv_data.images.formats import EXTENSIONS, extension_of
from sgv_data.sources.paths import fixed_part, quote_path, unquote_path
from sgv_data.sources.source import Entry, FilePart
from sgv_data.sources.texts import clean_text

_BLOCK_BYTES = tarfile.BLOCKSIZE
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True, slots=True)
class _Member:
    """One file in a tar: sample key, the rest of its name, and where its payload lies."""

    key: str
    suffix: str
    offset_bytes: int
    num_bytes: int


class WebDataset:
    """The samples of a tar, of all tars below a folder, or of those that a glob names."""

    size_px: tuple[int, int] | None = None

    def __init__(self, path: str) -> None:
        self._path = os.path.expanduser(path)
        self._root = fixed_part(self._path)
        self.ignored: Counter[str] = Counter()
        self.warnings: list[str] = []

    def identity(self) -> dict[str, Any]:
        """Digest over names and sizes of the tars."""
        hasher, tars = hashlib.sha256(), self.tars()
        for tar in tars:
            hasher.update(f"{quote_path(tar)}\0{(self._root / tar).stat().st_size}\n".encode())
        return {"tars": len(tars), "listing": hasher.hexdigest()}

    def entries(self) -> Iterator[Entry]:
        self.ignored, self.warnings = Counter(), []
        found_any = False
        for tar in self.tars():
            for entry in self.samples(tar):
                found_any = True
                yield entry
        if not found_any:
            raise InputError(f"{self._path}: no pictures in the tars there")

    def read(self, location: str) -> bytes:
        return self.part(location).read()

    def part(self, location: str) -> FilePart:
        tar, _, place = location.rpartition("#")
        offset, _, size = place.partition("+")
        if not tar or not offset.isdigit() or not size.isdigit():
            raise InputError(f"{location!r} is no place in a tar (TAR#OFFSET+SIZE)")
        return FilePart(f"{self._root}/{unquote_path(tar)}", int(offset), int(size))

    def tars(self) -> list[str]:
        """Paths of the tars relative to the root, sorted.

        Raises:
            InputError: if there are none.
        """
        path = Path(self._path)
        if path.is_dir():
            found = [tar for tar in path.rglob("*.tar") if tar.is_file()]
        elif path.is_file():
            found = [path]
        else:
            found = [Path(tar) for tar in glob.glob(self._path, recursive=True) if os.path.isfile(tar)]
        if not found:
            what = "this folder holds no .tar files" if path.is_dir() else "no such tar or folder, no glob that matches"
            raise InputError(f"{self._path}: {what}")
        return sorted(str(tar.relative_to(self._root)) for tar in found)

    def num_bytes(self, tar: str) -> int:
        """The size of one of `tars()`."""
        return (self._root / tar).stat().st_size

    def samples(self, tar: str) -> Iterator[Entry]:
        """The entries of one of `tars()`, in its order.

        Raises:
            InputError: if it is damaged.
        """
        sample: list[_Member] = []
        for member in self._members(tar):
            if sample and member.key != sample[0].key:
                yield from self._entry(tar, sample)
                sample = []
            if any(member.suffix == other.suffix for other in sample):
                raise InputError(f"{self._root / tar}: sample {member.key!r} holds two members .{member.suffix}")
            sample.append(member)
        if sample:
            yield from self._entry(tar, sample)

    def _entry(self, tar: str, sample: list[_Member]) -> Iterator[Entry]:
        picture = next((each for each in sample if extension_of("." + each.suffix) in EXTENSIONS), None)
        picture = picture or next((each for each in sample if each.suffix in EXTENSIONS), None)
        if picture is None:
            self.ignored["sample without picture"] += 1
            return
        words = next((each for each in sample if each.suffix.lower() == "txt"), None)
        text = clean_text(self.read(_location(tar, words))) if words else None
        stem = tar.removesuffix(".tar")
        yield Entry(key=quote_path(f"{stem}/{picture.key}"), location=_location(tar, picture), text=text)

    def _members(self, tar: str) -> Iterator[_Member]:
        """Plain files of one tar in their order; hidden ones are left out.

        Raises:
            InputError: if the tar is compressed, no tar, damaged or cut off, with the byte where it ends.
        """
        path = self._root / tar
        with path.open("rb") as file:
            if file.read(6).startswith(_COMPRESSED):
                raise InputError(f"{path}: is compressed; unpack it to a plain .tar first")
            file.seek(0)
            try:
                archive = tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
            except tarfile.TarError as exc:
                raise InputError(f"{path}: is no tar or is damaged at its beginning ({exc})") from exc
            while (member := _next(archive, path)) is not None:
                archive.members.clear()  # type: ignore[attr-defined]
                found = _as_member(member)
                if found is not None:
                    yield found
                elif not member.isdir():
                    self.ignored["hidden or special member"] += 1
            self._check_end(path, archive.offset)

    def _check_end(self, path: Path, offset_bytes: int) -> None:
        """Sees that the tar ends with a block of zeros and not in the middle."""
        with path.open("rb") as file:
            file.seek(offset_bytes)
            block = file.read(_BLOCK_BYTES)
        if block.strip(b"\0") or 0 < len(block) < _BLOCK_BYTES:
            raise InputError(f"{path}: is cut off or damaged at byte {offset_bytes}; fetch it again")
        if not block:
            self.warnings.append(
                f"{path.name}: ends at byte {offset_bytes} without the blocks that close a tar; perhaps cut off"
            )


def _next(archive: tarfile.TarFile, path: Path) -> tarfile.TarInfo | None:
    try:
        return archive.next()
    except tarfile.TarError as exc:
        raise InputError(f"{path}: is cut off or damaged at byte {archive.offset} ({exc}); fetch it again") from exc


def _as_member(info: tarfile.TarInfo) -> _Member | None:
    folder, _, name = info.name.removeprefix("./").rpartition("/")
    if not info.isreg() or info.issparse() or name.startswith("."):
        return None
    stem, _, suffix = name.partition(".")
    return _Member(f"{folder}/{stem}" if folder else stem, suffix, info.offset_data, info.size)


def _location(tar: str, member: _Member) -> str:
    return f"{quote_path(tar, also='#')}#{member.offset_bytes}+{member.num_bytes}"
