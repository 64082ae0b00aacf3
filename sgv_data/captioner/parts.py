"""The parts of a vision-language model (vision tower, projector, language model) and which of them are trained."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sgv_data.errors import TrainingError
from sgv_data.manifest import Lora, TrainedParts

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
LORA = "lora"
_ABOVE_LANGUAGE_BLOCKS = re.compile(r"(^|\.)(norm|final_layernorm|ln_f|lm_head|output)\.(weight|bias)$")


_OPTIMIZER_STATES = 2
"""AdamW keeps two numbers per trained one, in its type."""


@dataclass(frozen=True, slots=True)
class PartSize:
    """One row of the table shown before training: numbers of parameters, and bytes in memory while training."""

    part: Part
    setting: str
    num_blocks: int
    num_parameters: int
    num_trained: int
    weight_bytes: int
    gradient_bytes: int

    @property
    def optimizer_bytes(self) -> int:
        """What the optimizer keeps."""
        return _OPTIMIZER_STATES * self.gradient_bytes

    @property
    def num_bytes(self) -> int:
        """Weights, gradients and what the optimizer keeps."""
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes


def part_of(name: str) -> Part:
    """The part that a parameter belongs to, by its dotted name."""
    if _PROJECTOR.search(name):
        return Part.PROJECTOR
    return Part.VISION if _VISION.search(name) else Part.LANGUAGE


def block_of(name: str) -> int | None:
    """The number of the block a parameter lies in, or None for what surrounds the blocks."""
    found = _BLOCK.search(name)
    return int(found[1]) if found else None


def set_trained_parts(
    model: Any, settings: TrainedParts, lora: Lora | None = None, seed: int = 0
) -> tuple[PartSize, ...]:
    """Sets `requires_grad` of every parameter and puts adapters on parts set to `lora`; returns the table.

    `from_block_N` trains the blocks from N on, counted from 0. In the vision tower nothing else (the paper leaves
    embeddings and the norms around the blocks as they are); in the language model also what lies above the blocks.

    Raises:
        TrainingError: a part is not there, has fewer blocks than asked for, or nothing would be trained.
    """
    adapted = [part for part in Part if getattr(settings, part.value) == LORA]
    for part in Part:
        _require_part(model, part, getattr(settings, part.value))
    if adapted:
        from sgv_data.captioner.lora import add_adapters

        add_adapters(model, adapted, lora or Lora(), seed)
    sizes = tuple(_set_part(model, part, getattr(settings, part.value)) for part in Part)
    if not any(size.num_trained for size in sizes):
        raise TrainingError("captioner.parts: every part is frozen, so there is nothing to train")
    return sizes


def _require_part(model: Any, part: Part, setting: str) -> None:
    names = [name for name, _ in _parameters(model, part)]
    if not names and setting != "frozen":
        raise TrainingError(f"captioner.parts.{part} is {setting}, but {type(model).__name__} has no such part")
    first, num_blocks = _first_block(setting), _num_blocks(names)
    if first is not None and first >= num_blocks:
        raise TrainingError(
            f"captioner.parts.{part} is {setting}, but that part of {type(model).__name__} has {num_blocks} blocks, "
            f"counted from 0"
        )


def _set_part(model: Any, part: Part, setting: str) -> PartSize:
    parameters, first = list(_parameters(model, part)), _first_block(setting)
    for name, parameter in parameters:
        if setting == LORA:
            parameter.requires_grad_(".lora_" in name)
        else:
            parameter.requires_grad_(setting == "full" or (first is not None and _from_block(part, name, first)))
    trained = [parameter for _, parameter in parameters if parameter.requires_grad]
    return PartSize(
        part,
        setting,
        _num_blocks(name for name, _ in parameters),
        sum(parameter.numel() for _, parameter in parameters),
        sum(parameter.numel() for parameter in trained),
        sum(parameter.numel() * parameter.element_size() for _, parameter in parameters),
        sum(parameter.numel() * parameter.element_size() for parameter in trained),
    )


def _first_block(setting: str) -> int | None:
    return int(setting.removeprefix("from_block_")) if setting.startswith("from_block_") else None


def _num_blocks(names: Iterable[str]) -> int:
    return len({number for name in names if (number := block_of(name)) is not None})


def _parameters(model: Any, part: Part) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if part_of(name) is part)


def _from_block(part: Part, name: str, first: int) -> bool:
    block = block_of(name)
    if block is None:
        return part is Part.LANGUAGE and bool(_ABOVE_LANGUAGE_BLOCKS.search(name))
    return block >= first


def part_lines(sizes: tuple[PartSize, ...]) -> list[str]:
    """The table as text: a header, a line per part, the total."""
    columns = ("parameters", "trained", "weights", "gradients", "optimizer", "in all")
    lines = [f"{'part':<10} {'setting':<14}" + "".join(f"{column:>16}" for column in columns)]
    rows = [(str(size.part), size.setting, (size,)) for size in sizes]
    for name, setting, each in (*rows, ("total", "", sizes)):
        numbers = (sum(size.num_parameters for size in each), sum(size.num_trained for size in each))
        amounts = (
            sum(size.weight_bytes for size in each),
            sum(size.gradient_bytes for size in each),
            sum(size.optimizer_bytes for size in each),
            sum(size.num_bytes for size in each),
        )
        lines.append(
            f"{name:<10} {setting:<14}"
            + "".join(f"{number:>16,}" for number in numbers)
            + "".join(f"{amount / 1e6:>13,.1f} MB" for amount in amounts)
        )
    return lines
