"""Reading a tar in one pass, distrustfully: every member with offset and bytes, and every way it can be damaged.

Python's `tarfile` ends quietly at a damaged header and at a missing end; here both are errors.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from sgv_data.shard.tar import padding

_ZEROS = bytes(tarfile.BLOCKSIZE)
_LONG_NAMES = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_NO_CONTENT = (tarfile.DIRTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK)
_MOST_HEADER_BYTES = 1 << 20


class DamagedTar(Exception):
    """The bytes are no whole tar; the message says where and how."""


@dataclass(frozen=True)
class Member:
    """A regular file in a tar; `offset_bytes` is where its payload begins."""

    name: str
    offset_bytes: int
    payload: bytes

    @cached_property
    def sha256(self) -> str:
        """Over the payload."""
        return hashlib.sha256(self.payload).hexdigest()


class TarScan:
    """Iterates over a tar's members; afterwards `num_bytes` and `sha256` are those of the whole file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._hash = hashlib.sha256()
        self.num_bytes = 0

    @property
    def sha256(self) -> str:
        """Over all bytes read so far."""
        return self._hash.hexdigest()

    def members(self) -> Iterator[Member]:
        """The members in order. The file is read to its end even where it is damaged.

        Raises:
            DamagedTar: after the members before the damage.
        """
        with self._path.open("rb", buffering=1 << 20) as file:
            try:
                yield from self._members(file)
            finally:
                while rest := self._read(file, 1 << 20):
                    del rest

    def _members(self, file: BinaryIO) -> Iterator[Member]:
        override: dict[str, str] = {}
        while (header := self._header(file)) is not None:
            size = int(override.get("size", header.size))
            if header.type in _LONG_NAMES:
                if size > _MOST_HEADER_BYTES:
                    raise DamagedTar(f"the extended header at byte {self.num_bytes} claims {size} bytes")
                override |= _long_name(header, self._payload(file, header, size))
                continue
            offset = self.num_bytes
            payload = self._payload(file, header, size)
            name = override.pop("path", header.name)
            override.clear()
            if header.isreg():
                yield Member(name, offset, payload)
            elif header.type not in _NO_CONTENT:
                raise DamagedTar(f"{name!r} is no regular file (type {header.type!r})")
        self._end(file)

    def _header(self, file: BinaryIO) -> tarfile.TarInfo | None:
        start = self.num_bytes
        block = self._read(file, tarfile.BLOCKSIZE)
        if block == _ZEROS:
            return None
        if not block:
            raise DamagedTar("it ends without end-of-archive blocks: cut off between two members")
        if len(block) < tarfile.BLOCKSIZE:
            raise DamagedTar(f"it is cut off inside a header, at byte {start + len(block)}")
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as exc:
            raise DamagedTar(f"the header at byte {start} is damaged ({exc})") from exc

    def _payload(self, file: BinaryIO, header: tarfile.TarInfo, size: int) -> bytes:
        padded = size + padding(size)
        if size < 0 or self.num_bytes + padded > self._size:
            raise DamagedTar(f"it is cut off inside {header.name!r}, at byte {self._size}")
        return self._read(file, padded)[:size]

    def _end(self, file: BinaryIO) -> None:
        if self._read(file, tarfile.BLOCKSIZE) != _ZEROS:
            raise DamagedTar("it has one end-of-archive block instead of two")
        while block := self._read(file, tarfile.RECORDSIZE):
            if block.count(0) != len(block):
                raise DamagedTar(f"something follows its end, near byte {self.num_bytes - len(block)}")

    def _read(self, file: BinaryIO, num_bytes: int) -> bytes:
        data = file.read(num_bytes)
        self._hash.update(data)
        self.num_bytes += len(data)
        return data


def _long_name(header: tarfile.TarInfo, payload: bytes) -> dict[str, str]:
    """Name and size that an extended header gives the member after it."""
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": payload.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    found = {}
    while payload:
        length, _, _ = payload.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(payload):
            raise DamagedTar("an extended header is damaged")
        name, _, value = payload[len(length) + 1 : int(length) - 1].partition(b"=")
        payload = payload[int(length) :]
        if name in (b"path", b"size"):
            found[name.decode()] = value.decode("utf-8", "surrogateescape")
    if not found.get("size", "0").isdigit():
        raise DamagedTar("an extended header is damaged")
    return found
