"""The ramp rule: some providers want a high rate to be reached slowly, whatever the limits are.

The rules are data with a date, in `provider_rules.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import urlsplit

from sgv_data.api.bucket import MINUTE_S, Bucket

_BURST_S = 1.0
_LONGEST_STEP_S = 60.0


@dataclass(frozen=True, slots=True)
class RampRule:
    """Above so many tokens per minute the rate may grow by at most the factor `growth` in `period_s`."""

    above_tokens_per_minute: float
    growth: float
    period_s: float


def ramp_rule(base_url: str | None) -> RampRule | None:
    """The rule of the provider behind an address (None: the default one); None if none is known."""
    host = urlsplit(base_url).hostname if base_url else "api.openai.com"
    rules = json.loads(files("sgv_data.api").joinpath("provider_rules.json").read_text(encoding="utf-8"))
    for rule in rules["ramps"]:
        if host in rule["hosts"]:
            return RampRule(rule["above_tokens_per_minute"], rule["growth"], rule["period_s"])
    return None


class Ramp:
    """Keeps to a rule. What it allows grows only while it is what binds; it starts at the rule's threshold.

    The rule counts input tokens; here all reserved tokens count, which errs on the careful side.
    """

    def __init__(self, rule: RampRule, now: float, tokens_per_minute: float | None = None) -> None:
        self._rule = rule
        self._per_minute = tokens_per_minute or rule.above_tokens_per_minute
        self._bucket = Bucket(self._per_minute / MINUTE_S, self._per_minute / MINUTE_S * _BURST_S, now)
        self._held, self._updated = False, now

    @property
    def tokens_per_minute(self) -> float:
        return self._per_minute

    def wait_s(self, num_tokens: float, now: float) -> float:
        return self._bucket.wait_s(num_tokens, now)

    def holds(self) -> None:
        """Says that it is the ramp that something now waits for."""
        self._held = True

    def take(self, num_tokens: float, now: float) -> None:
        passed_s, self._updated = max(0.0, min(now - self._updated, _LONGEST_STEP_S)), now
        if self._held:
            self._per_minute *= self._rule.growth ** (passed_s / self._rule.period_s)
            per_s = self._per_minute / MINUTE_S
            self._bucket.change(per_s, per_s * _BURST_S, now)
        self._held = False
        self._bucket.take(num_tokens, now)
