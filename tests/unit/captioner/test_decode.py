"""The rolling batch gives what `generate` gives, also where positions are counted by time, row and column."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sgv_data.captioner.decode import RollingBatch, Row, can_roll
from sgv_data.captioner.render import Inputs
from sgv_data.captioner.setting import Setting, ends_in_loop, seed_of
from sgv_data.captioner.whole import WholeBatch

IMAGE_TOKEN = 90
END_IDS = list(range(0, 80, 7))


@pytest.fixture(scope="module")
def qwen() -> Any:
    """A tiny Qwen2.5-VL with large random weights, so that pictures matter."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    torch.set_num_threads(1)
    text = {
        "vocab_size": 100, "hidden_size": 64, "num_key_value_heads": 1, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1,
        "eos_token_id": 0, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]},
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
    }  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision, image_token_id=IMAGE_TOKEN)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def sample(seed: int, rows: int, columns: int) -> Inputs:
    """A picture of so many patches between words."""
    chance = torch.Generator().manual_seed(seed)
    words_T = torch.randint(1, 80, (6,), generator=chance)
    ids_T = torch.cat([words_T[:2], torch.full((rows * columns // 4,), IMAGE_TOKEN), words_T[2:]])
    return {
        "input_ids": ids_T, "attention_mask": torch.ones_like(ids_T),
        "mm_token_type_ids": (ids_T == IMAGE_TOKEN).long(),
        "pixel_values": torch.randn(rows * columns, 3 * 2 * 14 * 14, generator=chance),
        "image_grid_thw": torch.tensor([[1, rows, columns]]),
    }  # fmt: skip


def rows_of(count: int) -> list[Row]:
    sizes = [(4, 4), (4, 8), (8, 4)]
    return [Row(number, sample(number, *sizes[number % 3]), Setting(20), 0) for number in range(count)]


def finished(batch: RollingBatch | WholeBatch, rows: list[Row], at_once: int) -> dict[int, list[int]]:
    """Everything decoded, with new rows joining as soon as there is room."""
    waiting, found = list(rows), {}
    with torch.inference_mode():
        while waiting or batch.num_rows:
            room = at_once - batch.num_rows
            if waiting and room and (batch.joins_running or not batch.num_rows):
                batch.join(waiting[:room])
                waiting = waiting[room:]
            found.update({row.tag: row.tokens for row in batch.step()})
    return found


def test_positions_in_three_dimensions_are_counted_as_generate_counts_them(qwen: Any) -> None:
    assert can_roll(qwen)

    rolled = finished(RollingBatch(qwen, END_IDS, 0, None), rows_of(9), 4)

    assert rolled == finished(WholeBatch(qwen, END_IDS, 0, None), rows_of(9), 4)
    assert len({tuple(tokens) for tokens in rolled.values()}) > 3
    assert len({len(tokens) for tokens in rolled.values()}) > 2


def test_a_loop_is_long_and_exact() -> None:
    assert ends_in_loop([1, 2, 3] * 16)
    assert not ends_in_loop([1, 2, 3] * 15)
    assert not ends_in_loop([*[1, 2, 3] * 15, 1, 2, 9])
    assert ends_in_loop(list(range(32)) * 4)
    assert not ends_in_loop(list(range(33)) * 6)


def test_a_seed_is_the_pictures_own() -> None:
    seeds = {seed_of(seed, name, asking) for seed in (0, 1) for name in ("a/1", "a/2") for asking in (1, 2)}

    assert len(seeds) == 8
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seed_of(0, "a/1", 1) == seed_of(0, "a/1", 1)
