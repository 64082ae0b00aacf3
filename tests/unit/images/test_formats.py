from __future__ import annotations

import io

import pytest
from PIL import Image

from sgv_data.images.formats import HEAD_BYTES, NAMES, extension_of, sniff


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF"])
def test_every_format_is_known_by_its_first_bytes(kind: str) -> None:
    if kind not in Image.SAVE and kind == "AVIF":
        pytest.skip("this Pillow has no AVIF")
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, format=kind)
    assert sniff(buffer.getvalue()[:HEAD_BYTES]) == NAMES[kind]


@pytest.mark.parametrize(
    "head", [b"", b"BM is a word", b"P1 and only", b"GIF is a kind", b"%PDF-1.4", b"RIFF1234WAVEfmt "]
)
def test_other_bytes_are_no_picture(head: bytes) -> None:
    assert sniff(head) is None


def test_extension_is_lower_case_and_hidden_names_have_none() -> None:
    assert [extension_of(name) for name in ("A.JPG", "a.b.png", ".png", "plain")] == ["jpg", "png", "", ""]
