from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance

from sgv_data.demo.scenes import draw, scene
from sgv_data.images.hashes import THUMB_BYTES, is_blank, phash_hex, thumb
from sgv_data.index import duplicates
from sgv_data.index.duplicates import kept_equals

Picture = tuple[int, int, int, bool]
"""Number of the bytes, perceptual hash, brightness of one corner, and whether its looks can be compared."""


def arrays(pictures: list[Picture]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    thumbs = np.full((len(pictures), THUMB_BYTES), 90, np.uint8)
    for row, picture in enumerate(pictures):
        thumbs[row, :3] = picture[2]
    return (
        np.array([b"%032d" % picture[0] for picture in pictures], "S32"),
        np.array([picture[1] for picture in pictures], np.uint64),
        thumbs,
        np.array([picture[3] for picture in pictures], np.bool_),
    )


def one_by_one(pictures: list[Picture], bits: int) -> list[int]:
    """The definition, literally: the earliest kept picture with the same bytes or the same looks."""
    equal: list[int] = []
    for row, picture in enumerate(pictures):
        kept = [other for other in range(row) if equal[other] == other]
        equal.append(next((other for other in kept if are_equal(picture, pictures[other], bits)), row))
    return equal


def are_equal(one: Picture, other: Picture, bits: int) -> bool:
    same_outlines = bits >= 0 and (one[1] ^ other[1]).bit_count() <= bits
    return one[0] == other[0] or (same_outlines and abs(one[2] - other[2]) <= 24 and one[3] and other[3])


@st.composite
def many_pictures(draw: st.DrawFn) -> list[Picture]:
    """Pictures near a few centres, some with equal bytes (and then equal in all)."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3))
    flips = st.lists(st.integers(0, 63), max_size=6).map(lambda bits: sum(1 << bit for bit in set(bits)))
    kinds = draw(
        st.lists(
            st.tuples(st.sampled_from(centres), flips, st.sampled_from([0, 20, 90, 200]), st.integers(0, 9)),
            max_size=40,
        )
    )
    distinct = [(n, centre ^ flip, corner, sure > 0) for n, (centre, flip, corner, sure) in enumerate(kinds)]
    return draw(st.lists(st.sampled_from(distinct), max_size=60)) if distinct else []


@given(many_pictures(), st.integers(-1, 16), st.integers(1, 70))
@settings(max_examples=150, deadline=None)
def test_the_search_finds_what_looking_at_all_pairs_finds(pictures: list[Picture], bits: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK_ROWS", block)
        patch.setattr(duplicates, "_MAX_PAIRS", 50)
        patch.setattr(duplicates, "_MAX_THUMB_PAIRS", 7)
        assert kept_equals(*arrays(pictures), bits).tolist() == one_by_one(pictures, bits)


def test_many_copies_of_few_pictures_in_several_blocks() -> None:
    rng = np.random.default_rng(3)
    centres = [int(value) for value in rng.integers(0, 2**63, 5)]
    pictures = [(n, centres[n % 5] ^ (1 << int(rng.integers(64))), 90, True) for n in range(6_000)]
    equal = kept_equals(*arrays(pictures), 4)
    assert equal.tolist() == [n % 5 for n in range(6_000)]


@pytest.mark.parametrize(("bits", "equal"), [(4, [0, 0]), (3, [0, 1])])
def test_the_radius_is_the_one_asked_for(bits: int, equal: list[int]) -> None:
    assert kept_equals(*arrays([(1, 0, 90, True), (2, 0b1111, 90, True)]), bits).tolist() == equal


def test_a_copy_names_a_kept_picture_and_not_another_copy() -> None:
    chain = [(1, 0b0, 90, True), (2, 0b1111, 90, True), (3, 0b11111111, 90, True), (2, 0b1111, 90, True)]
    assert kept_equals(*arrays(chain), 4).tolist() == [0, 0, 2, 0]


def features(images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.array([b"%032d" % number for number in range(len(images))], "S32"),
        np.array([int(phash_hex(image), 16) for image in images], np.uint64),
        np.stack([np.frombuffer(thumb(image), np.uint8) for image in images]),
        np.array([not is_blank(image) for image in images]),
    )


def copies_of(image: Image.Image) -> dict[str, Image.Image]:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return {
        "jpeg": Image.open(buffer).convert("RGB"),
        "half": image.resize((image.width // 2, image.height // 2)),
        "brighter": ImageEnhance.Brightness(image).enhance(1.08),
    }


def test_copies_of_a_picture_are_found() -> None:
    image = draw(scene(11, 4))
    for name, copy in copies_of(image).items():
        assert kept_equals(*features([image, copy]), 4).tolist() == [0, 0], name


def test_the_same_outlines_in_other_colours_are_another_picture() -> None:
    images = []
    for colour in ((200, 40, 40), (40, 40, 200)):
        image = Image.new("RGB", (128, 128), (230, 230, 230))
        ImageDraw.Draw(image).ellipse((20, 20, 60, 60), fill=colour)
        ImageDraw.Draw(image).rectangle((80, 70, 120, 120), fill=(60, 60, 60))
        images.append(image)
    columns = features(images)
    assert int(columns[1][0] ^ columns[1][1]).bit_count() <= 4  # the hash alone would call them equal
    assert kept_equals(*columns, 4).tolist() == [0, 1]


def test_scenes_of_the_demo_are_not_called_copies() -> None:
    equal = kept_equals(*features([draw(scene(7, number)) for number in range(300)]), 4)
    assert equal.tolist() == list(range(300))


def test_blank_pictures_are_equal_only_in_bytes() -> None:
    images = [Image.new("RGB", (side, side), (250, 250, 250)) for side in (40, 50, 60)]
    sha256, phash, thumbs, comparable = features(images)
    assert kept_equals(sha256, phash, thumbs, comparable, 4).tolist() == [0, 1, 2]
    sha256[2] = sha256[0]
    assert kept_equals(sha256, phash, thumbs, comparable, 4).tolist() == [0, 1, 0]
