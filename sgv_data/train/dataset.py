"""Samples as tensors: the picture is read when it is asked for, and kept if there is room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sgv_data.captioner.conversation import ConversationRenderer, TooLong
from sgv_data.captioner.picture import PictureOpener
from sgv_data.captioner.render import Inputs, Renderer
from sgv_data.errors import InputError
from sgv_data.images.decode import BadPicture, decode
from sgv_data.manifest import Pictures
from sgv_data.train.conversations import ConversationFile
from sgv_data.train.kept import KeptFile

CACHE_BYTES = 256_000_000
"""Room for rendered samples of one dataset: enough for the small sets that are gone through many times."""

_GREY = (128, 128, 128)


class SampleCache:
    """Rendered samples by position, up to a number of bytes. What does not fit is made again each time."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._room_bytes = self._max_bytes = max_bytes
        self._samples: dict[int, Inputs] = {}

    def get(self, position: int) -> Inputs | None:
        """The sample, if it is kept."""
        return self._samples.get(position)

    def offer(self, position: int, sample: Inputs) -> None:
        """Keeps the sample if there is room."""
        num_bytes = sum(value.numel() * value.element_size() for value in sample.values())
        if num_bytes <= self._room_bytes:
            self._room_bytes -= num_bytes
            self._samples[position] = sample

    def __getstate__(self) -> dict[str, Any]:
        return {"_room_bytes": self._max_bytes, "_max_bytes": self._max_bytes, "_samples": {}}


@dataclass(frozen=True, slots=True)
class CaptionSamples:
    """Samples from the run's own pictures and their kept teacher captions, by position."""

    kept: KeptFile
    renderer: Renderer
    opener: PictureOpener

    def __call__(self, position: int) -> Inputs:
        """The rendered sample with its labels.

        Raises:
            InputError: if its picture is not what it was when it was indexed.
        """
        each = self.kept[position]
        try:
            image = self.opener.open(each.row)
        except BadPicture as exc:
            raise InputError(f"{each.row.image_id}: cannot be decoded any more ({exc}); use --redo index") from exc
        return self.renderer.training_inputs(image, each.caption)


@dataclass(frozen=True, slots=True)
class ConversationSamples:
    """Samples from a file of conversations, by position.

    One whose picture cannot be read, or whose question fills the context, becomes one without any loss: the trainer
    counts it.
    """

    rows: ConversationFile
    renderer: ConversationRenderer
    images: Path
    limits: Pictures

    def __call__(self, position: int) -> Inputs:
        """The rendered sample with its labels."""
        row = self.rows[position]
        try:
            images = [decode((self.images / name).read_bytes(), self.limits)[1] for name in row.images]
            return self.renderer.conversation_inputs(row.exchanges, images)
        except (BadPicture, OSError, TooLong):
            return self.renderer.without_loss(Image.new("RGB", (64, 64), _GREY))


class CaptionDataset(torch.utils.data.Dataset[Inputs]):
    """`order[i]` says which sample comes at place `i`. The same may come again (in another epoch)."""

    def __init__(self, render: Callable[[int], Inputs], order: npt.NDArray[np.int64], cache: SampleCache) -> None:
        self._render, self._order, self._cache = render, order, cache

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, place: int) -> Inputs:
        """The rendered sample with its labels.

        Raises:
            InputError: if its picture is not what it was when it was indexed.
        """
        position = int(self._order[place])
        sample = self._cache.get(position)
        if sample is None:
            sample = self._render(position)
            self._cache.offer(position, sample)
        return dict(sample)
