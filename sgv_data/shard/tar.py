"""One tar written so that equal content gives equal bytes, and so that a half-written one is never seen."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path
from typing import Self

from sgv_data.run_folder import publish_file

_BUFFER_BYTES = 1 << 20
_MOST_PARTS = 512

# What a tar is longer than its members: two empty blocks, then zeros up to a whole record.
MOST_TAIL_BYTES = 2 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE - 1


def padding(num_bytes: int) -> int:
    """How many zeros follow a payload of that size, up to a whole block."""
    return -num_bytes % tarfile.BLOCKSIZE


def member_num_bytes(payload_num_bytes: int) -> int:
    """How many bytes of a tar a member of that size takes: header, payload, padding."""
    return tarfile.BLOCKSIZE + payload_num_bytes + padding(payload_num_bytes)


def _header(name: str, num_bytes: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size = num_bytes
    return header.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


_TEMPLATE = bytearray(_header("", 0))
_NAME, _SIZE, _CHECKSUM = slice(0, 100), slice(124, 136), slice(148, 156)
_TEMPLATE[_CHECKSUM] = b" " * 8


def _short_header(name: str, num_bytes: int) -> bytes:
    """`_header` ten times as fast, for names that fit its first field: only name, size and checksum differ."""
    encoded = name.encode("ascii")
    if len(encoded) > 100 or num_bytes >= 8**11:
        return _header(name, num_bytes)
    header = _TEMPLATE.copy()
    header[_NAME] = encoded.ljust(100, b"\0")
    header[_SIZE] = b"%011o\0" % num_bytes
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header)


class TarFile:
    """Writes USTAR with fixed headers (time, owner and group 0, mode 0644), hashing on the way.

    A context manager: the file gets its name in `close()`, and leaving without that removes what was written.
    """

    def __init__(self, final: Path) -> None:
        self._final = final
        self._temporary = final.with_name(f".{final.name}.tmp")
        self._hash = hashlib.sha256()
        self._offset = 0
        self._waiting: list[bytes] = []
        self._num_waiting = 0
        self._file = self._temporary.open("wb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, name: str, payload: bytes) -> int:
        """Appends a member; returns the offset of its payload in bytes."""
        self._write(_short_header(name, len(payload)))
        offset = self._offset
        self._write(payload)
        self._write(bytes(padding(len(payload))))
        return offset

    def close(self) -> tuple[int, str]:
        """Ends the archive and gives it its name, durably. Returns its size in bytes and its sha256."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self._offset % tarfile.RECORDSIZE))
        self._flush()
        self._file.close()
        publish_file(self._temporary, self._final)
        return self._offset, self._hash.hexdigest()

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        self._offset += len(data)
        self._waiting.append(data)
        self._num_waiting += len(data)
        if self._num_waiting >= _BUFFER_BYTES or len(self._waiting) >= _MOST_PARTS:
            self._flush()

    def _flush(self) -> None:
        """Hands what waits to the system in one call, without putting it together first."""
        done = os.writev(self._file.fileno(), self._waiting) if self._waiting else 0
        if done < self._num_waiting:
            # The disk is full, as the next write says, or the call took only part of it.
            rest = memoryview(b"".join(self._waiting))[done:]
            while rest:
                rest = rest[os.write(self._file.fileno(), rest) :]
        self._waiting, self._num_waiting = [], 0
