"""Samples as tensors: the picture is read when it is asked for, and kept if there is room."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sgv_data.captioner.picture import PictureOpener
from sgv_data.captioner.render import Inputs, Renderer
from sgv_data.errors import InputError
from sgv_data.images.decode import BadPicture
from sgv_data.train.kept import KeptFile

CACHE_BYTES = 256_000_000
"""Room for rendered samples of one dataset: enough for the small sets that are gone through many times."""


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


class CaptionDataset(torch.utils.data.Dataset[Inputs]):
    """`order[i]` says which kept caption sample `i` is. The same caption may come again (in another epoch)."""

    def __init__(
        self,
        kept: KeptFile,
        order: npt.NDArray[np.int64],
        renderer: Renderer,
        opener: PictureOpener,
        cache: SampleCache,
    ) -> None:
        self._kept, self._order = kept, order
        self._renderer, self._opener, self._cache = renderer, opener, cache

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
            each = self._kept[position]
            try:
                image = self._opener.open(each.row)
            except BadPicture as exc:
                raise InputError(f"{each.row.image_id}: cannot be decoded any more ({exc}); use --redo index") from exc
            sample = self._renderer.training_inputs(image, each.caption)
            self._cache.offer(position, sample)
        return dict(sample)
