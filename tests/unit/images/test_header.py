"""Pillow is the oracle: both must say the same of what it wrote."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sgv_data.images.header import HeaderGoesOn, header_size

KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {}), ("JPEG", "RGB", {"progressive": True}), ("JPEG", "CMYK", {}), ("JPEG", "L", {}),
    ("PNG", "RGBA", {}), ("PNG", "P", {}), ("WEBP", "RGB", {}), ("WEBP", "RGB", {"lossless": True}),
    ("WEBP", "RGBA", {}), ("WEBP", "RGB", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}), ("GIF", "P", {}),
]  # fmt: skip


def saved(kind: str, mode: str, size_px: tuple[int, int], **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size_px).save(buffer, kind, **options)
    return buffer.getvalue()


@given(st.sampled_from(KINDS), st.integers(1, 900), st.integers(1, 900))
@settings(deadline=None, max_examples=60)
def test_the_size_is_what_was_written(kind: tuple[str, str, dict[str, Any]], width_px: int, height_px: int) -> None:
    assert header_size(saved(kind[0], kind[1], (width_px, height_px), **kind[2])) == (width_px, height_px)


def test_tables_before_the_frame_are_not_taken_for_it() -> None:
    data = saved("JPEG", "RGB", (70, 50))
    assert header_size(data[:2] + b"\xff\xc4\0\x10" + bytes(14) + b"\xff\xff" + data[3:]) == (70, 50)


def test_a_size_behind_a_large_thumbnail_asks_for_more() -> None:
    data = saved("JPEG", "RGB", (70, 50), exif=b"Exif\0\0" + bytes(40_000), icc_profile=bytes(90_000))
    with pytest.raises(HeaderGoesOn) as caught:
        header_size(data[:4096])
    assert 40_000 < caught.value.num_bytes < len(data)
    assert header_size(data) == (70, 50)


@given(st.sampled_from(KINDS), st.integers(0, 400))
@settings(deadline=None, max_examples=60)
def test_a_cut_header_is_never_misread(kind: tuple[str, str, dict[str, Any]], length: int) -> None:
    data = saved(kind[0], kind[1], (300, 77), **kind[2])
    try:
        found = header_size(data[:length])
    except HeaderGoesOn as exc:
        found, needed = None, exc.num_bytes
        assert needed > length
    assert found in (None, (300, 77))


BEGINNINGS = [b"\xff\xd8\xff", b"RIFF0000WEBP", b"\x89PNG\r\n\x1a\n", b"GIF89a", b""]


@given(st.binary(max_size=200), st.sampled_from(BEGINNINGS))
def test_no_bytes_break_it(data: bytes, beginning: bytes) -> None:
    try:
        size_px = header_size(beginning + data)
        assert size_px is None or min(size_px) > 0
    except HeaderGoesOn:
        pass


def test_a_format_it_does_not_know_is_left_to_others() -> None:
    assert header_size(saved("BMP", "RGB", (3, 4))) is None
