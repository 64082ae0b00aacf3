"""Finding and loading the captioner: a folder, `sgv:base`, or a name on the Hub; offline if its files are here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sgv_data.captioner.quiet import quiet_libraries
from sgv_data.errors import ManifestError, MissingPart, TrainingError
from sgv_data.package_data import resolve_asset
from sgv_data.processes import usable_cores
from sgv_data.run_folder import digest, file_sha256

if TYPE_CHECKING:
    import torch

TINY = "tiny"
"""The base model that is built from scratch from the captions at hand."""

HASHED_UP_TO_BYTES = 200_000_000
"""Larger model folders are known by the names and sizes of their files: hashing them would take longer than a look."""

_TRAINED = ("train", "model")
"""Where in a run folder the trained captioner lies."""

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """Where a model is loaded from: `name` is a folder or a Hub name, `label` what records and captions call it."""

    name: str
    revision: str | None
    label: str
    is_folder: bool


@dataclass(frozen=True, slots=True)
class Captioner:
    """A loaded model with its processor, on its device and in evaluation mode."""

    model: Any
    processor: Any
    device: torch.device
    label: str


def find_model(base_model: str, revision: str | None = None) -> ModelPlace:
    """Where `captioner.base_model` is.

    Raises:
        ManifestError: if it is written as a folder and there is none.
    """
    if base_model.startswith("sgv:"):
        folder = resolve_asset(base_model)
        if not (folder / "config.json").is_file():
            raise ManifestError(f"captioner.base_model: {base_model} is not in this installation of sgv_data")
        return ModelPlace(str(folder), None, base_model, is_folder=True)
    path = Path(base_model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ManifestError(f"captioner.base_model: the folder {base_model} holds no config.json, so no model")
        return ModelPlace(str(path.absolute()), None, _folder_label(path.absolute()), is_folder=True)
    if path.parts[-2:] == _TRAINED:
        raise ManifestError(f"captioner.base_model: {path.parent.parent} has no trained captioner yet; train it first")
    if base_model.startswith((".", "/", "~")) or base_model.count("/") > 1:
        raise ManifestError(f"captioner.base_model: no such folder: {base_model}")
    return ModelPlace(base_model, revision, base_model, is_folder=False)


def _folder_label(folder: Path) -> str:
    """A model folder's name; that of the run for one that a run has trained."""
    return folder.parts[-3] if folder.parts[-2:] == _TRAINED and len(folder.parts) > 2 else folder.name


def model_identity(base_model: str, revision: str | None = None) -> dict[str, Any]:
    """What tells one base model from another, for fingerprints: JSON values, the same wherever the folder lies."""
    if base_model == TINY:
        return {"base_model": TINY}
    place = find_model(base_model, revision)
    if not place.is_folder:
        return {"base_model": place.label, "revision": place.revision}
    return {"base_model": place.label, "files": folder_digest(Path(place.name))}


def folder_digest(folder: Path) -> str:
    """One hash over the files of a model folder: their contents, or names and sizes from 200 MB on."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    by_content = sum(path.stat().st_size for path in files) < HASHED_UP_TO_BYTES
    return digest(
        {
            path.relative_to(folder).as_posix(): file_sha256(path) if by_content else path.stat().st_size
            for path in files
        }
    )


def require_captioner_part() -> None:
    """Imports torch, transformers and accelerate.

    Raises:
        MissingPart: naming the command that installs them.
    """
    # Read once, when torch is first imported. torch's threads otherwise wait for each other by spinning, and one step
    # takes ten times as long as soon as anything else, such as a process that decodes pictures, wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import accelerate  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as exc:
        missing = exc.name or "torch"
        raise MissingPart(
            f"training and expanding need {missing}, which is not installed: pip install 'sgv_data[captioner]'"
        ) from exc


def choose_device() -> torch.device:
    """The first GPU, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What the model computes in. `auto` never picks bfloat16 on a CPU: there float32 keeps captions repeatable."""
    import torch

    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def use_all_cores() -> int:
    """Lets torch use every core this process may run on, unless OMP_NUM_THREADS says otherwise; returns how many.

    Results on a CPU are equal bit for bit only for equal numbers of threads.
    """
    import torch

    asked = os.environ.get("OMP_NUM_THREADS", "")
    num_threads = int(asked) if asked.isdigit() and int(asked) > 0 else usable_cores()
    torch.set_num_threads(num_threads)
    return num_threads


def load_captioner(place: ModelPlace, device: torch.device, dtype: torch.dtype) -> Captioner:
    """The model and its processor, from disk where they are there, with weights as `dtype` whatever they are stored in.

    Raises:
        ManifestError: if there is no such model, or it is no model that describes pictures.
        TrainingError: if its tokenizer has no token for pictures.
    """
    require_captioner_part()
    from transformers import AutoModelForImageTextToText, AutoProcessor

    options: dict[str, Any] = {"local_files_only": True} if place.is_folder else {"revision": place.revision}
    try:
        with quiet_libraries():
            processor = AutoProcessor.from_pretrained(place.name, **options)
            model = AutoModelForImageTextToText.from_pretrained(place.name, dtype=dtype, **options)
    except (OSError, ValueError, KeyError) as exc:
        raise ManifestError(_load_failure(place, exc)) from exc
    captioner = Captioner(model.to(device).eval(), processor, device, place.label)
    image_token_id(captioner)
    return captioner


def _load_failure(place: ModelPlace, exc: Exception) -> str:
    reason = " ".join(str(exc).split())
    reason = reason if len(reason) <= 200 else reason[:197] + "..."
    if place.is_folder:
        return f"captioner.base_model: {place.name} holds no image-text-to-text model that loads ({reason})"
    return (
        f"captioner.base_model: {place.name!r} is no folder here, and as a model on the Hub it cannot be loaded "
        f"({reason})"
    )


def image_token_id(captioner: Captioner) -> int:
    """The token that stands for a piece of picture in the prompt.

    Raises:
        TrainingError: if the model names none, or its tokenizer does not know it.
    """
    config = captioner.model.config
    token_id = getattr(config, "image_token_id", None)
    token_id = getattr(config, "image_token_index", None) if token_id is None else token_id
    tokenizer = getattr(captioner.processor, "tokenizer", None)
    if tokenizer is None:
        raise TrainingError(f"{captioner.label}: has an image processor but no tokenizer, so it cannot write captions")
    if token_id is None or not 0 <= token_id < len(tokenizer):
        raise TrainingError(
            f"{captioner.label}: its tokenizer ({len(tokenizer)} tokens) has no image token "
            f"(the model's configuration says {token_id}); a captioner needs one"
        )
    return int(token_id)
