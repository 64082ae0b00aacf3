"""The pictures that the base model learns from, small and in memory, with what there is to know about each.

Shapes: N pictures, 9 cells of the 3 x 3 grid in reading order, H and W pixels, C colour channels.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from sgv_data.demo.scenes import (
    WORDS,
    BackgroundColor,
    Color,
    Column,
    Row,
    Scene,
    Shape,
    Size,
    Texture,
    draw,
    scene,
)

if TYPE_CHECKING:
    import torch

SCENE_SERIES = 5_000_001
"""Seeds of scenes here; a demo's seed is a small number, so the two never meet."""
HELD_OUT_SERIES = 5_000_002

IGNORED = -100
_BLUR_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Pool:
    """Pictures with their truth as class numbers; 0 stands for "nothing there" in cells and words.

    `scenes` has None for blurred pictures, whose texture and count are `IGNORED`.
    """

    scenes: list[Scene | None]
    pixels: torch.Tensor  # uint8, (N, H, W, C)
    shape: torch.Tensor  # (N, 9)
    color: torch.Tensor  # (N, 9)
    size: torch.Tensor  # (N, 9)
    rank: torch.Tensor  # (N, 9): first, second, ... object in reading order
    word: torch.Tensor  # (N, 3): one per row
    background: torch.Tensor  # (N,)
    texture: torch.Tensor  # (N,)
    count: torch.Tensor  # (N,)

    def __len__(self) -> int:
        return len(self.scenes)


def make_pool(series: int, count: int, side_px: int) -> Pool:
    """`count` pictures of a series, a tenth of them blurred fields of colour that stand for photographs."""
    import numpy as np
    import torch

    scenes: list[Scene | None] = []
    pixels = np.empty((count, side_px, side_px, 3), dtype=np.uint8)
    for number in range(count):
        blurred = random.Random(f"kind {series} {number}").random() < _BLUR_SHARE
        content = None if blurred else scene(series, number)
        picture = blur(series, number) if content is None else draw(content)
        pixels[number] = np.asarray(picture.resize((side_px, side_px), Image.Resampling.BICUBIC))
        scenes.append(content)
    labels = [torch.tensor(values) for values in zip(*(_label(content) for content in scenes), strict=True)]
    return Pool(scenes, torch.from_numpy(pixels), *labels)


def blur(series: int, number: int) -> Image.Image:
    """A smooth field of a few random colours with a little grain."""
    rng = random.Random(f"blur {series} {number}")
    light = rng.uniform(0.25, 1.0)
    palette = [tuple(int(light * rng.randrange(256)) for _ in range(3)) for _ in range(rng.randint(2, 4))]
    grays = rng.random() < 0.3
    coarse = Image.new("RGB", (rng.randint(2, 4), rng.randint(2, 4)))
    row_palette = [rng.choice(palette) for _ in range(coarse.height)]
    for y in range(coarse.height):
        for x in range(coarse.width):
            color = row_palette[y] if rng.random() < 0.6 else rng.choice(palette)
            coarse.putpixel((x, y), (color[0],) * 3 if grays else color)
    smooth = coarse.resize((144, 144), Image.Resampling.BICUBIC)
    grain = Image.frombytes("L", (144, 144), rng.randbytes(144 * 144)).convert("RGB")
    return Image.blend(smooth, grain, rng.uniform(0.01, 0.08))


def _label(content: Scene | None) -> tuple[list[int], list[int], list[int], list[int], list[int], int, int, int]:
    shape, color, size, rank, word = [0] * 9, [0] * 9, [0] * 9, [0] * 9, [0] * 3
    if content is None:
        return shape, color, size, rank, word, len(BackgroundColor), IGNORED, IGNORED
    for number, item in enumerate(content.objects):
        cell = 3 * list(Row).index(item.row) + list(Column).index(item.column)
        shape[cell] = 1 + list(Shape).index(item.shape)
        color[cell] = 1 + list(Color).index(item.color)
        size[cell] = 1 + list(Size).index(item.size)
        rank[cell] = 1 + number
    if content.word is not None:
        word[list(Row).index(content.word.row)] = 1 + WORDS.index(content.word.text)
    background = list(BackgroundColor).index(content.background_color)
    texture = list(Texture).index(content.background_texture)
    return shape, color, size, rank, word, background, texture, len(content.objects)


class Viewer:
    """Turns pictures of a pool into what the vision tower takes, shifted and grained a little for training."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        import torch

        self._mean_C11 = torch.tensor(mean)[:, None, None]
        self._std_C11 = torch.tensor(std)[:, None, None]

    def view(self, pool: Pool, picks: torch.Tensor, shift_px: int = 0, grain: float = 0.0) -> torch.Tensor:
        """Pixels (picks, C, H, W), normalized; one random shift for all of them, up to `shift_px` each way."""
        import torch

        pixels = pool.pixels[picks].permute(0, 3, 1, 2).float() / 255
        if shift_px:
            down, right = (int(value) for value in torch.randint(0, 2 * shift_px + 1, (2,)))
            side = pixels.shape[-1]
            padded = torch.nn.functional.pad(pixels, (shift_px,) * 4, mode="replicate")
            pixels = padded[:, :, down : down + side, right : right + side]
        if grain:
            pixels = pixels + grain * torch.randn_like(pixels)
        return (pixels - self._mean_C11) / self._std_C11
