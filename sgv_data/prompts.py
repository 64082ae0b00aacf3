"""Prompts: one Markdown file each, with YAML front matter (`id`, `version`, `for`, perhaps `base`) and the text sent.

A prompt with `base: NAME` is the source-specific middle of a common text: NAME.md holds a line `{middle}` where it goes
and may hold a line `{offered}` where the picture's own words go, if the manifest offers them (see `offer.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sgv_data.errors import ManifestError
from sgv_data.offer import offer_block
from sgv_data.package_data import packaged_folder

MIDDLE = "{middle}"
OFFERED = "{offered}"
_FIELDS = {"id", "version", "for"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as sent. `text`, and `sha256` over it, are whole but for words offered with a single picture.

    `offer_at` is the place in `text` where these go; None: behind it.
    """

    prompt_id: str
    version: int
    made_for: str
    text: str
    sha256: str
    offer_at: int | None = None

    def offering(self, words: str) -> str:
        """The text for a picture whose source says `words` (cleaned by `offer.clean`) about it."""
        before, behind = self.text[: self.offer_at], "" if self.offer_at is None else self.text[self.offer_at :]
        return f"{before.rstrip()}\n\n{offer_block(words)}\n\n{behind.lstrip()}".rstrip()


def load_prompt(prompt_id: str, folders: tuple[Path, ...] = ()) -> Prompt:
    """The prompt `<prompt_id>.md` from the first of `folders`, then from the prompts that come with the project.

    Raises:
        ManifestError: if there is no such file, its front matter is wrong, or it is only the base of others.
    """
    path = _find(prompt_id, folders)
    fields, text = _parse(path)
    base = fields.get("base")
    if _places(text, MIDDLE):
        raise ManifestError(f"{path}: is a base for other prompts, with a place {MIDDLE}; name one of those instead")
    offer_at = None
    if base is not None:
        text, offer_at = _filled(_find(str(base), folders), text)
    return Prompt(path.stem, fields["version"], str(fields["for"]), text, text_sha256(text), offer_at)


def text_sha256(text: str) -> str:
    """The hash under which a prompt's text is recorded."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_base(path: Path) -> bool:
    """Whether a prompt file is only the frame of others."""
    return bool(_places(_parse(path)[1], MIDDLE))


def _find(prompt_id: str, folders: tuple[Path, ...]) -> Path:
    searched = (*folders, packaged_folder("prompts"))
    for folder in searched:
        path = folder / f"{prompt_id}.md"
        if path.is_file():
            return path
    known = sorted({path.stem for folder in searched for path in folder.glob("*.md")})
    raise ManifestError(f"no prompt {prompt_id!r}; known prompts: {', '.join(known)}")


def _parse(path: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text of one file."""
    _, _, rest = path.read_text(encoding="utf-8").partition("---\n")
    head, fence, body = rest.partition("\n---\n")
    try:
        fields = yaml.safe_load(head) if fence else None
    except yaml.YAMLError as exc:
        raise ManifestError(f"{path}: the front matter is no YAML ({exc})") from exc
    if not isinstance(fields, dict) or set(fields) - {"base"} != _FIELDS:
        raise ManifestError(
            f"{path}: needs front matter between two --- lines with exactly id, version and for (and base, if it is "
            "the middle of another text)"
        )
    if fields["id"] != path.stem or not isinstance(fields["version"], int):
        raise ManifestError(f"{path}: id must be {path.stem!r} and version a whole number")
    if not body.strip():
        raise ManifestError(f"{path}: there is no text below the front matter")
    return fields, body.strip()


def _filled(path: Path, middle: str) -> tuple[str, int | None]:
    """The base with the middle in its place, and the offset where offered words go."""
    fields, text = _parse(path)
    if len(_places(text, MIDDLE)) != 1 or len(_places(text, OFFERED)) > 1 or "base" in fields:
        raise ManifestError(
            f"{path}: a base has no base itself, exactly one line {MIDDLE} and at most one line {OFFERED}"
        )
    lines = [middle if line.strip() == MIDDLE else line for line in text.splitlines()]
    before, place, behind = "\n".join(lines).partition(f"\n{OFFERED}\n")
    if not place:
        return before, None
    before, behind = before.rstrip(), behind.lstrip()
    return f"{before}\n\n{behind}", len(before)


def _places(text: str, mark: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() == mark]
