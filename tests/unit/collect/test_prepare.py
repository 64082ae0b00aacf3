from __future__ import annotations

import hashlib
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sgv_data.api.tokens import sent_size
from sgv_data.collect.prepare import Prepared, Untouched, Unusable, filled, fit, prepare_batch, recipe_name
from sgv_data.images.decode import BadPicture
from sgv_data.manifest import Manifest
from sgv_data.records import FailureClass, ImageRow
from tests.servers.collect_run import draw, index_row


def manifest(model: str = "m", **image: Any) -> Manifest:
    return Manifest.model_validate({
        "name": "t", "images": [{"kind": "folder", "name": "n", "path": "p"}],
        "teacher": {"model": model, "image": {"max_side_px": 64, **image}},
    })  # fmt: skip


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PLAIN = Image.linear_gradient("L").resize((60, 40)).convert("RGB")


@pytest.mark.parametrize(("kind", "media_type"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")])
def test_a_picture_that_fits_is_sent_untouched(kind: str, media_type: str) -> None:
    data = saved(PLAIN, kind)
    prepared = fit(data, manifest())
    assert prepared.data == data
    assert prepared.image.sha256 == hashlib.sha256(data).hexdigest()
    assert (prepared.image.media_type, prepared.image.width_px, prepared.image.height_px) == (media_type, 60, 40)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(PLAIN, "JPEG", exif=exif)


REDRAWN = {
    "too large": (saved(PLAIN.resize((600, 400)), "JPEG"), (64, 43)),
    "lying on its side": (turned(), (40, 60)),
    "transparent": (saved(PLAIN.convert("RGBA"), "PNG"), (60, 40)),
    "palette": (saved(PLAIN.convert("P"), "PNG"), (60, 40)),
    "16 bits": (saved(Image.new("I;16", (60, 40)), "PNG"), (60, 40)),
    "CMYK": (saved(PLAIN.convert("CMYK"), "JPEG"), (60, 40)),
    "animated": (saved(PLAIN, "WEBP", save_all=True, append_images=[PLAIN.rotate(90)], lossless=True), (60, 40)),
    "GIF": (saved(PLAIN, "GIF"), (60, 40)),
    "BMP": (saved(PLAIN, "BMP"), (60, 40)),
    "colour marked transparent": (saved(PLAIN, "PNG", transparency=(0, 0, 0)), (60, 40)),
}


@pytest.mark.parametrize("name", REDRAWN)
def test_any_other_picture_becomes_an_upright_jpeg_of_the_right_size(name: str) -> None:
    data, size = REDRAWN[name]
    prepared = fit(data, manifest())
    with Image.open(io.BytesIO(prepared.data)) as sent:
        assert (sent.format, sent.mode, sent.size) == ("JPEG", "RGB", size)
        assert (prepared.image.width_px, prepared.image.height_px) == size
    assert prepared.image.media_type == "image/jpeg"


def test_the_same_picture_gives_the_same_bytes() -> None:
    data = REDRAWN["too large"][0]
    assert fit(data, manifest()).data == fit(data, manifest()).data


def test_a_broken_picture_is_told() -> None:
    with pytest.raises(BadPicture):
        fit(b"no picture", manifest())


def recipe(model: str = "m", **image: Any) -> str:
    return recipe_name(manifest(model, **image).teacher)


def test_what_changes_the_bytes_changes_the_recipe() -> None:
    recipes = {
        recipe(), recipe(max_side_px=99), recipe(jpeg_quality=1), recipe(max_side_px="model"),
        recipe("gpt-4o", max_side_px="model"), recipe("gpt-4o", max_side_px="model", detail="low"),
    }  # fmt: skip
    assert len(recipes) == 6


def test_what_does_not_does_not() -> None:
    assert recipe(detail="low") == recipe() == recipe("gpt-4o")
    assert recipe("gpt-4o", max_side_px="model") == recipe("gpt-4.1", max_side_px="model", detail="auto")


@pytest.mark.parametrize(
    ("size_px", "sent_px"),
    [((2100, 900), (1791, 768)), ((900, 2100), (768, 1791)), ((1000, 999), (768, 768))],
)
def test_a_picture_goes_out_at_the_size_the_model_works_with(
    size_px: tuple[int, int], sent_px: tuple[int, int]
) -> None:
    prepared = fit(saved(PLAIN.resize(size_px), "JPEG"), manifest("gpt-4o", max_side_px="model"))
    assert (prepared.image.width_px, prepared.image.height_px) == sent_px
    with Image.open(io.BytesIO(prepared.data)) as sent:
        assert sent.size == sent_px


@given(st.integers(1, 700), st.integers(1, 700))
@settings(deadline=None, max_examples=25)
def test_a_picture_of_any_size_is_sent_at_exactly_the_size_planned(width_px: int, height_px: int) -> None:
    made = manifest("gpt-4o", max_side_px="model", detail="low")
    limits = made.pictures.model_copy(update={"min_side_px": 1, "max_aspect": 1e9})
    made = made.model_copy(update={"pictures": limits})
    prepared = fit(saved(Image.new("RGB", (width_px, height_px)), "JPEG"), made)
    expected = sent_size(made.teacher, width_px, height_px)
    assert (prepared.image.width_px, prepared.image.height_px) == expected


def test_a_picture_the_size_the_model_works_with_is_untouched() -> None:
    data = saved(PLAIN.resize((2048, 400)), "JPEG")
    assert fit(data, manifest("gpt-4o", max_side_px="model")).data == data


def test_a_picture_that_the_provider_would_turn_down_is_not_sent() -> None:
    data = saved(Image.new("L", (6000, 6000)), "JPEG")
    with pytest.raises(BadPicture, match=r"35,344 patches, more than gpt-5\.6-luna takes"):
        fit(data, manifest("gpt-5.6-luna", max_side_px="model", detail="original"))
    assert fit(data, manifest("gpt-5.6-luna", max_side_px="model", detail="high")).image.width_px == 1600


def test_damaged_exif_data_does_not_make_a_picture_unusable() -> None:
    data = saved(PLAIN, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken")
    assert fit(data, manifest()).image.width_px == 60


# --- between processes ---


def on_disk(folder: Path, data: bytes) -> tuple[ImageRow, str]:
    (folder / "a.jpg").write_bytes(data)
    values = manifest().model_dump(mode="json")
    values["images"][0]["path"] = str(folder)
    draw(1).save(folder / "like.png")
    row = replace(
        index_row(folder / "like.png"), source="n", location="a.jpg", sha256=hashlib.sha256(data).hexdigest()
    )
    return row, Manifest.model_validate(values).model_dump_json()


def test_an_untouched_picture_travels_without_its_bytes(tmp_path: Path) -> None:
    data = saved(PLAIN, "JPEG")
    row, manifest_json = on_disk(tmp_path, data)
    (picture,) = prepare_batch(manifest_json, [row])
    assert isinstance(picture, Untouched)
    assert filled(picture) == Prepared(picture.image, data)


def test_a_redrawn_picture_travels_with_them(tmp_path: Path) -> None:
    row, manifest_json = on_disk(tmp_path, REDRAWN["too large"][0])
    (picture,) = prepare_batch(manifest_json, [row])
    assert isinstance(picture, Prepared)
    assert filled(picture) is picture


def test_a_picture_that_is_changed_or_gone_on_the_way_is_told(tmp_path: Path) -> None:
    data = saved(PLAIN, "JPEG")
    row, manifest_json = on_disk(tmp_path, data)
    (picture,) = prepare_batch(manifest_json, [row])
    (tmp_path / "a.jpg").write_bytes(data[:-1] + b"x")
    os.utime(tmp_path / "a.jpg", ns=(1, 1))
    changed = filled(picture)
    (tmp_path / "a.jpg").unlink()
    gone = filled(picture)
    for each in (changed, gone):
        assert isinstance(each, Unusable)
        assert each.failure is FailureClass.IMAGE_CHANGED


def test_a_picture_with_other_bytes_than_indexed_is_told(tmp_path: Path) -> None:
    row, manifest_json = on_disk(tmp_path, saved(PLAIN, "JPEG"))
    (picture,) = prepare_batch(manifest_json, [replace(row, sha256="0" * 64)])
    assert isinstance(picture, Unusable)
    assert picture.failure is FailureClass.IMAGE_CHANGED
