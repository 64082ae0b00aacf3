"""The gate before training: what the model learns from must be what it will be asked with.

Three ways to the same sample are compared: the one training takes, the one generation takes, and the chat template of
the model's own processor, which is what other engines use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sgv_data.captioner.render import IGNORED, TOKEN_KEYS, Inputs, Renderer
from sgv_data.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

CHECKED_SAMPLES = 4


def check_parity(renderer: Renderer, processor: Any, samples: Iterable[tuple[str, Image, str]]) -> int:
    """Compares the three ways for each (image id, picture, caption); returns how many samples were compared.

    Raises:
        TrainingError: with the first difference.
    """
    num_checked = 0
    for image_id, image, caption in samples:
        trained, asked = renderer.training_inputs(image, caption), renderer.prompt_inputs(image)
        _same(image_id, "generation", trained, asked)
        _same(image_id, "the model's own chat template", asked, _by_template(renderer, processor, image))
        _labels_are_the_caption(image_id, renderer, trained, asked, caption)
        num_checked += 1
    return num_checked


def _by_template(renderer: Renderer, processor: Any, image: Image) -> Inputs | None:
    """The prompt as `apply_chat_template` makes it in one go; None for a model without a template."""
    if not (getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)):
        return None
    (message,) = renderer.messages
    content = [{"type": "image", "image": image} if part["type"] == "image" else part for part in message["content"]]
    encoded = processor.apply_chat_template(
        [{**message, "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    return {name: value[0] if name in TOKEN_KEYS else value for name, value in encoded.items()}


def _same(image_id: str, other_way: str, mine: Inputs, other: Inputs | None) -> None:
    if other is None:
        return
    theirs = other["input_ids"].tolist()
    ours = mine["input_ids"].tolist()[: len(theirs)]
    if ours != theirs:
        place = next((at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), len(ours))
        raise TrainingError(
            f"{image_id}: training and {other_way} see different tokens: at {place} {ours[place : place + 5]} against "
            f"{theirs[place : place + 5]}"
        )
    for name in sorted({*mine, *other} - {*TOKEN_KEYS}):
        if name not in mine or name not in other:
            raise TrainingError(f"{image_id}: only one of training and {other_way} is given {name}")
        _same_values(image_id, other_way, name, mine[name], other[name])


def _same_values(image_id: str, other_way: str, name: str, mine: torch.Tensor, other: torch.Tensor) -> None:
    if mine.shape != other.shape:
        raise TrainingError(
            f"{image_id}: training and {other_way} see pictures of different shape: {name} is {tuple(mine.shape)} "
            f"against {tuple(other.shape)}"
        )
    furthest = float((mine.double() - other.double()).abs().max()) if mine.numel() else 0.0
    if furthest > 0:
        raise TrainingError(
            f"{image_id}: training and {other_way} see different pictures: {name} differs by {furthest}"
        )


def _labels_are_the_caption(image_id: str, renderer: Renderer, trained: Inputs, asked: Inputs, caption: str) -> None:
    labels = trained["labels"].tolist()
    num_prompt = len(asked["input_ids"])
    expected = [IGNORED] * num_prompt + renderer.answer_ids(caption)
    if labels != expected[: len(labels)] or all(label == IGNORED for label in labels):
        raise TrainingError(f"{image_id}: the loss would not be on exactly the caption's tokens and the end token")
