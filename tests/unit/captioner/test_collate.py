"""Batches: padding side, labels, and pictures of different sizes."""

from __future__ import annotations

import torch

from sgv_data.captioner.collate import collate
from sgv_data.captioner.render import IGNORED

SHORT = {
    "input_ids": torch.tensor([5, 6]),
    "attention_mask": torch.tensor([1, 1]),
    "labels": torch.tensor([IGNORED, 6]),
    "pixel_values": torch.ones(1, 3, 2, 2),
}
LONG = {
    "input_ids": torch.tensor([7, 8, 9]),
    "attention_mask": torch.tensor([1, 1, 1]),
    "labels": torch.tensor([IGNORED, 8, 9]),
    "pixel_values": torch.ones(2, 3, 2, 4),
}


def test_padding_on_the_right_for_training() -> None:
    batch = collate([SHORT, LONG], "right", pad_id=0)

    assert batch["input_ids"].tolist() == [[5, 6, 0], [7, 8, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [[IGNORED, 6, IGNORED], [IGNORED, 8, 9]]


def test_padding_on_the_left_for_generation() -> None:
    batch = collate([SHORT, LONG], "left", pad_id=3)

    assert batch["input_ids"].tolist() == [[3, 5, 6], [7, 8, 9]]
    assert batch["attention_mask"].tolist() == [[0, 1, 1], [1, 1, 1]]


def test_pictures_are_joined_and_smaller_ones_filled_with_zeros() -> None:
    batch = collate([SHORT, LONG], "left", pad_id=0)

    assert batch["pixel_values"].shape == (3, 3, 2, 4)
    assert batch["pixel_values"][0, :, :, 2:].abs().sum() == 0
    assert batch["pixel_values"][:, :, :, :2].min() == 1
