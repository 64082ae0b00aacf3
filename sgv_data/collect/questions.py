"""Which prompt each picture gets, and the request that follows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sgv_data.api.keys import SentImage
from sgv_data.api.prices import TokenPrice
from sgv_data.api.tokens import fitted, most_image_tokens
from sgv_data.api.wire import Request, RequestTemplate
from sgv_data.manifest import Manifest
from sgv_data.prompts import Prompt, load_prompt
from sgv_data.records import ImageRow


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and the request it makes."""

    prompt: Prompt
    template: RequestTemplate


class Questions:
    """The questions of a manifest.

    Raises:
        ManifestError: if a source names a prompt that does not exist.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._seed, self._teacher = manifest.seed, manifest.teacher
        self._names = {source.name: source.prompts for source in manifest.images}
        self._questions = {}
        for name in sorted({name for names in self._names.values() for name in names}):
            prompt = load_prompt(name, manifest.prompt_folders)
            self._questions[name] = Question(prompt, RequestTemplate(manifest.teacher, prompt.text))

    def prompts_of(self, source: str) -> list[Prompt]:
        """The prompts of a source, as listed in the manifest."""
        return [self._questions[name].prompt for name in self._names[source]]

    def for_row(self, row: ImageRow) -> Question:
        """The question about one picture: of several prompts one, by hash: neither order nor machine matters."""
        names = self._names[row.source]
        if len(names) == 1:
            return self._questions[names[0]]
        drawn = hashlib.sha256(f"{self._seed}\nprompt\n{row.image_id}".encode("utf-8", "surrogatepass")).digest()
        return self._questions[names[int.from_bytes(drawn[:8], "big") % len(names)]]

    def key(self, row: ImageRow, image: SentImage) -> str:
        """The cache key of the request about one picture."""
        return self.for_row(row).template.key(image)

    def request(self, row: ImageRow, image: SentImage, data: bytes) -> Request:
        """The request about one picture, with what it may cost."""
        template = self.for_row(row).template
        pixels = self._image_tokens(image.width_px, image.height_px)
        return Request(
            key=template.key(image),
            body=template.body(image, data),
            model=self._teacher.model,
            likely_tokens=pixels + template.likely_text_tokens + template.max_completion_tokens,
            most_prompt_tokens=pixels + template.most_text_tokens,
            most_completion_tokens=template.max_completion_tokens,
        )

    def worst_usd(self, source: str, width_px: int, height_px: int, price: TokenPrice) -> float:
        """The most that one picture of this size can cost."""
        text = max(self._questions[name].template.most_text_tokens for name in self._names[source])
        size = fitted(width_px, height_px, self._teacher.image.max_side_px)
        return price.cost_usd(self._image_tokens(*size) + text, self._teacher.max_completion_tokens)

    def _image_tokens(self, width_px: int, height_px: int) -> int:
        return most_image_tokens(self._teacher.model, width_px, height_px, self._teacher.image.detail)
