"""The stage `train`: from the base model and the teacher's kept captions to the captioner.

    model/          the captioner, a plain transformers folder
    metrics.jsonl   loss, learning rate, time, step by step; loss.svg draws it
    samples.jsonl   pictures nobody trained on, described by the base model and by the captioner
    .kept.arrow, .base/, .base-samples.json, checkpoints/   what an unfinished training needs to go on
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sgv_data.captioner.load import (
    TINY,
    Captioner,
    ModelPlace,
    choose_device,
    choose_dtype,
    find_model,
    load_captioner,
    model_identity,
    require_captioner_part,
    use_all_cores,
)
from sgv_data.captioner.parts import PartSize, part_lines, set_trained_parts
from sgv_data.captioner.picture import picture_opener
from sgv_data.captioner.quiet import quiet_libraries
from sgv_data.captioner.render import Renderer
from sgv_data.errors import ManifestError
from sgv_data.manifest import CaptionerModel, Manifest
from sgv_data.prompts import load_prompt
from sgv_data.records import StageReport
from sgv_data.run_folder import publish_folder
from sgv_data.stage import StageContext
from sgv_data.train.checkpoints import Checkpoints
from sgv_data.train.kept import KeptFile, Split, kept_captions, split_held_out, write_kept
from sgv_data.train.metrics import Metric, draw_loss, read_metrics
from sgv_data.train.samples import describe_pictures, read_captions, unseen_pictures, write_captions, write_samples

VERSION = 2
KEEP: tuple[str, ...] = ()

MODEL = "model"
_ONLY_SPEED = {"checkpoint_every_steps", "samples"}
_LOOKED_AT = 2_048
"""Of the held-out captions, so many are enough for a loss."""


def identity(manifest: Manifest, stage: str) -> dict[str, Any]:
    """The base model's own bytes, the prompt, and every setting but those that only change speed or what is shown."""
    settings = _settings(manifest)
    prompt = load_prompt(settings.prompt, manifest.prompt_folders)
    return {
        "captioner": {
            **settings.model_dump(mode="json", exclude=_ONLY_SPEED | {"base_model", "revision"}),
            **model_identity(settings.base_model, settings.revision),
        },
        "prompt": {"id": prompt.prompt_id, "version": prompt.version, "sha256": prompt.sha256},
        "seed": manifest.seed,
    }


def run(manifest: Manifest, context: StageContext) -> StageReport:
    """Trains, describes the samples, draws the curve; then removes what only an unfinished training needs."""
    require_captioner_part()
    settings, folder = _settings(manifest), context.folder
    num_threads = use_all_cores()
    kept = _kept(context)
    split = split_held_out(kept, settings.held_out, manifest.seed)
    if not (folder / MODEL).is_dir():
        _train(manifest, settings, context, kept, split)
    _finish_samples(manifest, settings, context)
    metrics = read_metrics(folder / "metrics.jsonl")
    draw_loss(metrics, folder / "loss.svg")
    Checkpoints(folder / "checkpoints").remove()
    shutil.rmtree(folder / ".base", ignore_errors=True)
    for name in (".kept.arrow", ".base-samples.json"):
        (folder / name).unlink(missing_ok=True)
    return StageReport(
        stage=context.stage,
        num_in=len(split.trained) + len(split.held_out),
        num_out=len(split.trained),
        skipped=len(split.held_out),
        notes={**_loss_notes(metrics), "device": str(choose_device()), "threads": num_threads},
    )


def _settings(manifest: Manifest) -> CaptionerModel:
    if manifest.captioner is None:
        raise ManifestError(f"{manifest.name}: this manifest has no section 'captioner', so there is nothing to train")
    return manifest.captioner


def _kept(context: StageContext) -> KeptFile:
    path = context.folder / ".kept.arrow"
    if path.is_file():
        return KeptFile(path)
    inputs = (context.input("index"), context.input("collect"), context.input("filter-teacher"))
    return write_kept(path, kept_captions(*inputs))


def _base(settings: CaptionerModel, folder: Path, kept: KeptFile, seed: int) -> ModelPlace:
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
            build_tiny(temporary, kept.captions())
        publish_folder(temporary, folder / ".base")
    return ModelPlace(str(folder / ".base"), None, TINY, is_folder=True)


def _train(
    manifest: Manifest, settings: CaptionerModel, context: StageContext, kept: KeptFile, split: Split
) -> None:
    from sgv_data.train.trainer import train

    folder = context.folder
    base = _base(settings, folder, kept, manifest.seed)
    _describe_with_base(base, manifest, settings, context)
    device = choose_device()
    captioner = load_captioner(base, device, choose_dtype("float32", device))
    if device.type == "cpu" and choose_dtype(settings.precision, device) != captioner.model.dtype:
        # In bfloat16 on a CPU torch's fused attention is half again as slow backwards as attention written out.
        captioner.model.set_attn_implementation("eager")
    sizes = set_trained_parts(captioner.model, settings.parts)
    _say_parts(context, captioner, sizes)
    use_cache = getattr(captioner.model.config, "use_cache", None)
    job = _job(manifest, settings, captioner, kept, split)
    train(job, settings, Checkpoints(folder / "checkpoints"), folder / "metrics.jsonl", context.progress)
    if use_cache is not None:
        captioner.model.config.use_cache = use_cache
    _publish_model(captioner, folder)


def _describe_with_base(
    base: ModelPlace, manifest: Manifest, settings: CaptionerModel, context: StageContext
) -> None:
    path = context.folder / ".base-samples.json"
    if read_captions(path) is None:
        rows = unseen_pictures(context.input("index"), settings.samples)
        captions = describe_pictures(base, rows, manifest, settings, context.progress, "samples before training")
        write_captions(path, captions)


def _say_parts(context: StageContext, captioner: Captioner, sizes: tuple[PartSize, ...]) -> None:
    context.progress.say(f"captioner from {captioner.label}:")
    for line in part_lines(sizes):
        context.progress.say(f"  {line}")


def _job(
    manifest: Manifest, settings: CaptionerModel, captioner: Captioner, kept: KeptFile, split: Split
) -> Any:
    """The training job, after the parity gate."""
    from sgv_data.train.dataset import CaptionDataset, SampleCache
    from sgv_data.train.parity import CHECKED_SAMPLES, check_parity
    from sgv_data.train.schedule import micro_batch_size, training_order
    from sgv_data.train.trainer import TrainingJob

    renderer = Renderer(captioner, load_prompt(settings.prompt, manifest.prompt_folders))
    opener = picture_opener(manifest, captioner.processor.image_processor)
    some = (kept[int(position)] for position in split.trained[:CHECKED_SAMPLES])
    with quiet_libraries():
        check_parity(
            renderer, captioner.processor, ((each.row.image_id, opener.open(each.row), each.caption) for each in some)
        )
    lengths, micro = kept.num_chars(), micro_batch_size(settings.batch_size, settings.micro_batch_size)
    order = training_order(split.trained, lengths, manifest.seed, settings.epochs, micro)
    looked_at = split.held_out[:_LOOKED_AT]
    by_length = looked_at[lengths[looked_at].argsort(kind="stable")]
    cache = SampleCache()
    return TrainingJob(
        model=captioner.model,
        device=captioner.device,
        trained=CaptionDataset(kept, order, renderer, opener, cache),
        held_out=CaptionDataset(kept, by_length, renderer, opener, cache),
        num_per_epoch=len(split.trained),
        pad_id=renderer.pad_id,
        seed=manifest.seed,
    )


def _publish_model(captioner: Captioner, folder: Path) -> None:
    temporary = folder / ".model.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    with quiet_libraries():
        captioner.model.save_pretrained(temporary)
        captioner.processor.save_pretrained(temporary)
    publish_folder(temporary, folder / MODEL)


def _finish_samples(manifest: Manifest, settings: CaptionerModel, context: StageContext) -> None:
    path = context.folder / "samples.jsonl"
    if path.is_file():
        return
    base = read_captions(context.folder / ".base-samples.json") or {}
    rows = [row for row in unseen_pictures(context.input("index"), settings.samples) if row.image_id in base]
    place = ModelPlace(str(context.folder / MODEL), None, MODEL, is_folder=True)
    trained = describe_pictures(place, rows, manifest, settings, context.progress, "samples after training")
    write_samples(path, base, trained)


def _loss_notes(metrics: list[Metric]) -> dict[str, float | int | str | None]:
    losses = [row.loss for row in metrics if row.loss is not None]
    held_out = [row.eval_loss for row in metrics if row.eval_loss is not None]
    return {
        "steps": metrics[-1].step if metrics else 0,
        "last_loss": losses[-1] if losses else None,
        "held_out_loss_before": held_out[0] if held_out else None,
        "held_out_loss": held_out[-1] if held_out else None,
        "seconds": metrics[-1].seconds if metrics else 0.0,
    }
