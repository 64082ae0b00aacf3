"""The manifest's training settings as `transformers` takes them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from sgv_data.captioner.load import choose_dtype
from sgv_data.captioner.parts import Part, part_of
from sgv_data.errors import ManifestError, MissingPart
from sgv_data.manifest import CaptionerModel
from sgv_data.train.group import num_processes

MAX_GRAD_NORM = 1.0


def training_arguments(
    settings: CaptionerModel, device: torch.device, folder: Path, micro: int, num_steps: int, seed: int, fresh: bool
) -> TrainingArguments:
    """Everything that `Trainer` is told. `fresh`: not going on from a checkpoint.

    Raises:
        ManifestError: if a DeepSpeed or FSDP file is missing, unreadable or contradicts the manifest.
        MissingPart: if DeepSpeed is asked for and not installed.
    """
    return TrainingArguments(
        output_dir=str(folder),
        # All epochs are one sequence (see schedule.py), so that going on is skipping to a place in it.
        num_train_epochs=1,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=settings.batch_size // (micro * num_processes()) or 1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(settings.warmup_share * num_steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=MAX_GRAD_NORM,
        optim="adamw_torch_fused",
        bf16=choose_dtype(settings.precision, device) is torch.bfloat16,
        use_cpu=device.type == "cpu",
        seed=int(hashlib.sha256(f"{seed}/train".encode()).hexdigest()[:8], 16),
        save_strategy="steps",
        save_steps=settings.checkpoint_every_steps,
        eval_strategy="steps",
        eval_steps=settings.checkpoint_every_steps,
        eval_on_start=fresh,
        prediction_loss_only=True,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        disable_tqdm=True,
        log_level="error",
        log_level_replica="error",
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        # Blocks behind the layer whose features are used, and the vision tower in batches of text, get no gradient.
        ddp_find_unused_parameters=True if num_processes() > 1 else None,
        **_sharding(settings),
    )


def is_sharded(settings: CaptionerModel) -> bool:
    """Whether the model is spread over devices."""
    return settings.deepspeed is not None or settings.fsdp is not None


def _sharding(settings: CaptionerModel) -> dict[str, Any]:
    if settings.deepspeed is not None and settings.fsdp is not None:
        raise ManifestError("captioner: give deepspeed or fsdp, not both")
    if settings.deepspeed is not None:
        config = _read(settings.deepspeed, "deepspeed")
        for name in {"optimizer", "scheduler"} & config.keys():
            raise ManifestError(
                f"captioner.deepspeed: {settings.deepspeed} sets {name!r}; leave it out: learning rates and schedule "
                f"are the manifest's"
            )
        if importlib.util.find_spec("deepspeed") is None:
            raise MissingPart("captioner.deepspeed needs deepspeed, which is not installed: pip install deepspeed")
        return {"deepspeed": config}
    if settings.fsdp is not None:
        return {"fsdp": True, "fsdp_config": _read(settings.fsdp, "fsdp")}
    return {}


def _read(path: str, name: str) -> dict[str, Any]:
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as exc:
        raise ManifestError(f"captioner.{name}: cannot read {path} ({exc.strerror})") from exc
    except ValueError as exc:
        raise ManifestError(f"captioner.{name}: {path} is no JSON ({exc})") from exc
    if not isinstance(values, dict):
        raise ManifestError(f"captioner.{name}: {path} must hold a JSON object")
    return values


def optimizer_groups(model: Any, settings: CaptionerModel, decayed: set[str]) -> list[dict[str, Any]]:
    """Trained parameters by part, with the part's learning rate; `decayed` names those that weight decay is for."""
    groups: list[dict[str, Any]] = []
    for part in Part:
        rate = getattr(settings.learning_rates, part.value) or settings.learning_rate
        trained = ((name, each) for name, each in model.named_parameters() if each.requires_grad)
        named = [(name, each) for name, each in trained if part_of(name) is part]
        for decays in (True, False):
            chosen = [each for name, each in named if (name in decayed) is decays]
            decay = settings.weight_decay if decays else 0.0
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay, "part": part.value})
    return groups
