"""Adapters of low rank (LoRA, by `peft`) on the parts that ask for them, and their merging into the weights.

Modules are named one by one: a pattern such as `q_proj` would also hit the vision tower.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

from sgv_data.captioner.parts import Part, block_of, part_of
from sgv_data.errors import MissingPart, TrainingError
from sgv_data.manifest import Lora


def adapted_modules(model: Any, part: Part) -> list[str]:
    """Names of the linear layers of a part that get adapters: those inside its blocks, in a projector all of them.

    What lies outside the blocks (output head, pooling heads that captions never pass through) keeps its weights.
    """
    import torch

    return [
        name
        for name, module in model.named_modules()
        if type(module) is torch.nn.Linear
        and part_of(f"{name}.") is part
        and (part is Part.PROJECTOR or block_of(f"{name}.") is not None)
    ]


def add_adapters(model: Any, parts: Collection[Part], settings: Lora, seed: int) -> None:
    """Puts adapters on every linear layer of `parts`, in place. All other parameters are frozen by it.

    Raises:
        TrainingError: if a part has no linear layers.
        MissingPart: if peft is not installed.
    """
    import torch

    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError as exc:
        raise MissingPart("LoRA needs peft, which is not installed: pip install 'sgv_data[captioner]'") from exc
    wanted: list[str] = []
    for part in parts:
        found = adapted_modules(model, part)
        if not found:
            raise TrainingError(f"captioner.parts.{part}: lora, but {type(model).__name__} has no linear layer there")
        wanted += found
    options: dict[str, Any] = {"r": settings.rank, "lora_alpha": settings.alpha, "lora_dropout": settings.dropout}
    config = LoraConfig(target_modules=wanted, bias="none", **options)
    with torch.random.fork_rng():
        torch.manual_seed(int(hashlib.sha256(f"{seed}/lora".encode()).hexdigest()[:8], 16))
        inject_adapter_in_model(config, model)
    hit = {name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    if hit != set(wanted):
        stray = sorted(hit ^ set(wanted))[0]
        raise TrainingError(f"captioner.lora: the adapters do not lie where they should, for example at {stray}")


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return ".lora_" in name


def has_adapters(model: Any) -> bool:
    """Whether there are adapters that are not merged yet."""
    return any(is_adapter(name) for name, _ in model.named_parameters())


def merge_adapters(model: Any) -> None:
    """Adds every adapter to the weights it lies on and takes it away: the model is a plain one again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        module.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
