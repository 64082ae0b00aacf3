"""Prompts: one Markdown file each, with YAML front matter (`id`, `version`, `for`) and the text sent to a model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import yaml

from sgv_data.errors import ManifestError
from sgv_data.package_data import packaged_folder


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as sent. `sha256` is over the text alone."""

    prompt_id: str
    version: int
    made_for: str
    text: str
    sha256: str


def load_prompt(prompt_id: str, folders: tuple[Path, ...] = ()) -> Prompt:
    """The prompt `<prompt_id>.md` from the first of `folders`, then from the prompts that come with the project.

    Raises:
        ManifestError: if there is no such file or its front matter is wrong.
    """
    searched = (*folders, packaged_folder("prompts"))
    for folder in searched:
        path = folder / f"{prompt_id}.md"
        if path.is_file():
            return _parse(path)
    known = sorted({path.stem for folder in searched for path in folder.glob("*.md")})
    raise ManifestError(f"no prompt {prompt_id!r}; known prompts: {', '.join(known)}")


def _parse(path: Path) -> Prompt:
    _, _, rest = path.read_text(encoding="utf-8").partition("---\n")
    head, fence, body = rest.partition("\n---\n")
    try:
        fields = yaml.safe_load(head) if fence else None
    except yaml.YAMLError as exc:
        raise ManifestError(f"{path}: the front matter is no YAML ({exc})") from exc
    if not isinstance(fields, dict) or set(fields) != {"id", "version", "for"}:
        raise ManifestError(f"{path}: needs front matter between two --- lines with exactly id, version and for")
    if fields["id"] != path.stem or not isinstance(fields["version"], int):
        raise ManifestError(f"{path}: id must be {path.stem!r} and version a whole number")
    text = body.strip()
    return Prompt(path.stem, fields["version"], str(fields["for"]), text, hashlib.sha256(text.encode()).hexdigest())
