"""Keys and values of generated tokens, written in place.

transformers' own cache concatenates all keys and values anew for each token, which on a CPU is most of the time a small
model needs. Here they lie in a buffer with room for tokens to come.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

_ROOM_TOKENS = 64


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A `DynamicLayer` whose `keys` and `values` are views of larger buffers (batch, heads, tokens, head size)."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self._key_buffer: torch.Tensor | None = None
        self._value_buffer: torch.Tensor | None = None
        self._last_view: torch.Tensor | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends the new states; returns all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        # Rows may have been selected or cropped from outside since: then the buffers are of another shape.
        own = self._last_view is not None and self.keys is self._last_view
        if not own or self._key_buffer is None or self._value_buffer is None or after > self._key_buffer.shape[-2]:
            self._key_buffer = _with_room(self.keys, key_states, before, after)
            self._value_buffer = _with_room(self.values, value_states, before, after)
        self._key_buffer[..., before:after, :] = key_states
        self._value_buffer[..., before:after, :] = value_states
        self.keys = self._last_view = self._key_buffer[..., :after, :]
        self.values = self._value_buffer[..., :after, :]
        return self.keys, self.values


    def keep(self, places_R: torch.Tensor, from_token: int) -> None:
        """Keeps some rows, and of all of them only what lies from `from_token` on."""
        self.keys = self.keys[..., from_token:, :].index_select(0, places_R)
        self.values = self.values[..., from_token:, :].index_select(0, places_R)
        self._own_none()

    def join(self, other: RoomyLayer) -> None:
        """Takes in the rows of another layer behind its own. The shorter rows get zeros in front."""
        self.keys, self.values = _joined(self.keys, other.keys), _joined(self.values, other.values)
        self._own_none()

    def _own_none(self) -> None:
        self._key_buffer = self._value_buffer = self._last_view = None


def _with_room(old: torch.Tensor, new: torch.Tensor, before: int, after: int) -> torch.Tensor:
    buffer = new.new_empty((*new.shape[:-2], after + _ROOM_TOKENS + after // 8, new.shape[-1]))
    if before:
        buffer[..., :before, :] = old
    return buffer


def _joined(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    num_first, tokens = len(first), max(first.shape[-2], second.shape[-2])
    both = first.new_zeros((num_first + len(second), first.shape[1], tokens, first.shape[-1]))
    both[:num_first, :, tokens - first.shape[-2] :] = first
    both[num_first:, :, tokens - second.shape[-2] :] = second
    return both


def roomy_cache(model: Any) -> Cache | None:
    """An empty cache for `model`, or None where its layers keep something else than all keys and values."""
    config = model.config.get_text_config(decoder=True)
    if getattr(model.config, "is_encoder_decoder", False):
        return None
    cache = DynamicCache(config=config)
    if not cache.layers or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.layers = [RoomyLayer() for _ in cache.layers]
    return cache
