from __future__ import annotations

from typing import Any

import pytest

from sgv_data.collect.panel import dollars, duration, line_of, panel_of
from sgv_data.collect.snapshot import EndpointState, Snapshot


def endpoint(name: str, **more: Any) -> EndpointState:
    values = {
        "name": name, "in_flight": 30, "may_be_in_flight": 64, "requests_per_minute": 500.0,
        "tokens_per_minute": 800_000.0, "binding": "tokens", **more,
    }  # fmt: skip
    return EndpointState.model_validate(values)


def snapshot(**more: Any) -> Snapshot:
    values: dict[str, Any] = {
        "at_utc": "2026-01-01T00:00:00Z", "lane": "live", "num_total": 5000, "num_done": 1200, "num_done_now": 1000,
        "in_flight": 30, "backing_off": 2, "per_s": 12.34, "tokens_per_minute": 812_345.6, "binding": "tokens",
        "eta_s": 310.0, "spent_usd": 4.5, "projected_usd": 18.75, "budget_usd": 60.0,
        "outcomes": {"failed": 5, "ok": 955, "refused": 30, "truncated": 10}, "failures": {"bad_reply": 5},
        "faults": {"500": 3, "slow_down": 12}, "endpoints": (endpoint("only"),), **more,
    }  # fmt: skip
    return Snapshot.model_validate(values)


def rows(**more: Any) -> dict[str, str]:
    return dict(panel_of(snapshot(**more)).rows)


def test_the_panel_tells_everything_there_is_to_know() -> None:
    panel = panel_of(snapshot())
    assert panel.share_done == pytest.approx(0.24)
    assert dict(panel.rows) == {
        "pictures": "1,200 of 5,000 (24%), 5 min left",
        "rate": "12.3 pictures/s, 812,346 tokens/min",
        "limit now": "tokens/min, 800,000 allowed now",
        "in flight": "30 of 64 allowed now, 2 backing off",
        "money": "$4.50 spent, about $18.75 in all, $55.50 left of $60.00",
        "answers": "955 ok, 30 refused (3.0%), 10 truncated (1.0%), 5 failed (0.5%)",
        "failed": "bad_reply ×5",
        "faults": "slow_down ×12, 500 ×3",
    }


def test_the_line_says_the_same() -> None:
    assert line_of(snapshot()) == (
        "collect: 1,200 of 5,000 (24%), 12.3/s, 5 min left, 30 in flight, 2 backing off, limit: tokens/min, "
        "$4.50 of about $18.75, 30 refused, 10 truncated, 5 failed, 15 faults"
    )


def test_several_endpoints_have_a_row_each() -> None:
    shown = rows(
        binding="tokens at a, pause at b",
        endpoints=(endpoint("a"), endpoint("b", binding="pause", paused_s=2.2), endpoint("c", out=True)),
    )
    assert shown["limit now"] == "tokens/min at a, a pause at b"
    assert shown["in flight"].startswith("30 of 128 allowed now")
    assert shown["a"].startswith("30 of 64 in flight, limit: tokens/min, 500 requests/min")
    assert "paused for 3 s" in shown["b"]
    assert "left out" in shown["c"]


def test_a_cap_that_will_not_do_is_said() -> None:
    assert rows(projected_usd=61.0)["money"].endswith("$55.50 left of $60.00, NOT ENOUGH")


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    shown = rows(eta_s=None, spent_usd=None, projected_usd=None, budget_usd=None, outcomes={})
    assert shown["pictures"].endswith("time left not known yet")
    assert shown["money"] == "not counted: the price is not known"
    assert shown["answers"] == "none yet"


def test_almost_done_is_not_called_done() -> None:
    assert "(99.9%)" in rows(num_total=100_000, num_done=99_999)["pictures"]


def test_many_faults_take_one_row() -> None:
    faults = {f"code {number}": number + 1 for number in range(40)}
    assert rows(faults=faults)["faults"] == "code 39 ×40, code 38 ×39, code 37 ×38, code 36 ×37, others ×666"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59.5, "60 s"), (61, "1 min"), (3599, "1 h 0 min"), (5400, "1 h 30 min"), (200_000, "2 d 7 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("usd", "text"), [(0, "$0.00"), (0.0123, "$0.0123"), (12.345, "$12.35"), (98765, "$98,765")])
def test_dollars(usd: float, text: str) -> None:
    assert dollars(usd) == text
