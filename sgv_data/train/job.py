"""Loading the base model, setting what of it is trained, and training it; by one process or by several together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from sgv_data.captioner.generate import CaptionGenerator
from sgv_data.captioner.load import Captioner, ModelPlace, choose_device, choose_dtype, load_captioner
from sgv_data.captioner.lora import has_adapters
from sgv_data.captioner.parts import part_lines, set_trained_parts
from sgv_data.captioner.quiet import quiet_libraries
from sgv_data.captioner.render import Inputs
from sgv_data.manifest import CaptionerModel, Manifest
from sgv_data.progress import Silent
from sgv_data.stage import StageContext
from sgv_data.train import group
from sgv_data.train.checkpoints import Checkpoints
from sgv_data.train.conversations import ConversationFile
from sgv_data.train.dataset import CaptionDataset, SampleCache
from sgv_data.train.kept import Split
from sgv_data.train.material import Material, sample_maker
from sgv_data.train.merge import COMPARED_SAMPLES, merge_and_compare
from sgv_data.train.parity import CHECKED_SAMPLES, check_parity
from sgv_data.train.schedule import micro_batch_size, training_order
from sgv_data.train.trainer import TrainingJob, train

_LOOKED_AT = 2_048
"""Of the held-out captions, so many are enough for a loss."""

_SAMPLE_TOKENS = 256
"""Captions shown while training end here."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A model after training. `state`: its weights, where it is spread over devices."""

    captioner: Captioner
    job: TrainingJob
    state: dict[str, torch.Tensor] | None


def train_together(
    base: ModelPlace, manifest: Manifest, context: StageContext, material: Material, split: Split
) -> Finished:
    """Trains from `base`; every process of a group calls it, with the same arguments.

    Raises:
        TrainingError: parity fails, a part is not there, or the training breaks down.
    """
    settings = _captioner(manifest)
    captioner = _load(base, manifest)
    progress = context.progress if group.is_first() else Silent()
    sizes = set_trained_parts(captioner.model, settings.parts, settings.lora, manifest.seed)
    if group.is_first():
        progress.say(f"captioner from {captioner.label}:")
        for line in part_lines(sizes):
            progress.say(f"  {line}")
    use_cache = getattr(captioner.model.config, "use_cache", None)
    job = _job(manifest, settings, captioner, material, split)
    folder = context.folder
    state = train(job, settings, Checkpoints(folder / "checkpoints"), folder, progress)
    if use_cache is not None:
        captioner.model.config.use_cache = use_cache
    return Finished(captioner, job, state)


def finished_model(trained: Finished, base: ModelPlace, manifest: Manifest) -> tuple[Captioner, dict[str, float]]:
    """The captioner as a plain model, adapters merged, and what merging changed.

    Raises:
        TrainingError: if merging changed more than captioner.lora_max_difference.
    """
    settings, captioner = _captioner(manifest), trained.captioner
    if trained.state is not None:
        captioner = replace(load_captioner(base, torch.device("cpu"), torch.float32), label=captioner.label)
        set_trained_parts(captioner.model, settings.parts, settings.lora, manifest.seed)
        captioner.model.load_state_dict(trained.state)
    if not has_adapters(captioner.model):
        return captioner, {}
    held_out = trained.job.held_out
    some = [held_out[place] for place in range(min(COMPARED_SAMPLES, len(held_out)))]
    difference = merge_and_compare(captioner.model, some, trained.job.pad_id, settings.lora_max_difference)
    return captioner, {"lora_difference": difference}


def _captioner(manifest: Manifest) -> CaptionerModel:
    assert manifest.captioner is not None
    return manifest.captioner


def _load(base: ModelPlace, manifest: Manifest) -> Captioner:
    settings, device = _captioner(manifest), choose_device()
    captioner = load_captioner(base, device, choose_dtype("float32", device))
    if device.type == "cpu" and choose_dtype(settings.precision, device) != captioner.model.dtype:
        # In bfloat16 on a CPU torch's fused attention is half again as slow backwards as attention written out.
        captioner.model.set_attn_implementation("eager")
    return captioner


def _job(
    manifest: Manifest, settings: CaptionerModel, captioner: Captioner, material: Material, split: Split
) -> TrainingJob:
    """The training job, after the parity gate."""
    render = sample_maker(material, manifest, settings, captioner)
    with quiet_libraries():
        check_parity(render.renderer, captioner.processor, _some_captions(material, render, split))
    lengths = material.rows.num_chars()
    together = micro_batch_size(settings.batch_size, settings.micro_batch_size, group.num_processes())
    if material.without_picture is not None:
        together *= group.num_processes()  # devices must be in the same parts of the model at the same time
    order = training_order(split.trained, lengths, manifest.seed, settings.epochs, together, material.without_picture)
    looked_at = split.held_out[:_LOOKED_AT]
    by_length = looked_at[lengths[looked_at].argsort(kind="stable")]
    new_tokens = min(manifest.expand.max_new_tokens, _SAMPLE_TOKENS)

    def describe(prompts: list[Inputs]) -> list[str]:
        captioner.model.eval()
        generator = CaptionGenerator(captioner, render.renderer, new_tokens)
        return [generator.write([prompt])[0].text for prompt in prompts]

    cache = SampleCache()
    return TrainingJob(
        model=captioner.model,
        device=captioner.device,
        trained=CaptionDataset(render, order, cache),
        held_out=CaptionDataset(render, by_length, cache),
        num_per_epoch=len(order) / settings.epochs,
        pad_id=render.renderer.pad_id,
        image_token_id=render.renderer.image_token_id,
        seed=manifest.seed,
        describe=describe,
        text=render.renderer.caption_text,
    )


def _some_captions(material: Material, render: Any, split: Split) -> Iterator[tuple[str, Image.Image, str]]:
    """Name, picture and caption of a few samples, for the parity gate. Of conversations only the texts are taken."""
    for position in split.trained[:CHECKED_SAMPLES]:
        row = material.rows[int(position)]
        if isinstance(material.rows, ConversationFile):
            name, answer = f"conversation {position}", row.exchanges[0].answered  # type: ignore[union-attr]
            yield name, Image.new("RGB", (64, 48), (90, 120, 150)), answer
        else:
            yield row.row.image_id, render.opener.open(row.row), row.caption  # type: ignore[union-attr]
