"""The count of operations agrees with torch's own counter, whatever is trained."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sgv_data.captioner.collate import collate
from sgv_data.captioner.load import Captioner
from sgv_data.captioner.parts import set_trained_parts
from sgv_data.captioner.render import Renderer
from sgv_data.manifest import Lora, TrainedParts
from sgv_data.train.flops import Amount, patches_of, peak_flops_per_s, training_cost
from tests.tiny_models import CAPTIONS, PROMPT, picture

PARTS = [
    TrainedParts(vision="full"),
    TrainedParts(),
    TrainedParts(vision="from_block_1"),
    TrainedParts(projector="frozen", language="from_block_1"),
    TrainedParts(vision="lora", language="lora", projector="lora"),
]


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: "-".join(str(value) for _, value in parts))
def test_the_count_is_that_of_torch(captioner: Captioner, parts: TrainedParts) -> None:
    renderer = Renderer(captioner, PROMPT)
    samples = [renderer.training_inputs(picture(number), CAPTIONS[0]) for number in range(3)]
    batch = collate(samples, "right", renderer.pad_id)
    set_trained_parts(captioner.model, parts, Lora(rank=4))
    num_tokens = len(samples[0]["input_ids"])
    patches, pairs = patches_of(batch["pixel_values"], 8)
    image_tokens = int((batch["input_ids"] == renderer.image_token_id).sum())

    counted = training_cost(captioner.model).of(
        Amount(3.0 * num_tokens, 3.0 * num_tokens**2, image_tokens, patches, pairs)
    )
    captioner.model.train()
    with FlopCounterMode(display=False) as torchs:
        torch.autograd.backward(captioner.model(**batch).loss)

    # Attention apart, which torch counts as if all tokens saw all others, and the class token.
    assert counted == pytest.approx(torchs.get_total_flops(), rel=0.15)


def test_patches_are_counted_in_pictures_and_in_rows_of_patches() -> None:
    assert patches_of(torch.zeros(2, 3, 32, 16), 8) == (16.0, 128.0)
    assert patches_of(torch.zeros(2, 5, 3, 16, 16), 8) == (40.0, 160.0)
    assert patches_of(torch.zeros(64, 1176), 14) == (64.0, 0.0)


def test_a_gpu_is_found_by_its_longest_known_name() -> None:
    assert peak_flops_per_s("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops_per_s("NVIDIA H100 PCIe") == 756e12
    assert peak_flops_per_s("NVIDIA L40S") == 362e12
    assert peak_flops_per_s("Somebody's TPU") is None
