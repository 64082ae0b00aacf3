"""One training run with `transformers.Trainer`: what is set, what is watched, where it goes on."""

from __future__ import annotations

import hashlib
import math
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from sgv_data.captioner.collate import collate
from sgv_data.captioner.generate import is_out_of_memory
from sgv_data.captioner.load import choose_dtype
from sgv_data.captioner.quiet import quiet_libraries
from sgv_data.errors import TrainingError
from sgv_data.manifest import CaptionerModel
from sgv_data.processes import usable_cores
from sgv_data.progress import Progress
from sgv_data.train.checkpoints import Checkpoints, step_of
from sgv_data.train.dataset import CaptionDataset
from sgv_data.train.metrics import Metric, MetricsFile
from sgv_data.train.schedule import micro_batch_size

MAX_GRAD_NORM = 1.0
_MAX_LOADERS = 8
_NUMBERS = ("loss", "eval_loss", "learning_rate", "grad_norm")


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What is trained on what. `trained` and `held_out` are already in the order in which they are gone through."""

    model: Any
    device: torch.device
    trained: CaptionDataset
    held_out: CaptionDataset
    num_per_epoch: int
    pad_id: int
    seed: int


class CaptionTrainer(Trainer):  # type: ignore[misc]
    """A `Trainer` that goes through its samples in their order and writes checkpoints whole or not at all."""

    def __init__(self, *, checkpoints: Checkpoints, num_loaders: int, **options: Any) -> None:
        self._checkpoints, self._num_loaders = checkpoints, num_loaders
        super().__init__(**options)

    def get_train_dataloader(self) -> Any:
        """Micro-batches in the order of the dataset, for this process."""
        return self._loader(self.train_dataset, self._train_batch_size)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Held-out samples in the order of the dataset, for this process."""
        return self._loader(self.eval_dataset if eval_dataset is None else eval_dataset, self.args.eval_batch_size)

    def _loader(self, dataset: Any, batch_size: int) -> Any:
        loader = DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=SequentialSampler(dataset),
            collate_fn=self.data_collator,
            num_workers=self._num_loaders,
            # Never fork: the parent holds threads and a GPU by now.
            multiprocessing_context="forkserver" if self._num_loaders else None,
            pin_memory=self.args.device.type == "cuda",
        )
        return self.accelerator.prepare(loader)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._checkpoints.writing)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self._checkpoints.publish(self.state.global_step)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Loads a checkpoint's weights as `from_pretrained` does.

        `Trainer` takes the names in the file for those of the modules. For models that are saved under older names, as
        LLaVA is, nothing would match, and it would go on from the base model's weights with no more than a warning.
        """
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        stored = type(self.model).from_pretrained(resume_from_checkpoint, dtype=self.model.dtype)
        self.model.load_state_dict(stored.state_dict())


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Writes every number down, shows the loss, and stops at one that is no number."""

    def __init__(self, metrics: MetricsFile, progress: Progress, job: TrainingJob, settings: CaptionerModel) -> None:
        self._metrics, self._progress = metrics, progress
        self._job, self._settings = job, settings
        self._started_s = time.monotonic() - metrics.seconds

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Called by the trainer with the numbers of a step or of an evaluation."""
        if not state.is_world_process_zero or not logs or not ({"loss", "eval_loss"} & logs.keys()):
            return
        named = {name: float(logs[name]) for name in _NUMBERS if name in logs}
        step = state.global_step
        num_seen = min(step * self._settings.batch_size, len(self._job.trained))
        epoch, seconds = num_seen / self._job.num_per_epoch, time.monotonic() - self._started_s
        self._metrics.add(Metric(step=step, epoch=round(epoch, 4), seconds=round(seconds, 3), **named))
        for name in ("loss", "grad_norm", "eval_loss"):
            if not math.isfinite(named.get(name, 0.0)):
                raise TrainingError(
                    f"step {step}: {name} is {named[name]}, so the training has broken down; lower "
                    f"captioner.learning_rate (it is {self._settings.learning_rate:g}) or raise captioner.warmup_share"
                )
        if "loss" in named:
            self._progress.advance(1, f"loss {named['loss']:.3f}")


def train(
    job: TrainingJob, settings: CaptionerModel, checkpoints: Checkpoints, metrics_path: Any, progress: Progress
) -> MetricsFile:
    """Trains `job.model` in place, going on from the last complete checkpoint; returns all numbers.

    Raises:
        TrainingError: a number went wrong, or a batch does not fit in memory.
    """
    latest = checkpoints.latest()
    done = step_of(latest) if latest else 0
    metrics = MetricsFile(metrics_path, keep_to_step=done)
    micro = micro_batch_size(settings.batch_size, settings.micro_batch_size, _num_devices())
    num_steps = math.ceil(len(job.trained) / settings.batch_size)
    with quiet_libraries():
        trainer = CaptionTrainer(
            model=job.model,
            args=_arguments(job, settings, checkpoints, micro, num_steps, fresh=latest is None),
            train_dataset=job.trained,
            eval_dataset=job.held_out,
            data_collator=partial(collate, side="right", pad_id=job.pad_id),
            checkpoints=checkpoints,
            num_loaders=_num_loaders(job.device),
            callbacks=[_Watch(metrics, progress, job, settings)],
        )
        trainer.remove_callback(PrinterCallback)
        progress.begin("training", num_steps)
        progress.advance(done)
        _run(trainer, str(latest) if latest else None, micro)
        if not any(row.eval_loss is not None and row.step >= num_steps for row in metrics.rows):
            trainer.evaluate()
    return metrics


def _run(trainer: CaptionTrainer, latest: str | None, micro: int) -> None:
    try:
        trainer.train(resume_from_checkpoint=latest)
    except (MemoryError, RuntimeError) as exc:
        if not is_out_of_memory(exc):
            raise
        raise TrainingError(
            f"not enough memory for captioner.micro_batch_size {micro}; try {max(1, micro // 2)}: the batch stays what "
            f"captioner.batch_size says, and the training goes on from its last checkpoint"
        ) from exc


def _arguments(
    job: TrainingJob, settings: CaptionerModel, checkpoints: Checkpoints, micro: int, num_steps: int, fresh: bool
) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(checkpoints.folder),
        # All epochs are one sequence (see schedule.py), so that going on is skipping to a place in it.
        num_train_epochs=1,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=settings.batch_size // (micro * _num_devices()) or 1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(settings.warmup_share * num_steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=MAX_GRAD_NORM,
        optim="adamw_torch_fused",
        bf16=choose_dtype(settings.precision, job.device) is torch.bfloat16,
        use_cpu=job.device.type == "cpu",
        seed=int(hashlib.sha256(f"{job.seed}/train".encode()).hexdigest()[:8], 16),
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
    )


def _num_devices() -> int:
    """Devices that share a batch: one per process of a launched group."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _num_loaders(device: torch.device) -> int:
    """Processes that prepare samples: none on a CPU, which they would share with the model."""
    return 0 if device.type == "cpu" else max(1, min(_MAX_LOADERS, usable_cores() - 1))
