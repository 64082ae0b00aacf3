"""What the same pictures would cost when asked about in other ways, and what to look out for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from sgv_data.api.calibration import Calibration
from sgv_data.api.prices import listed_price, plain_model, price_of
from sgv_data.api.tokens import grid_of, image_tokens
from sgv_data.manifest import Manifest, Teacher
from sgv_data.plan.estimate import source_plan, summed, words_of
from sgv_data.plan.figures import SourcePlan, WhatIf
from sgv_data.plan.pictures import SourcePictures

_MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1-mini", "gpt-5.4-mini", "gpt-5.6-luna", "gemini-2.5-flash")
_SIDES: tuple[int | str, ...] = (512, 768, "model")
_DETAILS = ("low", "high")
_TYPICAL_PX = (1024, 1024)
_FULL_SIZE_PX = (4000, 3000)
_WORTH_SAYING = 1.05
_MOST_SIZES = 20_000


def what_ifs(manifest: Manifest, pictures: Sequence[SourcePictures], bills: Calibration | None) -> tuple[WhatIf, ...]:
    """One line per variant that differs from the manifest. Bills count for variants of the same model only.

    Of more than a few thousand sizes every n-th stands for its neighbours.
    """
    found = []
    pictures = [_thinned(each) for each in pictures]
    for label, teacher in _variants(manifest.teacher):
        known = bills if teacher.model == manifest.teacher.model else None
        sources = [
            source_plan(teacher, each, words_of(manifest, teacher, spec, bills), known)
            for spec, each in zip(manifest.images, pictures, strict=True)
        ]
        total = summed(teacher, sources)
        each = total.image_tokens / total.num_asked if total.num_asked else None
        is_known = grid_of(teacher.model, teacher.image.detail) is not None
        found.append(WhatIf(label=label, image_tokens_each=each if is_known else None, money=total.money))
    return tuple(found)


def _thinned(pictures: SourcePictures) -> SourcePictures:
    step = len(pictures.count) // _MOST_SIZES + 1
    count = pictures.count[::step]
    if step == 1 or not count.sum():
        return pictures
    return replace(
        pictures,
        width_px=pictures.width_px[::step],
        height_px=pictures.height_px[::step],
        count=count * (pictures.count.sum() / count.sum()),
    )


def _variants(teacher: Teacher) -> Iterator[tuple[str, Teacher]]:
    image = teacher.image
    for detail in _DETAILS:
        if detail != image.detail:
            yield f"detail: {detail}", _changed(teacher, detail=detail)
    for side in _SIDES:
        if side != image.max_side_px:
            yield f"max_side_px: {side}", _changed(teacher, max_side_px=side)
    for model in _MODELS:
        if model != plain_model(teacher.model) and listed_price(model) and grid_of(model, image.detail):
            yield f"model: {model}", teacher.model_copy(update={"model": model, "price": None})


def _changed(teacher: Teacher, **image: int | str) -> Teacher:
    return teacher.model_copy(update={"image": teacher.image.model_copy(update=image)})


def warnings(manifest: Manifest, pictures: Sequence[SourcePictures], total: SourcePlan) -> tuple[str, ...]:
    """What costs more than one thinks, or will not work."""
    teacher = manifest.teacher
    found = [note for each in pictures for note in each.notes]
    found += [*_about_model(teacher), *_about_detail(teacher, pictures), *_about_limits(teacher, total)]
    if total.num_too_large:
        found.append(
            f"{total.num_too_large:,} pictures have more patches than {teacher.model} takes: they will fail as "
            "bad_image; set teacher.image.detail: high or a number for teacher.image.max_side_px"
        )
    return tuple(found)


def _about_model(teacher: Teacher) -> Iterator[str]:
    detail = teacher.image.detail
    if grid_of(teacher.model, detail) is None:
        yield (
            f"how {teacher.model} counts pictures at detail {detail} is not known: image tokens are an upper bound "
            "until the first replies are there"
        )
    price = price_of(teacher)
    if price is None:
        yield f"no price is known for {teacher.model} in the {teacher.lane} lane; set teacher.price"
    tokens = image_tokens(teacher.model, *_TYPICAL_PX, detail)
    like, like_price = image_tokens("gpt-4o", *_TYPICAL_PX, detail), listed_price("gpt-4o", teacher.lane)
    if plain_model(teacher.model) == "gpt-4o-mini" and price and tokens and like and like_price:
        times = price.cost_usd(tokens, 0) / like_price.cost_usd(like, 0)
        yield f"pictures cost {times:.1f} times as much with gpt-4o-mini as with gpt-4o: its tokens are cheap, but many"


def _about_detail(teacher: Teacher, pictures: Sequence[SourcePictures]) -> Iterator[str]:
    model, detail = teacher.model, teacher.image.detail
    full, high = (image_tokens(model, *_FULL_SIZE_PX, each) for each in ("auto", "high"))
    if full and high and full > high and detail in ("auto", "original"):
        yield (
            f"detail {detail} means full size for {model}: a picture of 12 megapixels counts {full:,} tokens instead "
            f"of {high:,} at detail high"
        )
    if detail == "low" and (more := _times_as_many(model, pictures)) > _WORTH_SAYING:
        yield f"detail low counts {more:.1f} times as many tokens as high with {model} and these pictures"


def _times_as_many(model: str, pictures: Sequence[SourcePictures]) -> float:
    """Tokens at detail low over those at high, for pictures sent at their full size."""
    low, high = grid_of(model, "low"), grid_of(model, "high")
    if low is None or high is None:
        return 0.0
    sums = np.zeros(2)
    for each in map(_thinned, pictures):
        for width_px, height_px, count in zip(each.width_px.tolist(), each.height_px.tolist(), each.count, strict=True):
            sums += count * low.tokens(width_px, height_px), count * high.tokens(width_px, height_px)
    return float(sums[0] / sums[1]) if sums[1] else 0.0


def _about_limits(teacher: Teacher, total: SourcePlan) -> Iterator[str]:
    bill = total.money.get(teacher.lane)
    if teacher.budget_usd is not None and bill is not None and bill.expected_usd > teacher.budget_usd:
        num_paid = total.num_asked * teacher.budget_usd / bill.expected_usd
        yield (
            f"teacher.budget_usd ${teacher.budget_usd:,.2f} will stop collect after about {num_paid:,.0f} of "
            f"{total.num_asked:,} pictures"
        )
    per_minute = [endpoint.limits.tokens_per_minute for endpoint in teacher.endpoints]
    largest = total.prompt_tokens / max(1, total.num_asked) + teacher.max_completion_tokens
    for limit in per_minute or [teacher.limits.tokens_per_minute]:
        if limit is not None and largest > limit:
            yield f"one request counts {largest:,.0f} tokens, more than the {limit:,.0f} tokens allowed per minute"
