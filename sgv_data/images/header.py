"""The size of a picture from the first bytes of its file, for scans that open a million of them.

JPEG, PNG, WebP and GIF are read here; other formats are left to Pillow. The size is that of the stored pixels: EXIF
may turn it on its side.
"""

from __future__ import annotations

import struct

# Markers that start a frame; 0xC4, 0xC8 and 0xCC lie among them and mean something else.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKERS_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA


class HeaderGoesOn(Exception):
    """The size lies behind the bytes given; `num_bytes` are needed at least."""

    def __init__(self, num_bytes: int) -> None:
        super().__init__(num_bytes)
        self.num_bytes = num_bytes


def header_size(head: bytes) -> tuple[int, int] | None:
    """Width and height, or None for a format that is not read here or a damaged header.

    Raises:
        HeaderGoesOn: if more of the file is needed.
    """
    if head[:3] == b"\xff\xd8\xff":
        return _jpeg(head)
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return _fields(">II", head, 16) if head[12:16] == b"IHDR" else None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp(head)
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return _fields("<HH", head, 6)
    return None


def _fields(form: str, head: bytes, at: int) -> tuple[int, int] | None:
    if at + struct.calcsize(form) > len(head):
        raise HeaderGoesOn(at + struct.calcsize(form))
    width_px, height_px = struct.unpack_from(form, head, at)
    return (width_px, height_px) if width_px and height_px else None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    at = 2
    while True:
        if at + 4 > len(head):
            raise HeaderGoesOn(at + 9)
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _FRAME_MARKERS:
            size = _fields(">HH", head, at + 5)
            return size and (size[1], size[0])
        elif marker in _MARKERS_WITHOUT_LENGTH:
            at += 2
        elif marker in (_END_OF_IMAGE, _START_OF_SCAN, 0x00):
            return None
        else:
            at += 2 + max(2, int.from_bytes(head[at + 2 : at + 4], "big"))


def _webp(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if len(head) < 30:
        raise HeaderGoesOn(30)
    if kind == b"VP8 ":
        width_px, height_px = struct.unpack_from("<HH", head, 26)
        return (width_px & 0x3FFF, height_px & 0x3FFF) if head[23:26] == b"\x9d\x01\x2a" else None
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1) if head[20] == 0x2F else None
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    return None
