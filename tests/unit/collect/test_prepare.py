from __future__ import annotations

import hashlib
import io
from typing import Any

import pytest
from PIL import Image

from sgv_data.collect.prepare import fit, recipe_name
from sgv_data.images.decode import BadPicture
from sgv_data.manifest import Manifest, TeacherImage


def manifest(**image: Any) -> Manifest:
    return Manifest.model_validate({
        "name": "t", "images": [{"kind": "folder", "name": "n", "path": "p"}],
        "teacher": {"model": "m", "image": {"max_side_px": 64, **image}},
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


def test_what_changes_the_bytes_changes_the_recipe() -> None:
    changes: list[dict[str, int]] = [{}, {"max_side_px": 99}, {"jpeg_quality": 1}]
    assert len({recipe_name(TeacherImage.model_validate(change)) for change in changes}) == 3
    assert recipe_name(TeacherImage(detail="low")) == recipe_name(TeacherImage())
