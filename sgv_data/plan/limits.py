"""Time at the manifest's limits, files of the batch lane, and room on the disk."""

from __future__ import annotations

import math

from sgv_data.api.calibration import Calibration
from sgv_data.api.ramp import RampRule, ramp_rule
from sgv_data.manifest import BatchLane, Limits, Teacher
from sgv_data.plan.figures import Batches, Disk, Duration, SourcePlan

_USUAL_LATENCY_S = 5.0
"""Seconds for an answer of 200 tokens, as providers took in 2026; replaced by what replies took once there are any."""

_RAMP_MATTERS = 1.1

# Bytes, measured 2026-11 on runs of this project.
_REPLY_BYTES = 1_400
_SENT_BYTES = 260
_INDEX_ROW_BYTES = 300
_CAPTION_ROW_BYTES = 900
_SAMPLE_BYTES = 6_000
"""A sample's text, provenance, three tar headers and their padding, and its row in the shard's index."""

REQUESTS, TOKENS, IN_FLIGHT = "requests per minute", "tokens per minute", "requests in flight"
RAMP = "the provider's ramp rule"


def duration(teacher: Teacher, total: SourcePlan, bills: Calibration | None, base_url: str | None) -> Duration:
    """How long the live lane takes when nothing goes wrong and every endpoint works all the time.

    `base_url` is the server of endpoints that name none; None: the provider's own.
    """
    latency_s = bills.latency_s if bills and bills.latency_s > 0 else _USUAL_LATENCY_S
    places = [(each.limits, each.base_url) for each in teacher.endpoints] or [(teacher.limits, None)]
    tokens_each = total.prompt_tokens / max(1, total.num_asked) + teacher.max_completion_tokens
    rates = [_rates_per_s(limits, tokens_each, latency_s) for limits, _ in places]
    together = sum(min(each.values()) for each in rates)
    busiest = max(rates, key=lambda each: min(each.values()))
    steady_s = total.num_asked / together
    ramped_s = max(
        _ramped_s(steady_s, min(each.values()) * tokens_each, ramp_rule(url or base_url))
        for each, (_, url) in zip(rates, places, strict=True)
    )
    by_limit = {
        name: total.num_asked / sum(each[name] for each in rates)
        for name in (REQUESTS, TOKENS, IN_FLIGHT)
        if all(name in each for each in rates)
    }
    binding = min(busiest, key=lambda name: busiest[name])
    return Duration(
        seconds=ramped_s,
        binding=RAMP if ramped_s > _RAMP_MATTERS * steady_s else binding,
        by_limit={**by_limit, **({RAMP: ramped_s} if ramped_s > steady_s else {})},
        latency_s=latency_s,
        latency_is_billed=bills is not None and bills.latency_s > 0,
    )


def _ramped_s(steady_s: float, tokens_per_s: float, rule: RampRule | None) -> float:
    """How long what takes `steady_s` at a rate takes when the rate must be reached slowly."""
    start_per_s = rule.above_tokens_per_minute / 60 if rule else math.inf
    if rule is None or tokens_per_s <= start_per_s:
        return steady_s
    growth_per_s = math.log(rule.growth) / rule.period_s
    climb_s = math.log(tokens_per_s / start_per_s) / growth_per_s
    climbed_tokens = (tokens_per_s - start_per_s) / growth_per_s
    num_tokens = steady_s * tokens_per_s
    if num_tokens <= climbed_tokens:
        return math.log1p(num_tokens * growth_per_s / start_per_s) / growth_per_s
    return climb_s + (num_tokens - climbed_tokens) / tokens_per_s


def _rates_per_s(limits: Limits, tokens_each: float, latency_s: float) -> dict[str, float]:
    """Requests per second that each limit allows; a limit that is not set is left out."""
    rates = {IN_FLIGHT: limits.in_flight / latency_s}
    if limits.requests_per_minute is not None:
        rates[REQUESTS] = limits.requests_per_minute / 60
    if limits.tokens_per_minute is not None:
        rates[TOKENS] = limits.tokens_per_minute / 60 / max(1.0, tokens_each)
    return rates


def batches(lane: BatchLane, total: SourcePlan) -> Batches:
    """How many files and rounds the batch lane needs."""
    by_count = math.ceil(total.num_asked / lane.max_requests)
    by_bytes = math.ceil(total.upload_bytes / lane.max_bytes)
    rounds = 1 if lane.max_enqueued_tokens is None else math.ceil(total.prompt_tokens / lane.max_enqueued_tokens)
    return Batches(num_files=max(by_count, by_bytes), rounds=max(1, rounds) if total.num_asked else 0)


def disk(total: SourcePlan) -> Disk:
    """Room for replies, tables and shards."""
    return Disk(
        replies_bytes=total.num_asked * (_REPLY_BYTES + _SENT_BYTES),
        tables_bytes=total.num_found * _INDEX_ROW_BYTES + total.num_captioned * _CAPTION_ROW_BYTES,
        shards_bytes=total.captioned_bytes + total.num_captioned * _SAMPLE_BYTES,
    )
