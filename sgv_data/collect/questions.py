"""Which prompt each picture gets, with which words of its own, and the request that follows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

from sgv_data.api.keys import SentImage
from sgv_data.api.prices import TokenPrice
from sgv_data.api.tokens import most_image_tokens, sent_size
from sgv_data.api.wire import Request, RequestTemplate
from sgv_data.manifest import Manifest, Teacher
from sgv_data.offer import MAX_CHARS, OFFER_TEXT, clean
from sgv_data.prompts import Prompt, load_prompt, text_sha256
from sgv_data.run_folder import canonical_json

_LONGEST_WORDS = "\U0001f333" * MAX_CHARS


class Askable(Protocol):
    """What a question depends on; an `ImageRow` is one. `text` is looked at only if its source offers it."""

    @property
    def image_id(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def text(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and the request it makes. `offered_text`: the source's words in it, as sent.

    `sample` counts earlier askings of the very same request in this run; it is part of the key, so that a repeated
    request has an answer of its own.
    """

    prompt: Prompt
    template: RequestTemplate
    offered_text: str | None = None
    sample: int = 0

    def key(self, image: SentImage) -> str:
        """The cache key of the request about a picture."""
        plain = self.template.key(image)
        return plain if not self.sample else hashlib.sha256(f"{plain}\nsample {self.sample}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Change:
    """How a later round asks: with this teacher, and with this prompt in place of the sources' (None: with theirs).

    `sample`: how many earlier rounds asked in the same way.
    """

    teacher: Teacher
    prompt: Prompt | None
    sample: int


class Questions:
    """The questions of a manifest: those of the first asking or, with a `change`, of a later round.

    Raises:
        ManifestError: if a source names a prompt that does not exist.
    """

    def __init__(self, manifest: Manifest, change: Change | None = None) -> None:
        self._seed = manifest.seed
        self._change = change
        self.teacher = change.teacher if change else manifest.teacher
        self._names = {source.name: source.prompts for source in manifest.images}
        self._offering = {source.name for source in manifest.images if source.offer_text}
        names = sorted({name for names in self._names.values() for name in names})
        self._prompts = {name: load_prompt(name, manifest.prompt_folders) for name in names}
        prompts = [change.prompt] if change and change.prompt else self._prompts.values()
        self._plain = {
            prompt.prompt_id: Question(prompt, RequestTemplate(self.teacher, prompt.text)) for prompt in prompts
        }
        self._most_text_tokens = {source.name: self._most_tokens(source.name) for source in manifest.images}
        # The same request as the first time would find the first answer.
        self._same_teacher = _as_asked(self.teacher) == _as_asked(manifest.teacher)
        self._sampling = canonical_json(sampling_of(self.teacher))

    @property
    def reads_text(self) -> bool:
        """Whether any source offers its pictures' own words, so that questions depend on `ImageRow.text`."""
        return bool(self._offering)

    @property
    def sampling(self) -> str:
        """How the teacher decodes, as `CaptionRow.sampling` has it."""
        return self._sampling

    def offers(self, source: str) -> bool:
        """Whether a source's own words are offered to the teacher."""
        return source in self._offering

    def prompts_of(self, source: str) -> list[Prompt]:
        """The prompts of a source: as listed in the manifest, or that of the round."""
        if self._change and self._change.prompt:
            return [self._change.prompt]
        return [self._prompts[name] for name in self._names[source]]

    def for_row(self, row: Askable) -> Question:
        """The question about one picture: of several prompts one, by hash: neither order nor machine matters."""
        first = self._drawn(row)
        prompt = self._change.prompt if self._change and self._change.prompt else first
        question = self._plain[prompt.prompt_id]
        words = clean(row.text) if row.source in self._offering else None
        sample = self._sample(prompt, first)
        if words is None:
            return question if not sample else Question(prompt, question.template, None, sample)
        return Question(prompt, RequestTemplate(self.teacher, prompt.offering(words)), words, sample)

    def key(self, row: Askable, image: SentImage) -> str:
        """The cache key of the request about one picture."""
        return self.for_row(row).key(image)

    def request(self, row: Askable, image: SentImage, data: bytes) -> Request:
        """The request about one picture, with what it may cost."""
        question = self.for_row(row)
        template = question.template
        pixels = self._image_tokens(image.width_px, image.height_px)
        return Request(
            key=question.key(image),
            body=template.body(image, data),
            model=self.teacher.model,
            likely_tokens=pixels + template.likely_text_tokens + template.max_completion_tokens,
            most_prompt_tokens=pixels + template.most_text_tokens,
            most_completion_tokens=template.max_completion_tokens,
        )

    def worst_usd(self, source: str, width_px: int, height_px: int, price: TokenPrice) -> float:
        """The most that one picture of this size can cost, whatever words are offered with it."""
        pixels = self._image_tokens(*sent_size(self.teacher, width_px, height_px))
        return price.cost_usd(pixels + self._most_text_tokens[source], self.teacher.max_completion_tokens)

    def _most_tokens(self, source: str) -> int:
        """What the text of a request about a picture of this source can count for at most."""
        prompts = self.prompts_of(source)
        if source not in self._offering:
            return max(self._plain[prompt.prompt_id].template.most_text_tokens for prompt in prompts)
        texts = [prompt.offering(_LONGEST_WORDS) for prompt in prompts]
        return max(RequestTemplate(self.teacher, text).most_text_tokens for text in texts)

    def _drawn(self, row: Askable) -> Prompt:
        """The prompt of the first asking."""
        names = self._names[row.source]
        if len(names) == 1:
            return self._prompts[names[0]]
        drawn = hashlib.sha256(f"{self._seed}\nprompt\n{row.image_id}".encode("utf-8", "surrogatepass")).digest()
        return self._prompts[names[int.from_bytes(drawn[:8], "big") % len(names)]]

    def _sample(self, prompt: Prompt, first: Prompt) -> int:
        if self._change is None:
            return 0
        repeats_first = self._same_teacher and prompt.sha256 == first.sha256 and prompt.offer_at == first.offer_at
        return self._change.sample + (1 if repeats_first else 0)

    def _image_tokens(self, width_px: int, height_px: int) -> int:
        return most_image_tokens(self.teacher.model, width_px, height_px, self.teacher.image.detail)


def sampling_of(teacher: Teacher) -> dict[str, float | int | None]:
    """How the teacher decodes; null: its own way."""
    return {
        "max_completion_tokens": teacher.max_completion_tokens,
        "temperature": teacher.temperature,
        "seed": teacher.seed,
    }


def prompt_identity(manifest: Manifest, questions: Questions) -> dict[str, list[dict[str, Any]]]:
    """What is asked about the pictures of each source: prompts, and how their own words are offered with them."""
    offered = {"offered": text_sha256(f"{OFFER_TEXT}\n{MAX_CHARS}")}
    return {
        source.name: [
            {"id": prompt.prompt_id, "version": prompt.version, "sha256": prompt.sha256,
             **(offered if source.offer_text else {})}
            for prompt in questions.prompts_of(source.name)
        ]
        for source in manifest.images
    }  # fmt: skip


def _as_asked(teacher: Teacher) -> tuple[object, ...]:
    """What of the teacher's settings is in a request."""
    image = teacher.image
    return teacher.model, teacher.token_limit_name, canonical_json(sampling_of(teacher)), image.detail
