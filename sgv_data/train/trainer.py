"""One training run with `transformers.Trainer`: what is watched, where it goes on, what several processes share."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, SequentialSampler
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback

from sgv_data.captioner.collate import collate
from sgv_data.captioner.generate import is_out_of_memory
from sgv_data.captioner.load import choose_dtype
from sgv_data.captioner.quiet import quiet_libraries
from sgv_data.errors import TrainingError
from sgv_data.manifest import CaptionerModel
from sgv_data.processes import usable_cores
from sgv_data.progress import Progress
from sgv_data.train import group
from sgv_data.train.arguments import is_sharded, optimizer_groups, training_arguments
from sgv_data.train.checkpoints import Checkpoints, step_of
from sgv_data.train.dataset import CaptionDataset
from sgv_data.train.flops import Amount, patches_of, peak_flops_per_s, training_cost
from sgv_data.train.memory import measure_room, out_of_memory
from sgv_data.train.metrics import MetricsFile
from sgv_data.train.schedule import micro_batch_size
from sgv_data.train.watch import SHOWN, Asked, SamplesFile, Watch, asked_of

TRAINED = "trained.safetensors"
"""In a checkpoint: the trained parameters under the names they have in memory. Frozen ones are the base model's."""

_MAX_LOADERS = 8


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What is trained on what. `trained` and `held_out` are already in the order in which they are gone through.

    `describe` answers rendered prompts with the model as it is; `text` turns token ids into text.
    """

    model: Any
    device: torch.device
    trained: CaptionDataset
    held_out: CaptionDataset
    num_per_epoch: float
    pad_id: int
    image_token_id: int
    seed: int
    describe: Any
    text: Any


class CaptionTrainer(Trainer):  # type: ignore[misc]
    """A `Trainer` that goes through its samples in their order and writes checkpoints whole or not at all."""

    def __init__(
        self, *, settings: CaptionerModel, job: TrainingJob, checkpoints: Checkpoints, micro: int, **options: Any
    ) -> None:
        self._settings, self._job, self._checkpoints, self._micro = settings, job, checkpoints, micro
        self._num_loaders = _num_loaders(job.device)
        self._cost = training_cost(job.model)
        self._patch_px = getattr(getattr(job.model.config, "vision_config", None), "patch_size", None)
        self._amounts = torch.zeros(6, dtype=torch.float64, device=job.device)
        super().__init__(model=job.model, **options)

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

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW with a learning rate for each part of the model."""
        if getattr(self, "optimizer", None) is None:
            model = self.model if model is None else model
            groups = optimizer_groups(model, self._settings, set(self.get_decay_parameter_names(model)))
            optimizer, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer(groups, **options)
        return self.optimizer

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of one micro-batch.

        Raises:
            TrainingError: if it does not fit in memory, with the number of samples that would.
        """
        self._count(inputs)
        if torch.is_tensor(num_items_in_batch):  # a batch without any label has no loss, not one that is no number
            num_items_in_batch = num_items_in_batch.clamp(min=1)
        try:
            loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
            return loss
        except (MemoryError, RuntimeError) as exc:
            if not is_out_of_memory(exc):
                raise
            said = str(exc)
        # Outside the handler, so that the frames of the failed step no longer hold their tensors.
        raise self._too_large(inputs) from MemoryError(said)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *more: Any, **options: Any) -> Any:
        """As the model does, but for held-out samples without any label, whose mean would be no number."""
        loss = super().compute_loss(model, inputs, *more, **options)
        if model.training or bool((inputs["labels"] >= 0).any()):
            return loss
        return (torch.zeros_like(loss[0]), *loss[1:]) if isinstance(loss, tuple) else torch.zeros_like(loss)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what the step's samples asked of the model, over all devices."""
        if "loss" in logs:
            amounts = self.accelerator.reduce(self._amounts.clone(), reduction="sum").tolist()
            self._amounts.zero_()
            logs["tokens"], logs["flops"] = amounts[0], self._cost.of(Amount(*amounts[:5]))
            logs["without_loss"] = amounts[5]
        super().log(logs, start_time)

    def _count(self, inputs: dict[str, Any]) -> None:
        """Tokens, pairs, image tokens, patches, pairs of patches, samples without loss."""
        lengths_B = inputs["attention_mask"].sum(1).double()
        images = (inputs["input_ids"] == self._job.image_token_id).sum().double()
        pixels = inputs.get("pixel_values")
        patches = (0.0, 0.0) if pixels is None else patches_of(pixels, self._patch_px)
        silent = (inputs["labels"] < 0).all(1).sum().double()
        per_image = lengths_B.new_tensor(patches)
        parts = [lengths_B.sum()[None], lengths_B.square().sum()[None], images[None], per_image, silent[None]]
        self._amounts += torch.cat(parts).to(self._amounts)

    def _too_large(self, inputs: dict[str, Any]) -> TrainingError:
        room = None
        if not is_sharded(self._settings):
            one = self._prepare_inputs(collate([self._job.trained[0]], side="right", pad_id=self._job.pad_id))
            self._job.model.train()
            loss = partial(self._loss_of, one)
            room = measure_room(self._job.model, loss, self._job.device)
        return out_of_memory(self._settings.batch_size, self._micro, group.num_processes(), room)

    def _loss_of(self, inputs: dict[str, Any]) -> torch.Tensor:
        with self.compute_loss_context_manager():
            loss: torch.Tensor = self._job.model(**inputs).loss
        return loss

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._checkpoints.writing)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self._checkpoints.publish(self.state.global_step)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """The trained parameters alone. A model that is spread over devices is saved by what spreads it."""
        if not self.args.should_save or output_dir is None or is_sharded(self._settings):
            return
        trained = {
            name: each.detach().cpu().contiguous()
            for name, each in self._job.model.named_parameters()
            if each.requires_grad
        }
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        save_file(trained, Path(output_dir) / TRAINED)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        stored = load_file(Path(resume_from_checkpoint) / TRAINED)
        wanted = {name: each for name, each in self._job.model.named_parameters() if each.requires_grad}
        if stored.keys() != wanted.keys():
            raise TrainingError(f"{resume_from_checkpoint}: holds other parameters than are trained; use --redo train")
        with torch.no_grad():
            for name, each in wanted.items():
                each.copy_(stored[name])


def train(
    job: TrainingJob,
    settings: CaptionerModel,
    checkpoints: Checkpoints,
    folder: Path,
    progress: Progress,
    trainer_class: type[CaptionTrainer] = CaptionTrainer,
) -> dict[str, torch.Tensor] | None:
    """Trains `job.model` in place, going on from the last complete checkpoint. Every process of a group calls this.

    Returns the weights of a model that was spread over devices, whole in the first process; None for any other model.
    The first process writes `metrics.jsonl` and `samples-during.jsonl` in `folder`.

    Raises:
        TrainingError: a number went wrong, or a batch does not fit in memory.
    """
    latest = checkpoints.latest()
    done = step_of(latest) if latest else 0
    micro = micro_batch_size(settings.batch_size, settings.micro_batch_size, group.num_processes())
    num_steps = math.ceil(len(job.trained) / settings.batch_size)
    with quiet_libraries():
        trainer = trainer_class(
            settings=settings,
            job=job,
            checkpoints=checkpoints,
            micro=micro,
            args=training_arguments(
                settings, job.device, checkpoints.folder, micro, num_steps, job.seed, fresh=latest is None
            ),
            train_dataset=job.trained,
            eval_dataset=job.held_out,
            data_collator=partial(collate, side="right", pad_id=job.pad_id),
        )
        trainer.remove_callback(PrinterCallback)
        metrics = MetricsFile(folder / "metrics.jsonl", keep_to_step=done) if group.is_first() else None
        if metrics is not None:
            trainer.add_callback(_watch(trainer, job, settings, folder, metrics, progress, done))
            progress.begin("training", num_steps)
            progress.advance(done)
        trainer.train(resume_from_checkpoint=str(latest) if latest else None)
        looked = metrics is not None and any(
            row.eval_loss is not None and row.step >= num_steps for row in metrics.rows
        )
        if not group.agree(looked):
            trainer.evaluate()
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if is_sharded(settings) else None
        if state is None:
            # Takes mixed precision off again: what follows is computed in the type of the weights.
            trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
    return state


def _watch(
    trainer: CaptionTrainer,
    job: TrainingJob,
    settings: CaptionerModel,
    folder: Path,
    metrics: MetricsFile,
    progress: Progress,
    done: int,
) -> Watch:
    file = SamplesFile(folder / "samples-during.jsonl", keep_to_step=done)
    asked: list[Asked] = []
    if not is_sharded(settings):  # a model spread over devices answers only if all of them ask
        asked = asked_of([job.held_out[place] for place in range(min(SHOWN, len(job.held_out)))], job.text)

    def describe(step: int) -> None:
        if asked:
            bf16 = trainer.args.bf16 and job.device.type == "cuda"
            with torch.autocast("cuda", torch.bfloat16) if bf16 else nullcontext():
                written = job.describe([prompt for prompt, _ in asked])
            file.add(step, [answer for _, answer in asked], written)

    def epoch_of(step: int) -> float:
        return min(step * settings.batch_size, len(job.trained)) / job.num_per_epoch

    return Watch(metrics, progress, epoch_of, settings.learning_rate, _peak(job, settings), describe)


def _peak(job: TrainingJob, settings: CaptionerModel) -> float | None:
    """What all GPUs together can do per second; None where that is not known, or where they compute in float32."""
    if job.device.type != "cuda" or choose_dtype(settings.precision, job.device) is not torch.bfloat16:
        return None
    peak = peak_flops_per_s(torch.cuda.get_device_name(job.device))
    return peak * group.num_processes() if peak else None


def _num_loaders(device: torch.device) -> int:
    """Processes that prepare samples: none on a CPU, which they would share with the model."""
    return 0 if device.type == "cpu" else max(1, min(_MAX_LOADERS, usable_cores() - 1))
