"""The parts of a vision-language model (vision tower, projector, language model) and which of them are trained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sgv_data.errors import TrainingError
from sgv_data.manifest import TrainedParts

if TYPE_CHECKING:
    import torch


class Part(StrEnum):
    """A part of a model; the values are the manifest's keys."""

    VISION = "vision"
    PROJECTOR = "projector"
    LANGUAGE = "language"


# Names that models give their modules: LLaVA, Qwen-VL, InternVL, Idefics and SmolVLM, PaliGemma, Gemma, Mistral, BLIP.
_PROJECTOR = re.compile(
    r"(^|\.)(multi_modal_projector|mm_projector|connector|modality_projection|merger|patch_merger|deepstack_merger_list|"
    r"qformer|language_projection|vision_projection|embed_vision|aligner|mlp1|image_newline|query_tokens|projector)(\.|$)"
)
_VISION = re.compile(
    r"(^|\.)(vision_tower|vision_model|visual|vision_encoder|image_encoder|vision|vit|vision_embed_tokens|image_tower)(\.|$)"
)
_BLOCK = re.compile(r"\.(?:layers|layer|blocks|block|resblocks|h)\.(\d+)\.")
_ABOVE_LANGUAGE_BLOCKS = re.compile(r"(^|\.)(norm|final_layernorm|ln_f|lm_head|output)\.(weight|bias)$")


@dataclass(frozen=True, slots=True)
class PartSize:
    """One row of the table shown before training: numbers of parameters, and bytes of their weights."""

    part: Part
    setting: str
    num_blocks: int
    num_parameters: int
    num_trained: int
    num_bytes: int


def part_of(name: str) -> Part:
    """The part that a parameter belongs to, by its dotted name."""
    if _PROJECTOR.search(name):
        return Part.PROJECTOR
    return Part.VISION if _VISION.search(name) else Part.LANGUAGE


def block_of(name: str) -> int | None:
    """The number of the block a parameter lies in, or None for what surrounds the blocks."""
    found = _BLOCK.search(name)
    return int(found[1]) if found else None


def set_trained_parts(model: Any, settings: TrainedParts) -> tuple[PartSize, ...]:
    """Sets `requires_grad` of every parameter; returns the table.

    `from_block_N` trains the blocks from N on, counted from 0. In the vision tower nothing else (the paper leaves
    embeddings and the norms around the blocks as they are); in the language model also what lies above the blocks.

    Raises:
        TrainingError: a part is not there, has fewer blocks than asked for, or nothing would be trained.
    """
    sizes = tuple(_set_part(model, part, getattr(settings, part.value)) for part in Part)
    if not any(size.num_trained for size in sizes):
        raise TrainingError("captioner.parts: every part is frozen, so there is nothing to train")
    return sizes


def _set_part(model: Any, part: Part, setting: str) -> PartSize:
    parameters = list(_parameters(model, part))
    blocks = {number for name, _ in parameters if (number := block_of(name)) is not None}
    first = int(setting.removeprefix("from_block_")) if setting.startswith("from_block_") else None
    if not parameters and setting != "frozen":
        raise TrainingError(f"captioner.parts.{part} is {setting}, but {type(model).__name__} has no such part")
    if first is not None and first >= len(blocks):
        raise TrainingError(
            f"captioner.parts.{part} is {setting}, but that part of {type(model).__name__} has {len(blocks)} blocks, "
            f"counted from 0"
        )
    num_trained = 0
    for name, parameter in parameters:
        trained = setting == "full" or (first is not None and _from_block(part, name, first))
        parameter.requires_grad_(trained)
        num_trained += parameter.numel() if trained else 0
    return PartSize(
        part,
        setting,
        len(blocks),
        sum(parameter.numel() for _, parameter in parameters),
        num_trained,
        sum(parameter.numel() * parameter.element_size() for _, parameter in parameters),
    )


def _parameters(model: Any, part: Part) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if part_of(name) is part)


def _from_block(part: Part, name: str, first: int) -> bool:
    block = block_of(name)
    if block is None:
        return part is Part.LANGUAGE and bool(_ABOVE_LANGUAGE_BLOCKS.search(name))
    return block >= first


def part_lines(sizes: tuple[PartSize, ...]) -> list[str]:
    """The table as text, a line per part."""
    return [
        f"{size.part:<10} {size.setting:<14} {size.num_parameters:>15,} parameters, {size.num_trained:>15,} trained, "
        f"{size.num_bytes / 1e6:>10,.1f} MB"
        for size in sizes
    ]
