"""Golden values: the provider's own examples, and values computed by hand from its rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgv_data.api.tokens import (
    image_tokens,
    most_image_tokens,
    rejected_patches,
    sent_size,
    sizing_name,
    used_size,
)
from sgv_data.manifest import Teacher, TeacherImage


@pytest.mark.parametrize(("model", "width_px", "height_px", "detail", "tokens"), [
    ("gpt-4o", 1024, 1024, "high", 765),
    ("gpt-4o", 2048, 4096, "high", 1105),
    ("gpt-4o", 1001, 2003, "high", 1105),  # the longer side is rounded down, to 1,536: three tiles
    ("gpt-4o", 4096, 8192, "low", 85),
    ("gpt-4o", 100, 100, "high", 255),
    ("gpt-4o-2024-08-06", 1024, 1024, "auto", 765),
    ("openai/gpt-4o", 1024, 1024, "high", 765),
    ("gpt-4.1", 1024, 1024, "high", 765),
    ("gpt-4-turbo", 1024, 1024, "high", 765),
    ("gpt-4-vision-preview", 1024, 1024, "high", 765),
    ("gpt-4o-mini", 1024, 1024, "high", 2833 + 4 * 5667),
    ("gpt-4o-mini", 1024, 1024, "low", 2833),
    ("gpt-5", 1024, 1024, "high", 70 + 4 * 140),
    ("gpt-5.1", 2048, 4096, "high", 70 + 6 * 140),
    ("gpt-5.1", 2048, 4096, "low", 70),
    ("o1", 1024, 1024, "high", 75 + 4 * 150),
    ("o1-pro", 1024, 1024, "high", 75 + 4 * 150),
    ("o3", 1024, 1024, "high", 75 + 4 * 150),
    ("computer-use-preview", 1024, 1024, "high", 65 + 4 * 129),
    ("gpt-5.6-luna", 1024, 1024, "high", 1229),
    ("gpt-5.6-luna", 4000, 3000, "original", 14_100),
    ("gpt-5.6-luna", 4000, 3000, "auto", 14_100),
    ("gpt-5.6-luna", 4000, 3000, "high", 2942),
    ("gpt-5.6-luna", 1024, 1024, "low", 308),
    ("gpt-5.6-sol", 4000, 3000, "high", 2942),
    ("gpt-5.6-terra", 4000, 3000, "auto", 14_100),
    ("gpt-5.5", 4000, 3000, "high", 2942),
    ("gpt-5.5", 4000, 3000, "auto", 11_868),  # 115 x 86 patches instead of 125 x 94
    ("gpt-5.5", 1024, 1024, "low", 308),
    ("gpt-5.4", 1024, 1024, "auto", 1229),
    ("gpt-5.4", 2048, 2048, "low", 4916),  # 64 x 64 patches, all of them
    ("gpt-5.4-mini", 2048, 2048, "high", 3000),
    ("gpt-5.4-nano", 2048, 2048, "original", 4916),
    ("gpt-5.2", 2048, 2048, "low", 4916),
    ("gpt-5.2", 2048, 2048, "high", 4916),
    ("gpt-5.2", 2048, 2048, "auto", 4916),
    ("gpt-4.1-mini", 1024, 1024, "high", 1659),
    ("gpt-4.1-mini", 1024, 1024, "low", 1659),
    ("gpt-4.1-nano", 1024, 1024, "high", 2520),
    ("gpt-5-mini", 1024, 1024, "high", 1229),
    ("gpt-5-nano", 1024, 1024, "high", 1536),
    ("o4-mini", 1024, 1024, "high", 1762),
    ("gpt-6-astra", 1024, 1024, "low", 308),
    ("gpt-6-astra", 4000, 3000, "auto", 14_100),
    ("claude-haiku-4-5", 560, 280, "high", 200),
    ("gemini-2.5-flash", 1000, 700, "high", 516),
])  # fmt: skip
def test_golden_values(model: str, width_px: int, height_px: int, detail: str, tokens: int) -> None:
    assert image_tokens(model, width_px, height_px, detail) == tokens


@pytest.mark.parametrize("model", ["gpt-5-pro", "gpt-6-luna", "my-llava", "gpt-4o-audio-preview"])
def test_an_unknown_model_is_not_guessed_from_its_relatives(model: str) -> None:
    assert image_tokens(model, 1024, 1024) is None
    assert most_image_tokens(model, 1024, 1024) == 74 * 74


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5.2", "gpt-4.1-mini"])
def test_a_detail_that_a_model_does_not_take_is_not_known(model: str) -> None:
    assert image_tokens(model, 1024, 1024, "original") is None


def test_too_many_patches_are_turned_down_and_not_resized() -> None:
    assert rejected_patches("gpt-5.6-luna", 6000, 6000, "original") == 188 * 188
    assert rejected_patches("gpt-5.6-luna", 5536, 5536, "original") is None
    assert rejected_patches("gpt-5.6-luna", 6000, 6000, "high") is None
    assert rejected_patches("gpt-5.5", 6000, 6000, "original") is None
    assert rejected_patches("gpt-4o", 20_000, 20_000, "high") is None


@pytest.mark.parametrize(("model", "detail", "size_px", "used_px"), [
    ("gpt-4o", "high", (4000, 3000), (1024, 768)),
    ("gpt-4o", "high", (3000, 4000), (768, 1024)),
    ("gpt-4o", "high", (700, 500), (700, 500)),
    ("gpt-4o", "high", (2048, 400), (2048, 400)),
    ("gpt-4o", "low", (4000, 3000), (512, 384)),
    ("gpt-5.6-luna", "low", (4000, 3000), (512, 384)),
    ("gpt-5.6-luna", "high", (4000, 3000), (1824, 1368)),
    ("gpt-5.6-luna", "auto", (4000, 3000), (4000, 3000)),
    ("gpt-5.4", "low", (4000, 3000), (2048, 1536)),
    ("my-llava", "high", (4000, 3000), (2048, 1536)),
    ("gemini-2.5-flash", "high", (4000, 3000), (2048, 1536)),
])  # fmt: skip
def test_the_size_a_model_works_with(
    model: str, detail: str, size_px: tuple[int, int], used_px: tuple[int, int]
) -> None:
    assert used_size(model, *size_px, detail) == used_px


SIDES = st.integers(1, 20_000)
FAMILIES = ["gpt-4o", "gpt-4o-mini", "gpt-5.1", "gpt-5.6-luna", "gpt-5.5", "gpt-5.4", "gpt-5.2", "gpt-4.1-mini",
            "gpt-4.1-nano", "gpt-6-astra", "claude-haiku-4-5", "claude-opus-5"]  # fmt: skip


@given(SIDES, SIDES, st.sampled_from(FAMILIES), st.sampled_from(["low", "high", "auto", "original"]))
def test_a_picture_sent_at_the_size_used_counts_for_the_same(
    width_px: int, height_px: int, model: str, detail: str
) -> None:
    used_px = used_size(model, width_px, height_px, detail)
    assert used_px[0] <= width_px
    assert used_px[1] <= height_px
    tokens = image_tokens(model, width_px, height_px, detail)
    if tokens is not None:
        assert image_tokens(model, *used_px, detail) == tokens
        assert used_size(model, *used_px, detail) == used_px


@given(SIDES, SIDES)
def test_a_model_with_a_patch_limit_never_exceeds_it(width_px: int, height_px: int) -> None:
    tokens = image_tokens("gpt-5.6-luna", width_px, height_px, "high")
    assert tokens is not None
    assert 1 <= tokens <= 3000


@given(SIDES, SIDES, st.sampled_from(FAMILIES))
def test_tokens_do_not_depend_on_which_side_is_longer(width_px: int, height_px: int, model: str) -> None:
    assert image_tokens(model, width_px, height_px) == image_tokens(model, height_px, width_px)


def teacher(model: str, **image: object) -> Teacher:
    return Teacher(model=model, image=TeacherImage.model_validate(image))


def test_the_manifest_may_name_a_smaller_size_than_the_models() -> None:
    assert sent_size(teacher("gpt-4o"), 4000, 3000) == (1024, 768)
    assert sent_size(teacher("gpt-4o", max_side_px=300), 4000, 3000) == (300, 225)


def test_models_that_work_with_the_same_size_share_its_name() -> None:
    assert sizing_name(teacher("gpt-4o")) == sizing_name(teacher("gpt-4o-mini", detail="auto"))
    names = {
        sizing_name(each)
        for each in (
            teacher("gpt-4o"), teacher("gpt-4o", detail="low"), teacher("gpt-5.6-luna"), teacher("my-llava"),
            teacher("gpt-5.6-luna", detail="auto"), teacher("claude-haiku-4-5"), teacher("m", max_side_px=512),
        )
    }  # fmt: skip
    assert len(names) == 7
