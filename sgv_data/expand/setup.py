"""What all processes that work on one expansion agree on, worked out by each of them from manifest and run folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgv_data.captioner.load import TINY, choose_device, choose_dtype, find_model, require_captioner_part
from sgv_data.captioner.picture import PictureOpener, visible_side_of
from sgv_data.captioner.setting import Setting
from sgv_data.errors import ManifestError, RunFolderError
from sgv_data.expand.ladder import first_setting
from sgv_data.expand.rows import Writer
from sgv_data.expand.units import Unit, UnitStore, cut_units
from sgv_data.manifest import CaptionerModel, Manifest
from sgv_data.prompts import Prompt, load_prompt
from sgv_data.records import ImageRow
from sgv_data.run_folder import RunFolder, canonical_json, digest
from sgv_data.sources.reader import PictureReader
from sgv_data.tables import read_table

if TYPE_CHECKING:
    import torch

VERSION = 3

MADE_BY = ".made_by"
"""In `units/`: the hash of all that makes a caption, left there by the process that began."""


@dataclass(frozen=True, slots=True)
class Work:
    """One expansion. `model` is the captioner's folder, `index` that of the pictures' table."""

    manifest: Manifest
    settings: CaptionerModel
    prompt: Prompt
    writer: Writer
    setting: Setting
    folder: Path
    index: Path
    model: Path

    def units(self) -> Iterator[Unit]:
        """All units, in hash order."""
        rows = read_table(self.index, "images", ImageRow)
        asked = (row for row in rows if row.reject is None and row.for_expand)
        return cut_units(asked, self.manifest.expand.unit_size, self.writer.made_by)

    def store(self) -> UnitStore:
        """Where finished units lie."""
        return UnitStore(self.folder / "units")

    def opener(self) -> PictureOpener:
        """Opens the run's pictures for this captioner."""
        return PictureOpener(PictureReader(self.manifest), self.manifest.pictures, visible_side_of(self.model))


def captioner_settings(manifest: Manifest) -> CaptionerModel:
    """The manifest's section.

    Raises:
        ManifestError: there is none.
    """
    if manifest.captioner is None:
        raise ManifestError(f"{manifest.name}: this manifest has no section 'captioner', so nothing can be expanded")
    return manifest.captioner


def prepare(manifest: Manifest, run: RunFolder, stage: str = "expand") -> Work:
    """Works out what is to be done. The captioner is known by the hashes in the record of `train`.

    Raises:
        MissingPart: the engine's libraries are not installed.
        RunFolderError: there is no captioner.
    """
    settings, expand = captioner_settings(manifest), manifest.expand
    prompt = load_prompt(settings.prompt, manifest.prompt_folders)
    record = run.record("train")
    files = {name: stamp.sha256 for name, stamp in record.files.items() if name.startswith("model/")} if record else {}
    if not files:
        raise RunFolderError(f"{run.stage('train')} holds no finished captioner; run train first")
    revision = digest(files)
    engine: dict[str, str] = {"engine": expand.engine}
    if expand.server is not None and expand.engine == "openai":
        label, model_revision = expand.server.model, ""
        engine["served_model"] = expand.server.model
    else:
        label, model_revision = f"{_base_label(settings)}, fine-tuned", f"sha256:{revision}"
        engine["dtype"] = str(_dtype(manifest, settings)).removeprefix("torch.")
    setting = first_setting(expand)
    made_by = digest({
        "version": VERSION, "captioner": revision, "prompt": prompt.sha256, "engine": engine,
        "decoding": decoding_identity(manifest), "pictures": manifest.pictures.model_dump(mode="json"),
    })  # fmt: skip
    writer = Writer(label, model_revision, prompt, tuple(sorted(engine.items())), expand.sampling.seed, made_by)
    return Work(
        manifest, settings, prompt, writer, setting, run.stage(stage), run.stage("index"), run.stage("train") / "model"
    )


def decoding_identity(manifest: Manifest) -> dict[str, Any]:
    """All of the manifest that tells how captions are decoded, the first time and later."""
    expand = manifest.expand
    return {
        "max_new_tokens": expand.max_new_tokens,
        "sampling": expand.sampling.model_dump(mode="json"),
        "retry": canonical_json(expand.retry.model_dump(mode="json")),
    }


def _dtype(manifest: Manifest, settings: CaptionerModel) -> torch.dtype:
    require_captioner_part()
    import torch

    if manifest.expand.on == "ray" and settings.precision == "auto":
        raise ManifestError(
            "on a Ray cluster machines may differ: say with captioner.precision (bfloat16 on GPUs, float32) how all of "
            "them are to compute"
        )
    device = torch.device("cpu") if "cpu" in manifest.expand.gpus else choose_device()
    return choose_dtype(settings.precision, device)


def _base_label(settings: CaptionerModel) -> str:
    return TINY if settings.base_model == TINY else find_model(settings.base_model, settings.revision).label
