"""The raster formats that are opened, their file extensions and how they begin."""

from __future__ import annotations

import re

# Pillow's name -> ours. Formats that run programs (EPS), hold vectors (WMF) or are mere containers stay out.
NAMES = {
    "JPEG": "jpeg",
    "MPO": "jpeg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "TIFF": "tiff",
    "BMP": "bmp",
    "PPM": "ppm",
    "JPEG2000": "jpeg2000",
    "AVIF": "avif",
}

EXTENSIONS = frozenset({
    "jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "gif", "tif", "tiff", "bmp",
    "ppm", "pgm", "pbm", "pnm", "jp2", "j2k", "jpx", "avif",
})  # fmt: skip
"""Lower case, without the dot: files so named count as pictures without a look inside."""

HEAD_BYTES = 32
"""How much of a file `sniff` wants to see."""

_BEGINNINGS = (
    ("jpeg", rb"\xff\xd8\xff"),
    ("png", rb"\x89PNG\r\n\x1a\n"),
    ("webp", rb"RIFF....WEBP"),
    ("gif", rb"GIF8[79]a"),
    ("tiff", rb"II[*+]\0|MM\0[*+]"),
    ("bmp", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
    ("ppm", rb"P[1-6]\s+(#|\d)"),
    ("jpeg2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xffO\xffQ"),
    ("avif", rb".{4}ftypavi[fs]"),
)
_PATTERNS = tuple((name, re.compile(pattern, re.DOTALL)) for name, pattern in _BEGINNINGS)


def sniff(head: bytes) -> str | None:
    """Our name of the format that the first `HEAD_BYTES` of a file announce, or None."""
    for name, pattern in _PATTERNS:
        if pattern.match(head):
            return name
    return None


def extension_of(name: str) -> str:
    """What follows the last dot of a file name, in lower case; empty when there is no dot."""
    stem, dot, extension = name.rpartition(".")
    return extension.lower() if dot and stem else ""
