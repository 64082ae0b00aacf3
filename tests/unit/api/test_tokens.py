"""Golden values: the provider's own examples, and values computed by hand from its rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgv_data.api.tokens import image_tokens, most_image_tokens


@pytest.mark.parametrize(("model", "width_px", "height_px", "detail", "tokens"), [
    ("gpt-4o", 1024, 1024, "high", 765),
    ("gpt-4o", 2048, 4096, "high", 1105),
    ("gpt-4o", 4096, 8192, "low", 85),
    ("gpt-4o", 100, 100, "high", 255),
    ("gpt-4o-2024-08-06", 1024, 1024, "auto", 765),
    ("openai/gpt-4o", 1024, 1024, "high", 765),
    ("gpt-4o-mini", 1024, 1024, "high", 2833 + 4 * 5667),
    ("gpt-4o-mini", 1024, 1024, "low", 2833),
    ("gpt-5", 1024, 1024, "high", 70 + 4 * 140),
    ("o3", 1024, 1024, "high", 75 + 4 * 150),
    ("gpt-5.6-luna", 1024, 1024, "high", 1229),
    ("gpt-5.6-luna", 4000, 3000, "original", 14_100),
    ("gpt-5.6-luna", 4000, 3000, "auto", 14_100),
    ("gpt-5.6-luna", 4000, 3000, "high", 2942),
    ("gpt-5.6-luna", 1024, 1024, "low", 308),
    ("gpt-4.1-mini", 1024, 1024, "high", 1659),
    ("gpt-5.4", 1024, 1024, "auto", 1229),
    ("claude-haiku-4-5", 560, 280, "high", 200),
    ("gemini-2.5-flash", 1000, 700, "high", 516),
])  # fmt: skip
def test_golden_values(model: str, width_px: int, height_px: int, detail: str, tokens: int) -> None:
    assert image_tokens(model, width_px, height_px, detail) == tokens


@pytest.mark.parametrize("model", ["gpt-5-pro", "gpt-6-luna", "my-llava", "gpt-4o-audio-preview"])
def test_an_unknown_model_is_not_guessed_from_its_relatives(model: str) -> None:
    assert image_tokens(model, 1024, 1024) is None
    assert most_image_tokens(model, 1024, 1024) == 74 * 74


SIDES = st.integers(1, 20_000)


@given(SIDES, SIDES)
def test_a_model_with_a_patch_limit_never_exceeds_it(width_px: int, height_px: int) -> None:
    tokens = image_tokens("gpt-5.6-luna", width_px, height_px, "high")
    assert tokens is not None
    assert 1 <= tokens <= 3000


@given(SIDES, SIDES, st.sampled_from(["gpt-4o", "gpt-4o-mini", "gpt-5.1"]))
def test_tiles_do_not_depend_on_which_side_is_longer(width_px: int, height_px: int, model: str) -> None:
    assert image_tokens(model, width_px, height_px) == image_tokens(model, height_px, width_px)
