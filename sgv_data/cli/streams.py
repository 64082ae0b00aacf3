"""Standard output and standard error that a command outlives: whoever was looking may go, the work goes on."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Container
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NOBODY_LOOKS = frozenset({errno.EPIPE, errno.EIO})
_ANY = range(1 << 16)


class Lasting(io.FileIO):
    """A descriptor to write to. What it cannot take, for one of the errors in `forgiven`, is dropped in silence."""

    def __init__(self, descriptor: int, forgiven: Container[int]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._forgiven = forgiven

    def write(self, data: ReadableBuffer, /) -> int:
        """As everywhere; of what is dropped it says that all was written."""
        try:
            return super().write(data)
        except OSError as exc:
            if exc.errno not in self._forgiven:
                raise
            return memoryview(data).nbytes


def outlive_readers() -> None:
    """From now on a closed terminal or pipe (`… | tee log`) ends no command: paid answers may be in the air.

    Standard error only tells how the work goes, so nothing that befalls it counts. Results on standard output still
    fail on a full disk. A character that the terminal does not have is shown as `?`.
    """
    sys.stdout = _lasting(sys.stdout, _NOBODY_LOOKS)
    sys.stderr = _lasting(sys.stderr, _ANY)


def _lasting(stream: TextIO, forgiven: Container[int]) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(Lasting(stream.fileno(), forgiven)),
        encoding=stream.encoding, errors="replace", line_buffering=stream.line_buffering,
    )  # fmt: skip
