"""The request key of every picture, remembered beside the table: a million keys are not made anew at every start.

A file of 8 bytes per row of the index, in the order of the index; 0 where the key is not known. It says which request
belongs to a picture, never that it was answered: that is asked of the replies. So it may be lost, torn or wrong: a key
that is missing is made again, and one that is wrong finds no answer, after which the picture is prepared and its true
key looked up. It counts only for the index and the questions it was made for; for others it is begun anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sgv_data.api.cache_bulk import Numbers
from sgv_data.api.keys import SentImage
from sgv_data.collect.questions import Questions
from sgv_data.manifest import Manifest
from sgv_data.records import ImageRow

_MARK = b"sgv keys"
_VERSION = 1
_HEAD_NUM_BYTES = 64
_PROBES = 64


class KeyFile:
    """`numbers` of the keys of all rows of an index (`cache_bulk.number_of`).

    `purpose`: digest of all that the keys depend on, 32 bytes. Without a folder for the file, or without room on the
    disk, they are kept in memory only.
    """

    def __init__(self, path: Path, purpose: bytes, num_rows: int) -> None:
        self._path = path
        self._head = _MARK + _VERSION.to_bytes(8, "little") + num_rows.to_bytes(8, "little") + b"\0" * 8 + purpose
        assert len(self._head) == _HEAD_NUM_BYTES
        found = self._read()
        self._is_kept = found is not None or self._begin(num_rows)
        self.numbers: Numbers = np.zeros(num_rows, dtype=np.uint64) if found is None else found

    def note(self, positions: npt.NDArray[np.int64], numbers: Sequence[int]) -> None:
        """Sets the keys of rows, given in rising order."""
        self.numbers[positions] = np.array(numbers, dtype=np.uint64)
        if not self._is_kept or not len(positions):
            return
        start, end = int(positions[0]), int(positions[-1]) + 1
        try:
            # Not through a memory map: on a full disk writing to one kills the process.
            with self._path.open("r+b") as file:
                file.seek(_HEAD_NUM_BYTES + 8 * start)
                file.write(self.numbers[start:end].astype("<u8").tobytes())
        except OSError:
            self._is_kept = False

    def _read(self) -> Numbers | None:
        try:
            data = self._path.read_bytes()
        except OSError:
            return None
        num_rows = int.from_bytes(self._head[16:24], "little")
        if data[:_HEAD_NUM_BYTES] != self._head or len(data) != _HEAD_NUM_BYTES + 8 * num_rows:
            return None
        return np.frombuffer(data, dtype="<u8", offset=_HEAD_NUM_BYTES).astype(np.uint64)

    def _begin(self, num_rows: int) -> bool:
        """Makes an empty file, never seen half made; whether that was possible."""
        if not self._path.parent.is_dir():
            return False
        temporary = self._path.with_name(self._path.name + ".tmp")
        try:
            temporary.write_bytes(self._head + b"\0" * (8 * num_rows))
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
            return False
        return True


def purpose_of(files: list[Path], manifest: Manifest, questions: Questions, recipe: str) -> bytes:
    """A digest of all that decides the keys: the index, how pictures become bytes, and what is asked about them."""
    digest = hashlib.sha256(f"{recipe}\n{manifest.seed}\n".encode())
    for path in files:
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    image = SentImage("0" * 64, "image/jpeg", 1, 1, 1)
    for source in manifest.images:
        prompts = questions.prompts_of(source.name)
        for number in range(_PROBES if len(prompts) > 1 else 2):
            digest.update(questions.key(_probe(source.name, number), image).encode())
        digest.update("".join(prompt.sha256 for prompt in prompts).encode())
    return digest.digest()


def _probe(source: str, number: int) -> ImageRow:
    """A made-up picture: how it is asked about shows every change of model, prompt or sampling."""
    return ImageRow(
        image_id=f"{source}/probe-{number}", source=source, key=f"probe-{number}", location="", license="",
        text=f"words {number}", num_bytes=1, sha256="0" * 64, format="jpeg", width_px=1, height_px=1, phash="0" * 16,
        reject=None, duplicate_of=None, detail=None, for_teacher=True, for_expand=False,
    )  # fmt: skip
