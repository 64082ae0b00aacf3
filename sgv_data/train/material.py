"""What a captioner is trained on: the run's kept teacher captions, or a file of conversations."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgv_data.captioner.load import Captioner
from sgv_data.captioner.picture import picture_opener
from sgv_data.manifest import CaptionerModel, Manifest
from sgv_data.prompts import load_prompt
from sgv_data.run_folder import file_sha256
from sgv_data.stage import StageContext
from sgv_data.train.conversations import ConversationFile, write_conversations
from sgv_data.train.kept import KeptFile, kept_captions, write_kept

CAPTIONS, CONVERSATIONS = ".kept.arrow", ".conversations.arrow"


@dataclass(frozen=True, slots=True)
class Material:
    """Rows by position. `unusable` are those left out, by reason; `without_picture` says which are text alone."""

    rows: KeptFile | ConversationFile
    unusable: dict[str, int] = field(default_factory=dict)
    without_picture: Any = None


def conversations_identity(settings: CaptionerModel) -> str | None:
    """sha256 of the conversations' bytes, or None if there are none. Pictures, maybe a million, are not hashed."""
    path = Path(settings.conversations.json_file) if settings.conversations is not None else None
    return file_sha256(path) if path is not None and path.is_file() else None


def prepare_material(settings: CaptionerModel, context: StageContext) -> Material:
    """The rows laid out for random access, from the file that an earlier attempt left where there is one.

    Raises:
        InputError: if the file of conversations, or the folder of its pictures, is not there or cannot be read.
    """
    if settings.conversations is not None:
        path = context.folder / CONVERSATIONS
        if not path.is_file():
            context.progress.begin("reading conversations", None)
            places = settings.conversations
            write_conversations(path, Path(places.json_file), Path(places.images))
        file = ConversationFile(path)
        return Material(file, file.unusable, file.without_picture())
    path = context.folder / CAPTIONS
    if not path.is_file():
        inputs = (context.input("index"), context.input("collect"), context.input("filter-teacher"))
        write_kept(path, kept_captions(*inputs))
    return Material(KeptFile(path))


def remove_material(folder: Path) -> None:
    """Removes the files that `prepare_material` made."""
    for name in (CAPTIONS, CONVERSATIONS):
        (folder / name).unlink(missing_ok=True)


def sample_maker(material: Material, manifest: Manifest, settings: CaptionerModel, captioner: Captioner) -> Any:
    """Samples with labels by position, for this model: a `CaptionSamples` or a `ConversationSamples`."""
    from sgv_data.captioner.conversation import ConversationRenderer
    from sgv_data.captioner.render import Renderer
    from sgv_data.train.dataset import CaptionSamples, ConversationSamples

    prompt = load_prompt(settings.prompt, manifest.prompt_folders)
    if isinstance(material.rows, KeptFile):
        opener = picture_opener(manifest, captioner.processor.image_processor)
        return CaptionSamples(material.rows, Renderer(captioner, prompt, settings.max_tokens), opener)
    assert settings.conversations is not None
    renderer = ConversationRenderer(captioner, prompt, settings.max_tokens)
    return ConversationSamples(material.rows, renderer, Path(settings.conversations.images), manifest.pictures)
