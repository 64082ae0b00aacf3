"""Tokens and money for the pictures of a source: exact for pictures, estimated or calibrated for words."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from sgv_data.api.calibration import Calibration
from sgv_data.api.prices import LANES, price_of
from sgv_data.api.text_tokens import caption_tokens
from sgv_data.api.tokens import most_image_tokens, rejected_patches, sent_size
from sgv_data.api.wire import RequestTemplate
from sgv_data.manifest import Manifest, Source, Teacher
from sgv_data.offer import MAX_CHARS
from sgv_data.plan.figures import Money, SourcePlan
from sgv_data.plan.pictures import SourcePictures
from sgv_data.prompts import Prompt, load_prompt

_LONGEST_WORDS = "\U0001f333" * MAX_CHARS
_JPEG_BYTES_PER_PIXEL = 0.3
_BASE64 = 4 / 3


@dataclass(frozen=True, slots=True)
class Words:
    """What the words of one request of a source count for, without those offered with a picture."""

    text_tokens: float
    most_text_tokens: int
    output_tokens: float


@dataclass(frozen=True, slots=True)
class Pixels:
    """What pictures by size count for. `asked` is how many of each size the provider will take."""

    asked: NDArray[np.float64]
    tokens: NDArray[np.float64]
    sent_pixels: NDArray[np.float64]

    @property
    def total_tokens(self) -> float:
        """Of all pictures."""
        return float(self.asked @ self.tokens)


def words_of(manifest: Manifest, teacher: Teacher, spec: Source, bills: Calibration | None) -> Words:
    """The means over a source's prompts, which share its pictures about equally.

    Raises:
        ManifestError: if a prompt does not exist.
    """
    prompts = [load_prompt(name, manifest.prompt_folders) for name in spec.prompts]
    templates = [RequestTemplate(teacher, prompt.text) for prompt in prompts]
    longest = templates
    if spec.offer_text:
        longest = [RequestTemplate(teacher, prompt.offering(_LONGEST_WORDS)) for prompt in prompts]
    return Words(
        text_tokens=fmean(template.likely_text_tokens for template in templates),
        most_text_tokens=max(template.most_text_tokens for template in longest),
        output_tokens=fmean(_output_tokens(prompt, teacher, bills) for prompt in prompts),
    )


def _output_tokens(prompt: Prompt, teacher: Teacher, bills: Calibration | None) -> float:
    guess = min(caption_tokens(prompt.text), teacher.max_completion_tokens)
    if bills is None:
        return guess
    billed = bills.output_tokens_by_prompt.get(prompt.prompt_id, guess * bills.output_factor)
    return min(billed, teacher.max_completion_tokens)


def pixels_of(teacher: Teacher, pictures: SourcePictures) -> Pixels:
    """Exact tokens by size; upper bounds for a model that is not known."""
    asked = pictures.count.copy()
    tokens, sent_pixels = np.zeros(len(asked)), np.zeros(len(asked))
    model, detail = teacher.model, teacher.image.detail
    for place, size in enumerate(zip(pictures.width_px.tolist(), pictures.height_px.tolist(), strict=True)):
        sent = sent_size(teacher, *size)
        if rejected_patches(model, *sent, detail) is not None:
            asked[place] = 0
        tokens[place] = most_image_tokens(model, *sent, detail)
        sent_pixels[place] = sent[0] * sent[1]
    return Pixels(asked, tokens, sent_pixels)


def source_plan(teacher: Teacher, pictures: SourcePictures, words: Words, bills: Calibration | None) -> SourcePlan:
    """One source, priced."""
    pixels = pixels_of(teacher, pictures)
    num_asked = float(pixels.asked.sum())
    kept = num_asked / max(1.0, float(pictures.count.sum()))
    factor = bills.prompt_factor if bills else 1.0
    prompt = (pixels.total_tokens + num_asked * words.text_tokens + pictures.offered_tokens * kept) * factor
    output, most_output = num_asked * words.output_tokens, num_asked * teacher.max_completion_tokens
    most_prompt = pixels.total_tokens + num_asked * words.most_text_tokens
    file_bytes = pictures.captioned_bytes / max(1, pictures.num_captioned) or float("inf")
    sent_bytes = np.minimum(file_bytes, pixels.sent_pixels * _JPEG_BYTES_PER_PIXEL)
    return SourcePlan(
        name=pictures.name,
        num_found=pictures.num_found,
        left_out=pictures.left_out,
        num_asked=round(num_asked),
        num_too_large=round(float(pictures.count.sum()) - num_asked),
        num_captioned=pictures.num_captioned,
        image_tokens=round(pixels.total_tokens),
        prompt_tokens=round(prompt),
        output_tokens=round(output),
        most_prompt_tokens=round(most_prompt),
        most_output_tokens=round(most_output),
        upload_bytes=round(float(pixels.asked @ sent_bytes) * _BASE64),
        captioned_bytes=round(pictures.captioned_bytes),
        money=money(teacher, (prompt, output), (most_prompt, most_output)),
    )


def money(teacher: Teacher, expected: tuple[float, float], most: tuple[float, float]) -> dict[str, Money]:
    """(prompt tokens, output tokens) as money, in every lane whose price is known."""
    found = {}
    for lane in LANES:
        price = price_of(teacher, lane)
        if price is not None:
            found[lane] = Money(expected_usd=price.cost_usd(*expected), most_usd=price.cost_usd(*most))
    return found


def summed(teacher: Teacher, sources: list[SourcePlan]) -> SourcePlan:
    """All sources together."""
    def total(name: str) -> int:
        return sum(getattr(source, name) for source in sources)

    reasons = sorted({reason for source in sources for reason in source.left_out})
    numbers = {
        name: total(name) for name, field in SourcePlan.model_fields.items() if field.annotation is int
    }
    return SourcePlan(
        name="all",
        left_out={reason: sum(source.left_out.get(reason, 0) for source in sources) for reason in reasons},
        money=money(
            teacher,
            (numbers["prompt_tokens"], numbers["output_tokens"]),
            (numbers["most_prompt_tokens"], numbers["most_output_tokens"]),
        ),
        **numbers,
    )
