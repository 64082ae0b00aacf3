"""How many samples fit into memory at once, from what one of them takes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from sgv_data.captioner.generate import is_out_of_memory
from sgv_data.errors import TrainingError
from sgv_data.train.schedule import micro_batch_size

_USABLE = 0.9
"""Of the memory that is left; the allocator needs the rest for pieces that fit nowhere."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that are left for samples beside weights, gradients and optimizer, and bytes that one sample takes."""

    free_bytes: float
    sample_bytes: float

    @property
    def samples(self) -> int:
        """How many samples fit at once."""
        return int(_USABLE * self.free_bytes / self.sample_bytes) if self.sample_bytes > 0 else 0


def measure_room(model: Any, loss_of_one: Callable[[], torch.Tensor], device: torch.device) -> Room:
    """What one sample takes, by training on it without a step: without end if not even that fits."""
    model.zero_grad(set_to_none=True)
    free = _total_bytes(device) - static_bytes(model)
    try:
        taken = _on_gpu(loss_of_one) if device.type == "cuda" else _kept_for_backward(model, loss_of_one)
    except (MemoryError, RuntimeError) as exc:
        if not is_out_of_memory(exc):
            raise
        taken = math.inf
    finally:
        model.zero_grad(set_to_none=True)
    return Room(free, taken)


def static_bytes(model: Any) -> float:
    """Weights, their gradients and the two numbers that AdamW keeps for each."""
    every = [(each.numel() * each.element_size(), each.requires_grad) for each in model.parameters()]
    return float(sum(size * (4 if trained else 1) for size, trained in every))


def _total_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[1])
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _on_gpu(loss_of_one: Callable[[], torch.Tensor]) -> float:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    torch.autograd.backward(loss_of_one())
    return float(torch.cuda.max_memory_allocated() - before)


def _kept_for_backward(model: Any, loss_of_one: Callable[[], torch.Tensor]) -> float:
    """Bytes that the forward pass keeps: on a CPU nobody counts the rest."""
    own = {each.untyped_storage().data_ptr() for each in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = loss_of_one()
    del loss
    return float(sum(kept.values()))


def out_of_memory(batch_size: int, micro: int, num_devices: int, room: Room | None) -> TrainingError:
    """The sentence for a batch that did not fit, with the size that would. `room` None: it could not be measured."""
    said = f"not enough memory for captioner.micro_batch_size {micro}"
    if room is not None and room.samples >= 1:
        fits = micro_batch_size(batch_size, min(room.samples, max(1, micro - 1)), num_devices)
        measured = f"a sample takes {room.sample_bytes / 1e6:,.0f} MB of {max(room.free_bytes, 0) / 1e6:,.0f} MB"
        if fits < micro:
            return TrainingError(
                f"{said}; {fits} should fit ({measured} that are left beside weights, gradients and optimizer): the "
                f"batch stays what captioner.batch_size says, and the training goes on from its last checkpoint"
            )
    if micro > 1 and room is None:
        return TrainingError(
            f"{said}; try {micro_batch_size(batch_size, micro // 2, num_devices)}: the batch stays what "
            f"captioner.batch_size says, and the training goes on from its last checkpoint"
        )
    return TrainingError(
        f"{said}, and not even one sample would fit: set captioner.gradient_checkpointing to true, train parts with "
        f"lora, or spread the model over devices with captioner.fsdp or captioner.deepspeed"
    )
