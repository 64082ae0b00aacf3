"""Every way a file can be odd or broken gives either upright RGB pixels or one reason."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sgv_data.images.decode import BadPicture, decode
from sgv_data.manifest import Pictures
from sgv_data.records import ImageReject

LIMITS = Pictures()
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def two_halves(width_px: int = 60, height_px: int = 40) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width_px, height_px), RED)
    image.paste(BLUE, (width_px // 2, 0, width_px, height_px))
    return image


def noise(width_px: int, height_px: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def reason(data: bytes, limits: Pictures = LIMITS) -> ImageReject:
    with pytest.raises(BadPicture) as caught:
        decode(data, limits)
    assert caught.value.detail
    return caught.value.reject


def near(pixel: tuple[int, ...], wanted: tuple[int, ...], tolerance: int = 12) -> bool:
    return all(abs(have - want) <= tolerance for have, want in zip(pixel, wanted, strict=True))


@pytest.mark.parametrize(
    ("kind", "name"),
    [("JPEG", "jpeg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("TIFF", "tiff"), ("BMP", "bmp"),
     ("PPM", "ppm"), ("JPEG2000", "jpeg2000")],
)  # fmt: skip
def test_common_formats_keep_size_and_colours(kind: str, name: str) -> None:
    facts, image = decode(saved(two_halves(), kind), LIMITS)
    assert (facts.format, facts.width_px, facts.height_px) == (name, 60, 40)
    assert image.mode == "RGB"
    assert near(image.getpixel((5, 20)), RED, 40)
    assert near(image.getpixel((55, 20)), BLUE, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_turns_the_picture_upright(kind: str, orientation: int) -> None:
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    upright = two_halves(64, 32)
    upright.paste((0, 255, 0), (0, 0, 16, 16))
    stored = upright.transpose(back[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    facts, image = decode(saved(stored, kind, exif=exif, **options), LIMITS)
    assert (facts.width_px, facts.height_px) == image.size == (64, 32)
    assert near(image.getpixel((4, 4)), (0, 255, 0), 40)
    assert near(image.getpixel((60, 28)), BLUE, 40)


def test_damaged_exif_is_passed_over() -> None:
    data = saved(two_halves(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\x01\x02")
    assert decode(data, LIMITS)[1].size == (60, 40)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_become_white(mode: str) -> None:
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (20, 0, 40, 40))
    pixels = decode(saved(image.convert(mode), "PNG"), LIMITS)[1]
    assert pixels.getpixel((5, 5)) == WHITE
    assert pixels.getpixel((35, 5)) == (0, 0, 0)


def test_half_transparent_is_mixed_with_white() -> None:
    image = Image.new("RGBA", (40, 40), (200, 0, 0, 128))
    assert near(decode(saved(image, "PNG"), LIMITS)[1].getpixel((5, 5)), (227, 127, 127), 2)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_colour_becomes_white(kind: str) -> None:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (20, 0, 40, 40))
    pixels = decode(saved(image, kind, transparency=0), LIMITS)[1]
    assert pixels.getpixel((5, 5)) == WHITE
    assert pixels.getpixel((35, 5)) == RED


def test_a_transparent_colour_of_a_plain_png_becomes_white() -> None:
    pixels = decode(saved(two_halves(), "PNG", transparency=RED), LIMITS)[1]
    assert pixels.getpixel((5, 5)) == WHITE
    assert pixels.getpixel((55, 5)) == BLUE


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(kind: str) -> None:
    image = Image.new("CMYK", (40, 40), (0, 255, 255, 0))
    assert near(decode(saved(image, kind), LIMITS)[1].getpixel((5, 5)), RED)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind: str) -> None:
    ramp_HW = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (32, 1))
    pixels = decode(saved(Image.fromarray(ramp_HW), kind), LIMITS)[1]
    assert pixels.getpixel((0, 0)) == (0, 0, 0)
    assert near(pixels.getpixel((32, 0)), (130, 130, 130), 2)
    assert pixels.getpixel((63, 0)) == WHITE


@pytest.mark.parametrize(("top", "kind"), [(1.0, np.float32), (255.0, np.float32), (1e6, np.float32), (1e6, np.int32)])
def test_floats_and_wide_integers_fill_the_range(top: float, kind: type) -> None:
    ramp_HW = np.tile(np.linspace(0, top, 64).astype(kind), (32, 1))
    pixels = decode(saved(Image.fromarray(ramp_HW), "TIFF"), LIMITS)[1]
    assert pixels.getpixel((0, 0)) == (0, 0, 0)
    assert near(pixels.getpixel((32, 0)), (130, 130, 130), 2)
    assert pixels.getpixel((63, 0)) == WHITE


def test_lab_and_one_bit_pictures_are_opened() -> None:
    lab = Image.new("LAB", (40, 40), (136, 208, 195))
    assert near(decode(saved(lab, "TIFF"), LIMITS)[1].getpixel((5, 5)), (255, 0, 0), 60)
    assert decode(saved(Image.new("1", (40, 40), 1), "PNG"), LIMITS)[1].getpixel((5, 5)) == WHITE


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in (RED, BLUE, WHITE)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert near(decode(data, LIMITS)[1].getpixel((5, 5)), RED)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_max_side_scales_down_and_keeps_the_facts(kind: str) -> None:
    facts, image = decode(saved(two_halves(900, 600), kind), LIMITS, max_side_px=90)
    assert (facts.width_px, facts.height_px) == (900, 600)
    assert image.size == (90, 60)
    assert near(image.getpixel((10, 30)), RED, 40)


def test_max_side_never_scales_up() -> None:
    assert decode(saved(two_halves(), "PNG"), LIMITS, max_side_px=500)[1].size == (60, 40)


def test_facts_of_a_turned_and_drafted_jpeg_are_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    facts, image = decode(saved(two_halves(1200, 800), "JPEG", exif=exif), LIMITS, max_side_px=100)
    assert (facts.width_px, facts.height_px) == (800, 1200)
    assert image.size == (67, 100)


def test_no_bytes() -> None:
    assert reason(b"") is ImageReject.EMPTY_FILE


@pytest.mark.parametrize(
    "data", [b"hello, world", b"<html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", bytes(99)]
)
def test_what_is_no_raster_picture(data: bytes) -> None:
    assert reason(data) is ImageReject.NOT_AN_IMAGE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000"])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_a_picture_cut_off(kind: str, share: float) -> None:
    data = saved(noise(120, 90), kind)
    assert reason(data[: max(40, int(len(data) * share))]) is ImageReject.TRUNCATED_IMAGE


def test_a_png_with_a_damaged_chunk() -> None:
    data = bytearray(saved(noise(60, 60), "PNG"))
    data[20] ^= 0xFF
    assert reason(bytes(data)) is ImageReject.TRUNCATED_IMAGE


def bomb(width_px: int, height_px: int) -> bytes:
    """A PNG of a few hundred bytes whose header claims any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side_px", [15_000, 20_000, 60_000, 2_000_000])
def test_a_decompression_bomb_is_not_decoded(side_px: int) -> None:
    assert reason(bomb(side_px, side_px)) is ImageReject.TOO_MANY_PIXELS


def test_our_limit_counts_and_not_that_of_pillow() -> None:
    facts, image = decode(bomb_free(14_000), Pictures(max_pixels=200_000_000), max_side_px=50)
    assert facts.width_px * facts.height_px > 178_956_970  # from here on Pillow alone would refuse
    assert image.size == (50, 50)


def bomb_free(side_px: int) -> bytes:
    return saved(Image.new("1", (side_px, side_px)), "PNG")


def test_one_pixel_over_the_limit() -> None:
    data = saved(two_halves(50, 40), "PNG")
    assert decode(data, Pictures(max_pixels=2000))[1].size == (50, 40)
    assert reason(data, Pictures(max_pixels=1999)) is ImageReject.TOO_MANY_PIXELS


def test_a_tiff_whose_tile_is_a_bomb() -> None:
    plain = [(256, 64), (257, 64), (258, 8), (259, 1), (262, 1), (277, 1)]  # 64 x 64 px, grey, 8 bits, not compressed
    tags = [*plain, (322, 60_000), (323, 60_000), (324, 200), (325, 64)]  # tiles: width, length, offset, size
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(400)
    assert reason(data) is ImageReject.TOO_MANY_PIXELS


def test_too_small() -> None:
    assert reason(saved(two_halves(40, 15), "PNG")) is ImageReject.TOO_SMALL
    assert decode(saved(two_halves(40, 16), "PNG"), LIMITS)[1].size == (40, 16)


def test_absurd_aspect() -> None:
    assert reason(saved(two_halves(402, 20), "PNG")) is ImageReject.ABSURD_ASPECT
    assert decode(saved(two_halves(400, 20), "PNG"), LIMITS)[1].size == (400, 20)


def test_details_do_not_differ_from_run_to_run() -> None:
    details = set()
    for _ in range(3):
        with pytest.raises(BadPicture) as caught:
            decode(b"no picture at all", LIMITS)
        details.add(str(caught.value))
    assert len(details) == 1
    assert "0x" not in details.pop()


def test_a_bad_picture_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(BadPicture(ImageReject.TOO_SMALL, "1 x 1 px")))
    assert (error.reject, error.detail) == (ImageReject.TOO_SMALL, "1 x 1 px")


def test_nothing_reaches_the_screen() -> None:
    code = (
        "import sys; from sgv_data.images.decode import *; from sgv_data.manifest import Pictures\n"
        "data = sys.stdin.buffer.read()\n"
        "for end in (len(data), len(data) // 2):\n"
        "    try: decode(data[:end], Pictures(), 50)\n"
        "    except BadPicture: pass\n"
    )
    data = saved(Image.new("1", (12_000, 12_000)), "PNG")  # a size at which Pillow would warn
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, env=environment, check=True)
    assert done.stdout + done.stderr == b""


def test_threads_do_not_disturb_each_other() -> None:
    datas = [saved(noise(64 + n, 48), "JPEG") for n in range(8)] + [b"", b"x" * 50, bomb(30_000, 30_000)]

    def outcome(data: bytes) -> object:
        try:
            return decode(data, LIMITS)[1].tobytes()
        except BadPicture as exc:
            return exc.reject

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, datas * 8)) == [outcome(data) for data in datas] * 8


SEEDS = [saved(noise(24, 20), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000")]


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12), st.data())
def test_damaged_bytes_give_pixels_or_a_reason(
    data: bytes, changes: list[tuple[int, int]], draw: st.DataObject
) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    cut = draw.draw(st.integers(0, len(damaged)))
    try:
        facts, image = decode(bytes(damaged[:cut]), Pictures(max_pixels=1_000_000))
    except BadPicture:
        return
    assert image.mode == "RGB"
    assert image.size == (facts.width_px, facts.height_px)
