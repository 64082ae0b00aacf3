"""How many floating-point operations a training step needs, from the model's own matrices.

Counted as in the PaLM paper (appendix B): 2 per matrix element and token forward, 2 for the gradient that passes
through, 2 for the gradient of the weights where these are trained; attention over what a token can see. Padding, and
what is computed twice to save memory, are not counted: this is what the model needs, not what was done.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgv_data.captioner.parts import Part, block_of, part_of

_PEAKS = Path(__file__).with_name("peak_flops.json")


@dataclass(frozen=True, slots=True)
class Amount:
    """What one or more samples ask of the model. `token_pairs` is the sum of squared lengths, `patch_pairs` of squared
    numbers of patches per picture."""

    tokens: float
    token_pairs: float
    image_tokens: float
    patches: float
    patch_pairs: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations per token of the language model, pair of tokens, image token, patch, and pair of patches."""

    token: float
    token_pair: float
    image_token: float
    patch: float
    patch_pair: float

    def of(self, amount: Amount) -> float:
        """Operations of one forward and backward pass."""
        return (
            self.token * amount.tokens
            + self.token_pair * amount.token_pairs
            + self.image_token * amount.image_tokens
            + self.patch * amount.patches
            + self.patch_pair * amount.patch_pairs
        )


def training_cost(model: Any) -> Cost:
    """The cost of training `model` as its parameters are set now."""
    matrices = _matrices(model)
    first = next((part for part in Part if any(trained for _, _, trained in matrices[part])), None)
    reached = False
    per_part: dict[Part, float] = {}
    attention: dict[Part, float] = {}
    for part in Part:
        total = sum(size for _, size, _ in matrices[part])
        trained = sum(size for _, size, is_trained in matrices[part] if is_trained)
        through = total if reached else _passed_through(matrices[part]) if part is first else 0.0
        reached = reached or part is first
        per_part[part] = 2.0 * (total + through + trained)
        attention[part] = _attention(model, part) * (1 + 2 * (through / total if total else 0))
    return Cost(
        token=per_part[Part.LANGUAGE],
        token_pair=attention[Part.LANGUAGE] / 2,  # a token sees only those before it
        image_token=per_part[Part.PROJECTOR],
        patch=per_part[Part.VISION],
        patch_pair=attention[Part.VISION],
    )


def _matrices(model: Any) -> dict[Part, list[tuple[str, float, bool]]]:
    """Name, elements that a token meets, and whether it is trained, of every matrix that is multiplied with."""
    looked_up = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    found: dict[Part, list[tuple[str, float, bool]]] = {part: [] for part in Part}
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2 or "position_embedding" in name or parameter is looked_up:
            continue
        share = _experts_share(model) if parameter.dim() == 3 and "expert" in name else 1.0
        found[part_of(name)].append((name, parameter.numel() * share, parameter.requires_grad))
    if head is not None and head.weight is looked_up:
        found[Part.LANGUAGE].append(("lm_head.weight", head.weight.numel(), head.weight.requires_grad))
    return found


def _experts_share(model: Any) -> float:
    config = model.config.get_text_config()
    used, there = getattr(config, "num_experts_per_tok", None), getattr(config, "num_experts", None)
    return used / there if used and there else 1.0


def _passed_through(matrices: list[tuple[str, float, bool]]) -> float:
    """Elements from the first trained block on: gradients pass through these."""
    blocks = [block_of(name) for name, _, trained in matrices if trained]
    within = [block for block in blocks if block is not None]
    first = min(within) if len(within) == len(blocks) and within else 0
    return sum(size for name, size, _ in matrices if (block := block_of(name)) is None or block >= first)


def _attention(model: Any, part: Part) -> float:
    """Forward operations of all blocks per pair of tokens: scores and weighted sum."""
    if part is Part.PROJECTOR:
        return 0.0
    config = model.config.get_text_config() if part is Part.LANGUAGE else getattr(model.config, "vision_config", None)
    width = getattr(config, "hidden_size", None) or getattr(config, "embed_dim", None) or 0
    blocks = getattr(config, "num_hidden_layers", None) or getattr(config, "depth", None) or 0
    heads, head_width = getattr(config, "num_attention_heads", None), getattr(config, "head_dim", None)
    return 4.0 * blocks * (heads * head_width if heads and head_width else width)


def patches_of(pixels: Any, patch_px: int | None) -> tuple[float, float]:
    """Number of patches in a batch's pictures, and the sum of their squares per picture."""
    if pixels.dim() == 2:  # rows of patches, as Qwen's processors make them; which picture they are of is not seen here
        return float(len(pixels)), 0.0
    if not patch_px:
        return 0.0, 0.0
    height, width = pixels.shape[-2:]
    num_pictures = pixels[..., 0, 0, 0].numel()
    each = (height // patch_px) * (width // patch_px)
    return float(num_pictures * each), float(num_pictures * each**2)


def peak_flops_per_s(device_name: str) -> float | None:
    """What a GPU of this name can do per second; None for one that is not in the table."""
    table: dict[str, float] = json.loads(_PEAKS.read_text(encoding="utf-8"))["tflops_per_s"]
    return next((peak * 1e12 for name, peak in table.items() if name.lower() in device_name.lower()), None)
