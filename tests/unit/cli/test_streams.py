from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sgv_data.cli.streams import Lasting

FULL = Path("/dev/full")


def pipe_without_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_what_nobody_reads_any_more_is_dropped() -> None:
    stream = Lasting(pipe_without_reader(), {errno.EPIPE})
    assert stream.write(b"12345") == 5


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_an_error_that_is_not_forgiven_is_raised() -> None:
    with FULL.open("wb") as full, pytest.raises(OSError, match="space"):
        Lasting(full.fileno(), {errno.EPIPE}).write(b"12345")


def test_what_is_read_arrives(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        Lasting(file.fileno(), {errno.EPIPE}).write(b"12345")
    assert (tmp_path / "log").read_bytes() == b"12345"
