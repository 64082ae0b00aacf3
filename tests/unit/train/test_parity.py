"""The gate opens for equal samples and names the first difference otherwise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from sgv_data.captioner.load import Captioner
from sgv_data.captioner.render import Inputs, Renderer
from sgv_data.errors import TrainingError
from sgv_data.train.parity import check_parity
from tests.tiny_models import CAPTIONS, PROMPT, picture

SAMPLES = [(f"pics/{number}", picture(number), CAPTIONS[number]) for number in range(3)]


def test_equal_samples_pass(captioner: Captioner) -> None:
    assert check_parity(Renderer(captioner, PROMPT), captioner.processor, SAMPLES) == 3


class OtherPixels(Renderer):
    """Sees another picture when it is asked than when it is taught."""

    def training_inputs(self, image: Image.Image, caption: str) -> Inputs:
        inputs = super().training_inputs(image, caption)
        return {**inputs, "pixel_values": inputs["pixel_values"] + 0.25}


class OtherTokens(Renderer):
    """Has another word in the prompt when it is taught."""

    def training_inputs(self, image: Image.Image, caption: str) -> Inputs:
        inputs = super().training_inputs(image, caption)
        inputs["input_ids"][2] += 1
        return inputs


class LossOnThePrompt(Renderer):
    """Forgets to mask the prompt."""

    def training_inputs(self, image: Image.Image, caption: str) -> Inputs:
        inputs = super().training_inputs(image, caption)
        return {**inputs, "labels": inputs["input_ids"].clone()}


@pytest.mark.parametrize(
    ("drifted", "words"),
    [
        (OtherPixels, r"pics/0: training and generation see different pictures: pixel_values differs by 0\.25"),
        (OtherTokens, "pics/0: training and generation see different tokens: at 2 "),
        (LossOnThePrompt, "pics/0: the loss would not be on exactly the caption's tokens"),
    ],
)
def test_a_difference_is_named(captioner: Captioner, drifted: type[Renderer], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        check_parity(drifted(captioner, PROMPT), captioner.processor, SAMPLES)


def test_a_template_that_other_engines_render_differently_is_named(captioner: Captioner) -> None:
    class Changed:
        def __init__(self, processor: Any) -> None:
            self._processor = processor

        def __getattr__(self, name: str) -> Any:
            return getattr(self._processor, name)

        def apply_chat_template(self, *args: Any, **options: Any) -> Any:
            encoded = self._processor.apply_chat_template(*args, **options)
            encoded["input_ids"] = torch.cat([encoded["input_ids"][:, :1], encoded["input_ids"]], dim=1)
            return encoded

    with pytest.raises(TrainingError, match="and the model's own chat template see different tokens"):
        check_parity(Renderer(captioner, PROMPT), Changed(captioner.processor), SAMPLES)
