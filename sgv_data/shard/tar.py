"""One tar written so that equal content gives equal bytes, and so that a half-written one is never seen."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import Self

from sgv_data.run_folder import publish_file

_BUFFER_BYTES = 1 << 20

# What a tar is longer than its members: two empty blocks, then zeros up to a whole record.
MOST_TAIL_BYTES = 2 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE - 1


def padding(num_bytes: int) -> int:
    """How many zeros follow a payload of that size, up to a whole block."""
    return -num_bytes % tarfile.BLOCKSIZE


def member_num_bytes(payload_num_bytes: int) -> int:
    """How many bytes of a tar a member of that size takes: header, payload, padding."""
    return tarfile.BLOCKSIZE + payload_num_bytes + padding(payload_num_bytes)


class TarFile:
    """Writes USTAR with fixed headers (time, owner and group 0, mode 0644), hashing on the way.

    A context manager: the file gets its name in `close()`, and leaving without that removes what was written.
    """

    def __init__(self, final: Path) -> None:
        self._final = final
        self._temporary = final.with_name(f".{final.name}.tmp")
        self._hash = hashlib.sha256()
        self._offset = 0
        self._file = self._temporary.open("wb", buffering=_BUFFER_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, name: str, payload: bytes) -> int:
        """Appends a member; returns the offset of its payload in bytes."""
        header = tarfile.TarInfo(name)
        header.size = len(payload)
        self._write(header.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
        offset = self._offset
        self._write(payload)
        self._write(bytes(padding(len(payload))))
        return offset

    def close(self) -> tuple[int, str]:
        """Ends the archive and gives it its name, durably. Returns its size in bytes and its sha256."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self._offset % tarfile.RECORDSIZE))
        self._file.close()
        publish_file(self._temporary, self._final)
        return self._offset, self._hash.hexdigest()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._offset += len(data)
