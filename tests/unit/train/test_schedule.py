"""The order of training is a function of seed, epoch and lengths."""

from __future__ import annotations

import numpy as np
import pytest

from sgv_data.train.schedule import micro_batch_size, training_order

POSITIONS = np.arange(100, 200)
LENGTHS = np.random.default_rng(0).integers(10, 400, 200).astype(np.int32)


def order(seed: int = 1, epochs: float = 1.0, micro_batch: int = 4) -> list[int]:
    return training_order(POSITIONS, LENGTHS, seed, epochs, micro_batch).tolist()


def test_every_epoch_goes_through_every_sample_once() -> None:
    three = order(epochs=3)

    for start in (0, 100, 200):
        assert sorted(three[start : start + 100]) == POSITIONS.tolist()


def test_epochs_differ_and_seeds_differ_and_calls_do_not() -> None:
    two = order(epochs=2)

    assert two[:100] != two[100:]
    assert order(seed=1) != order(seed=2)
    assert order() == order()


def test_a_longer_training_begins_as_a_shorter_one() -> None:
    assert order(epochs=2)[:50] == order(epochs=0.5)


def test_part_of_an_epoch_is_part_of_the_samples() -> None:
    assert len(order(epochs=1.25)) == 125
    assert len(order(epochs=0.001)) == 1


def test_samples_of_a_micro_batch_have_similar_lengths() -> None:
    def padding(positions: list[int]) -> int:
        groups = [LENGTHS[positions[start : start + 4]] for start in range(0, len(positions), 4)]
        return sum(int(group.max() * len(group) - group.sum()) for group in groups)

    shuffled = np.random.default_rng(5).permutation(POSITIONS).tolist()
    assert padding(order()) < padding(shuffled) / 3


@pytest.mark.parametrize(
    ("batch", "wanted", "devices", "size"),
    [(256, 16, 1, 16), (256, 16, 8, 16), (10, 4, 1, 2), (7, 3, 1, 1), (2, 16, 4, 1)],
)
def test_micro_batches_divide_a_batch_evenly(batch: int, wanted: int, devices: int, size: int) -> None:
    assert micro_batch_size(batch, wanted, devices) == size
