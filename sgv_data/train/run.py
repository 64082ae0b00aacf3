"""The stage `train`: from the base model and the teacher's kept captions, or a file of conversations, to the captioner.

model/                  the captioner, a plain transformers folder
metrics.jsonl           loss, learning rate, speed, step by step; loss.svg draws the losses
samples-during.jsonl    what the captioner says about a few held-out samples at each evaluation
samples.jsonl           pictures nobody trained on, described by the base model and by the captioner
.*.arrow, .base/, .base-samples.json, checkpoints/   what an unfinished training needs to go on
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sgv_data.captioner.load import (
    TINY,
    ModelPlace,
    choose_device,
    find_model,
    model_identity,
    require_captioner_part,
    use_all_cores,
)
from sgv_data.captioner.quiet import quiet_libraries
from sgv_data.errors import ManifestError
from sgv_data.manifest import CaptionerModel, Manifest
from sgv_data.prompts import load_prompt
from sgv_data.records import StageReport
from sgv_data.run_folder import publish_folder
from sgv_data.stage import StageContext
from sgv_data.train import group
from sgv_data.train.checkpoints import Checkpoints
from sgv_data.train.kept import Split, split_held_out
from sgv_data.train.material import (
    Material,
    conversations_identity,
    prepare_material,
    remove_material,
)
from sgv_data.train.metrics import Metric, draw_loss, read_metrics
from sgv_data.train.samples import describe_pictures, read_captions, unseen_pictures, write_captions, write_samples

VERSION = 3
KEEP: tuple[str, ...] = ()

MODEL = "model"
_ONLY_SPEED = {"checkpoint_every_steps", "samples"}


def identity(manifest: Manifest, stage: str) -> dict[str, Any]:
    """The base model's own bytes, the prompt, and every setting but those that only change speed or what is shown."""
    settings = _settings(manifest)
    prompt = load_prompt(settings.prompt, manifest.prompt_folders)
    elsewhere = {"base_model", "revision", "conversations"}
    return {
        "captioner": {
            **settings.model_dump(mode="json", exclude=_ONLY_SPEED | elsewhere),
            **model_identity(settings.base_model, settings.revision),
            "conversations": conversations_identity(settings),
        },
        "prompt": {"id": prompt.prompt_id, "version": prompt.version, "sha256": prompt.sha256},
        "seed": manifest.seed,
    }


def run(manifest: Manifest, context: StageContext) -> StageReport:
    """Trains, describes the samples, draws the curve; then removes what only an unfinished training needs."""
    require_captioner_part()
    settings, folder = _settings(manifest), context.folder
    num_threads = use_all_cores()
    material = prepare_material(settings, context)
    split = split_held_out(material.rows, settings.held_out, manifest.seed)
    if not (folder / MODEL).is_dir():
        _train(manifest, settings, context, material, split)
    _finish_samples(manifest, settings, context)
    metrics = read_metrics(folder / "metrics.jsonl")
    draw_loss(metrics, folder / "loss.svg")
    merged = read_captions(folder / ".merged.json") or {}
    Checkpoints(folder / "checkpoints").remove()
    shutil.rmtree(folder / ".base", ignore_errors=True)
    remove_material(folder)
    for name in (".base-samples.json", ".merged.json"):
        (folder / name).unlink(missing_ok=True)
    return StageReport(
        stage=context.stage,
        num_in=len(material.rows) + sum(material.unusable.values()),
        num_out=len(split.trained),
        rejected=material.unusable,
        skipped=len(split.held_out),
        notes={
            **_loss_notes(metrics),
            **{name: float(value) for name, value in merged.items()},
            "device": str(choose_device()),
            "processes": group.num_processes(),
            "threads": num_threads,
        },
    )


def join(manifest: Manifest, context: StageContext) -> None:
    """The part of a process that only helps to train: everything is prepared, and another one writes the results."""
    from sgv_data.train.job import train_together

    require_captioner_part()
    settings = _settings(manifest)
    use_all_cores()
    material = prepare_material(settings, context)
    split = split_held_out(material.rows, settings.held_out, manifest.seed)
    train_together(_base(settings, context.folder, material, manifest.seed), manifest, context, material, split)


def _settings(manifest: Manifest) -> CaptionerModel:
    if manifest.captioner is None:
        raise ManifestError(f"{manifest.name}: this manifest has no section 'captioner', so there is nothing to train")
    return manifest.captioner


def _base(settings: CaptionerModel, folder: Path, material: Material, seed: int) -> ModelPlace:
    """The base model, built now if it is `tiny`."""
    if settings.base_model != TINY:
        return find_model(settings.base_model, settings.revision)
    if not (folder / ".base").is_dir():
        import torch

        from sgv_data.captioner.tiny import build_tiny

        temporary = folder / ".base.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        torch.manual_seed(seed)
        with quiet_libraries():
            build_tiny(temporary, material.rows.captions())
        publish_folder(temporary, folder / ".base")
    return ModelPlace(str(folder / ".base"), None, TINY, is_folder=True)


def _train(
    manifest: Manifest, settings: CaptionerModel, context: StageContext, material: Material, split: Split
) -> None:
    from sgv_data.train.job import finished_model, train_together

    folder = context.folder
    base = _base(settings, folder, material, manifest.seed)
    if not manifest.only_trains:
        _describe_with_base(base, manifest, settings, context)
    Checkpoints(folder / "checkpoints").clear()
    group.start_training()
    trained = train_together(base, manifest, context, material, split)
    captioner, notes = finished_model(trained, base, manifest)
    write_captions(folder / ".merged.json", {name: repr(value) for name, value in notes.items()})
    temporary = folder / ".model.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    with quiet_libraries():
        captioner.model.save_pretrained(temporary)
        captioner.processor.save_pretrained(temporary)
    publish_folder(temporary, folder / MODEL)


def _describe_with_base(base: ModelPlace, manifest: Manifest, settings: CaptionerModel, context: StageContext) -> None:
    path = context.folder / ".base-samples.json"
    if read_captions(path) is None:
        rows = unseen_pictures(context.input("index"), settings.samples)
        captions = describe_pictures(base, rows, manifest, settings, context.progress, "samples before training")
        write_captions(path, captions)


def _finish_samples(manifest: Manifest, settings: CaptionerModel, context: StageContext) -> None:
    path = context.folder / "samples.jsonl"
    if path.is_file() or manifest.only_trains:
        return
    base = read_captions(context.folder / ".base-samples.json") or {}
    rows = [row for row in unseen_pictures(context.input("index"), settings.samples) if row.image_id in base]
    place = ModelPlace(str(context.folder / MODEL), None, MODEL, is_folder=True)
    trained = describe_pictures(place, rows, manifest, settings, context.progress, "samples after training")
    write_samples(path, base, trained)


def _loss_notes(metrics: list[Metric]) -> dict[str, float | int | str | None]:
    losses = [row.loss for row in metrics if row.loss is not None]
    held_out = [row.eval_loss for row in metrics if row.eval_loss is not None]
    speeds = sorted(row.tokens_per_s for row in metrics if row.tokens_per_s is not None)
    shares = sorted(row.mfu for row in metrics if row.mfu is not None)
    notes: dict[str, float | int | str | None] = {
        "steps": metrics[-1].step if metrics else 0,
        "last_loss": losses[-1] if losses else None,
        "held_out_loss_before": held_out[0] if held_out else None,
        "held_out_loss": held_out[-1] if held_out else None,
        "seconds": metrics[-1].seconds if metrics else 0.0,
        "tokens": sum(row.tokens or 0 for row in metrics),
        "tokens_per_s": speeds[len(speeds) // 2] if speeds else None,
        "mfu": shares[len(shares) // 2] if shares else None,
    }
    if num := sum(row.without_loss or 0 for row in metrics):
        notes["samples_without_loss"] = num
    return notes
