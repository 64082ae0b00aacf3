"""A snapshot in words: the panel of a terminal, and the one line that says the same in a log."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from sgv_data.collect.snapshot import EndpointState, Snapshot
from sgv_data.progress import Panel
from sgv_data.records import Lane, Outcome

_MOST_NAMED = 4
_LIMITS = {
    "requests": "requests/min",
    "tokens": "tokens/min",
    "in_flight": "requests in flight",
    "pause": "a pause",
    "ramp": "the slow start",
    "work": "none, work is short",
    "pictures": "preparing pictures",
    "rest": "a rest after faults",
}
_ORDER = (Outcome.OK, Outcome.REFUSED, Outcome.TRUNCATED, Outcome.FAILED)


def panel_of(snapshot: Snapshot) -> Panel:
    """Everything there is to see, the most important first: small terminals leave out the last rows."""
    lane = ", batch lane" if snapshot.lane is Lane.BATCH else ""
    share = snapshot.num_done / snapshot.num_total if snapshot.num_total else None
    return Panel(f"asking the teacher{lane}", tuple(_rows(snapshot)), line_of(snapshot), share)


def line_of(snapshot: Snapshot) -> str:
    """One line: `collect: 1,200 of 5,000 (24%), 44.1/s, 2 min left, 64 in flight, limit: tokens/min, …`."""
    unfinished = snapshot.num_done < snapshot.num_total
    parts = [_done(snapshot), f"{snapshot.per_s:.1f}/s"]
    if unfinished:
        if snapshot.eta_s is not None:
            parts.append(f"{duration(snapshot.eta_s)} left")
        parts.append(f"{snapshot.in_flight:,} in flight")
        if snapshot.backing_off:
            parts.append(f"{snapshot.backing_off:,} backing off")
        parts.append(f"limit: {_limit(snapshot.binding)}")
    if snapshot.spent_usd is not None:
        about = snapshot.projected_usd if unfinished else None
        parts.append(dollars(snapshot.spent_usd) + (f" of about {_about(about)}" if about is not None else ""))
    parts += [f"{count:,} {name}" for name, count in _outcomes(snapshot) if name != Outcome.OK]
    if snapshot.faults:
        num_faults = sum(snapshot.faults.values())
        parts.append("1 fault" if num_faults == 1 else f"{num_faults:,} faults")
    return "collect: " + ", ".join(parts)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 d 5 h`."""
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def dollars(usd: float) -> str:
    """`$0.0123`, `$4.50`, `$1,234`."""
    return f"${usd:,.4f}" if 0 < usd < 1 else f"${usd:,.2f}" if usd < 1000 else f"${usd:,.0f}"


def _about(usd: float) -> str:
    """An estimate, without cents that nobody knows."""
    return f"${usd:,.0f}" if usd >= 100 else dollars(usd)


def _rows(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    left = "time left not known yet" if snapshot.eta_s is None else f"{duration(snapshot.eta_s)} left"
    yield "pictures", f"{_done(snapshot)}, {left}"
    yield "rate", f"{snapshot.per_s:.1f} pictures/s, {snapshot.tokens_per_minute:,.0f} tokens/min"
    yield "limit now", _limit(snapshot.binding) + _allowed(snapshot)
    yield "in flight", _in_flight(snapshot)
    yield "money", _money(snapshot)
    yield "answers", _answers(snapshot)
    if snapshot.failures:
        yield "failed", _named(snapshot.failures)
    if snapshot.faults:
        yield "faults", _named(snapshot.faults)
    if len(snapshot.endpoints) > 1:
        yield from ((endpoint.name, _endpoint(endpoint)) for endpoint in snapshot.endpoints)


def _done(snapshot: Snapshot) -> str:
    if not snapshot.num_total:
        return f"{snapshot.num_done:,}"
    percent = min(100, math.floor(1000 * snapshot.num_done / snapshot.num_total) / 10)
    return f"{snapshot.num_done:,} of {snapshot.num_total:,} ({percent:g}%)"


def _limit(binding: str) -> str:
    """Binding names in words, also in `tokens at a, pause at b`."""
    parts = [part.partition(" at ") for part in binding.split(", ")]
    return ", ".join(_LIMITS.get(name, name) + at + place for name, at, place in parts)


def _allowed(snapshot: Snapshot) -> str:
    """The figure of the limit that binds, where there is but one endpoint."""
    if len(snapshot.endpoints) != 1:
        return ""
    (endpoint,) = snapshot.endpoints
    rates = {"requests": endpoint.requests_per_minute, "tokens": endpoint.tokens_per_minute}
    per_minute = rates.get(snapshot.binding)
    return "" if per_minute is None else f", {per_minute:,.0f} allowed now"


def _in_flight(snapshot: Snapshot) -> str:
    most = sum(endpoint.may_be_in_flight for endpoint in snapshot.endpoints if not endpoint.out)
    allowed = f" of {most:,} allowed now" if most else ""
    paused_s = max((endpoint.paused_s for endpoint in snapshot.endpoints), default=0.0)
    paused = f", paused for {duration(paused_s)}" if paused_s > 0 and len(snapshot.endpoints) == 1 else ""
    return f"{snapshot.in_flight:,}{allowed}, {snapshot.backing_off:,} backing off{paused}"


def _money(snapshot: Snapshot) -> str:
    spent, projected, budget = snapshot.spent_usd, snapshot.projected_usd, snapshot.budget_usd
    if spent is None:
        return "not counted: the price is not known"
    parts = [f"{dollars(spent)} spent"]
    if projected is not None:
        parts.append(f"about {_about(projected)} in all")
    if budget is not None:
        parts.append(f"{dollars(max(0.0, budget - spent))} left of {dollars(budget)}")
        if projected is not None and projected > budget:
            parts.append("NOT ENOUGH")
    return ", ".join(parts)


def _outcomes(snapshot: Snapshot) -> list[tuple[str, int]]:
    return [(name.value, count) for name in _ORDER if (count := snapshot.outcomes.get(name.value, 0))]


def _answers(snapshot: Snapshot) -> str:
    """Counts by outcome; the share where it is not simply what is left."""
    total = sum(snapshot.outcomes.values())
    return ", ".join(
        f"{count:,} {name}" + ("" if name == Outcome.OK else f" ({100 * count / total:.1f}%)")
        for name, count in _outcomes(snapshot)
    ) or "none yet"  # fmt: skip


def _named(counts: Mapping[str, int]) -> str:
    """The most frequent by name, the others in one number."""
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} ×{count:,}" for name, count in order[:_MOST_NAMED]]
    if rest := sum(count for _, count in order[_MOST_NAMED:]):
        shown.append(f"others ×{rest:,}")
    return ", ".join(shown)


def _endpoint(state: EndpointState) -> str:
    if state.out:
        return "left out: it does not answer; tried again later"
    parts = [f"{state.in_flight:,} of {state.may_be_in_flight:,} in flight", f"limit: {_limit(state.binding)}"]
    if state.paused_s > 0:
        parts.append(f"paused for {duration(state.paused_s)}")
    if state.requests_per_minute is not None:
        parts.append(f"{state.requests_per_minute:,.0f} requests/min")
    if state.tokens_per_minute is not None:
        parts.append(f"{state.tokens_per_minute:,.0f} tokens/min")
    return ", ".join(parts)
