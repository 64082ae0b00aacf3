"""Each rule of the controller by itself, against a clock that the tests drive."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgv_data.api.controller import Binding, Controller, Ticket
from sgv_data.api.ramp import RampRule, ramp_rule
from sgv_data.manifest import Limits


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def make(clock: Clock, ramp: RampRule | None = None, **limits: float) -> Controller:
    return Controller(Limits.model_validate(limits), clock, random.Random(1), ramp)


def send(controller: Controller, clock: Clock, num_tokens: float = 100.0) -> Ticket:
    """Waits as long as it must and sends."""
    while (wait_s := controller.wait_s(num_tokens)) > 0:
        assert math.isfinite(wait_s)
        clock.now_s += wait_s
    return controller.sent(num_tokens)


def run(controller: Controller, clock: Clock, seconds: float, num_tokens: float = 100.0) -> int:
    """Sends all that may be sent; each request is answered at once. Returns how many there were."""
    number, end_s = 0, clock.now_s + seconds
    while True:
        wait_s = controller.wait_s(num_tokens)
        if clock.now_s + wait_s > end_s:
            clock.now_s = end_s
            return number
        clock.now_s += wait_s
        if wait_s <= 0:
            controller.answered({}, num_tokens, None, controller.sent(num_tokens))
            number += 1


def test_it_starts_slowly() -> None:
    clock = Clock()
    assert run(make(clock, requests_per_minute=6000), clock, 0.5) < 25


@pytest.mark.parametrize("limits", [{"requests_per_minute": 600.0}, {"tokens_per_minute": 60_000.0}])
def test_no_minute_holds_more_than_allowed(limits: dict[str, float]) -> None:
    clock = Clock()
    controller = make(clock, **limits)
    minutes = [run(controller, clock, 60) for _ in range(3)]
    assert all(0.97 * 600 <= number <= 600 for number in minutes)


@given(st.lists(st.floats(1, 5000), min_size=20, max_size=60), st.integers(10_000, 60_000))
@settings(deadline=None, max_examples=30)
def test_no_sliding_minute_holds_more_tokens_than_allowed(amounts: list[float], per_minute: int) -> None:
    clock = Clock()
    controller = make(clock, tokens_per_minute=per_minute)
    sent = []
    for amount in amounts:
        ticket = send(controller, clock, amount)
        controller.answered({}, amount, None, ticket)
        sent.append((ticket.at_s, amount))
    assert max(sum(a for t, a in sent if start <= t < start + 60) for start, _ in sent) <= per_minute


def test_a_request_larger_than_a_minute_is_let_through() -> None:
    clock = Clock()
    controller = make(clock, tokens_per_minute=600)
    first, second = send(controller, clock, 3000.0), send(controller, clock, 3000.0)
    assert first.at_s == 100.0
    assert 299 <= second.at_s - first.at_s <= 310


def test_no_more_are_in_flight_than_allowed() -> None:
    clock = Clock()
    controller = make(clock, in_flight=2)
    tickets = [send(controller, clock), send(controller, clock)]
    assert controller.wait_s(1) == math.inf
    assert controller.binding is Binding.IN_FLIGHT
    controller.failed(ticket=tickets[0])
    clock.now_s += 1
    assert controller.wait_s(1) == 0.0


@given(st.floats(1, 600), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_nothing_is_sent_while_the_server_asks_to_wait(seconds: float, seed: int) -> None:
    clock = Clock()
    controller = Controller(Limits(), clock, random.Random(seed))
    controller.slowed(seconds, {"retry-after": str(seconds)}, send(controller, clock))
    refused_s = clock.now_s
    assert controller.binding is Binding.PAUSE
    assert seconds - 2e-6 <= send(controller, clock).at_s - refused_s <= 1.05 * seconds + 1e-6


def test_a_pause_is_never_shortened() -> None:
    clock = Clock()
    controller = make(clock)
    controller.pause(50.0)
    controller.pause(1.0)
    assert controller.wait_s(1) >= 50.0


def test_a_pause_ends_without_a_rush() -> None:
    clock = Clock()
    controller = make(clock, requests_per_minute=600)
    run(controller, clock, 30)
    controller.pause(20.0)
    run(controller, clock, 21.0)
    assert run(controller, clock, 0.5) <= 11


def burst(controller: Controller, clock: Clock, number: int) -> None:
    """So many requests under way at once are all turned away."""
    tickets = [send(controller, clock) for _ in range(number)]
    for ticket in tickets:
        clock.now_s += 0.001
        controller.slowed(None, {}, ticket)


@pytest.mark.parametrize("number", [1, 12])
def test_a_burst_of_refusals_cuts_once(number: int) -> None:
    clock = Clock()
    controller = make(clock, requests_per_minute=6000)
    run(controller, clock, 30)
    burst(controller, clock, number)
    run(controller, clock, 0.5)
    rate = controller.state("a").requests_per_minute
    assert rate is not None
    assert 0.4 * 6000 <= rate <= 0.8 * 6000


def test_after_a_refusal_a_single_request_finds_out() -> None:
    clock = Clock()
    controller = make(clock, requests_per_minute=6000)
    run(controller, clock, 30)
    refused = send(controller, clock)
    clock.now_s += 0.4
    controller.slowed(None, {}, refused)
    send(controller, clock)
    assert controller.wait_s(1) >= 0.5


def test_unanswered_refusals_are_probed_ever_more_rarely() -> None:
    clock = Clock()
    controller = make(clock)
    run(controller, clock, 5)
    probes = []
    while clock.now_s < 400:
        ticket = send(controller, clock)
        probes.append(ticket.at_s)
        clock.now_s += 0.01
        controller.slowed(None, {}, ticket)
    assert len(probes) < 25
    assert probes[-1] - probes[-2] > 5 * (probes[2] - probes[1])


def test_the_rate_climbs_back_after_a_cut() -> None:
    clock = Clock()
    controller = make(clock, requests_per_minute=600)
    run(controller, clock, 60)
    burst(controller, clock, 3)
    run(controller, clock, 120)
    assert run(controller, clock, 60) >= 0.97 * 600


def test_a_rate_that_does_not_bind_does_not_grow() -> None:
    clock = Clock()
    controller = make(clock)
    for _ in range(100):
        clock.now_s += 1
        assert controller.wait_s(100) == 0.0
        controller.answered({}, 100, None, controller.sent(100))
    rate = controller.state("a").requests_per_minute
    assert rate is not None
    assert rate <= 10 * 60
    assert controller.binding is Binding.WORK


def test_faults_of_the_server_stop_growth() -> None:
    clock = Clock()
    controller = make(clock)
    for _ in range(60):
        controller.failed(ticket=send(controller, clock))
    rate = controller.state("a").requests_per_minute
    assert rate is not None
    assert rate < 60 * 60


@pytest.mark.parametrize(("headers", "requests", "tokens"), [
    ({"x-ratelimit-limit-requests": "600"}, 600, None),
    ({"x-ratelimit-limit-tokens": "6000"}, None, 6000),
    ({"x-ratelimit-limit-tokens": "6000", "x-ratelimit-limit-project-tokens": "3000"}, None, 3000),
    ({"x-ratelimit-limit-project-tokens": "3000"}, None, 3000),
    ({"x-ratelimit-limit-requests": "soon", "x-ratelimit-limit-tokens": "0"}, None, None),
])  # fmt: skip
def test_limits_are_learned_from_headers(headers: dict[str, str], requests: int | None, tokens: int | None) -> None:
    clock = Clock()
    controller = make(clock)
    for _ in range(3000):
        controller.answered(headers, 100, None, send(controller, clock))
    state = controller.state("a")
    assert (state.requests_per_minute or math.inf) == pytest.approx(0.99 * requests) if requests else True
    assert (state.tokens_per_minute or math.inf) == (pytest.approx(0.99 * tokens) if tokens else math.inf)


def test_headers_do_not_raise_a_configured_limit() -> None:
    clock = Clock()
    controller = make(clock, requests_per_minute=60)
    controller.answered({"x-ratelimit-limit-requests": "6000"}, 1, None, send(controller, clock))
    assert run(controller, clock, 60) <= 60


def test_tokens_that_were_reserved_and_not_used_are_not_given_back() -> None:
    clock = Clock()
    controller = make(clock, tokens_per_minute=6000)
    for _ in range(10):
        controller.answered({}, 1000, 1, send(controller, clock, 1000))
    assert clock.now_s >= 100 + 60


def test_tokens_used_beyond_the_reservation_are_owed() -> None:
    clock = Clock()
    controller = make(clock, tokens_per_minute=6000)
    controller.answered({}, 100, 3100, send(controller, clock, 100))
    assert controller.wait_s(100) > 25


def test_limits_may_change_at_run_time() -> None:
    clock = Clock()
    controller = make(clock, requests_per_minute=600)
    run(controller, clock, 60)
    controller.change(Limits(requests_per_minute=60))
    assert run(controller, clock, 60) <= 61
    controller.change(Limits(requests_per_minute=1200, in_flight=3))
    run(controller, clock, 10)
    assert run(controller, clock, 60) >= 0.97 * 1200
    assert controller.state("a").may_be_in_flight == 3


@pytest.mark.parametrize(("limits", "binding"), [
    ({"requests_per_minute": 60, "tokens_per_minute": 1e9}, Binding.REQUESTS),
    ({"requests_per_minute": 1e6, "tokens_per_minute": 6000}, Binding.TOKENS),
])  # fmt: skip
def test_it_says_which_limit_binds(limits: dict[str, float], binding: Binding) -> None:
    clock = Clock()
    controller = make(clock, **limits)
    run(controller, clock, 30)
    assert controller.binding is binding


def unreachable(controller: Controller, clock: Clock, number: int) -> None:
    for _ in range(number):
        controller.failed(unreachable=True, ticket=send(controller, clock))


def test_a_dead_server_gets_one_probe_at_a_time_and_ever_more_rarely() -> None:
    clock = Clock()
    controller = make(clock)
    unreachable(controller, clock, 5)
    assert controller.out
    start_s = clock.now_s
    probe = send(controller, clock)
    assert clock.now_s - start_s >= 1.0
    assert controller.wait_s(1) == math.inf
    controller.failed(unreachable=True, ticket=probe)
    start_s = clock.now_s
    unreachable(controller, clock, 10)
    assert clock.now_s - start_s > 150


@pytest.mark.parametrize("answer", ["answered", "slowed", "failed"])
def test_anything_that_is_answered_brings_a_dead_server_back(answer: str) -> None:
    clock = Clock()
    controller = make(clock)
    unreachable(controller, clock, 7)
    probe = send(controller, clock)
    if answer == "answered":
        controller.answered({}, 100, 100, probe)
    elif answer == "slowed":
        controller.slowed(None, {}, probe)
    else:
        controller.failed(ticket=probe)
    assert not controller.out
    assert math.isfinite(controller.wait_s(1))


def test_failures_between_answers_leave_a_server_in() -> None:
    clock = Clock()
    controller = make(clock)
    for _ in range(10):
        unreachable(controller, clock, 4)
        controller.answered({}, 100, 100, send(controller, clock))
    assert not controller.out


def test_requests_that_left_before_a_server_was_out_do_not_lengthen_its_pause() -> None:
    clock = Clock()
    controller = make(clock)
    tickets = [send(controller, clock) for _ in range(40)]
    for ticket in tickets:
        controller.failed(unreachable=True, ticket=ticket)
    assert controller.wait_s(1) <= 1.0


def test_above_its_threshold_a_rate_keeps_to_the_ramp() -> None:
    clock = Clock()
    rule = RampRule(above_tokens_per_minute=60_000, growth=1.5, period_s=900)
    controller = make(clock, rule)
    run(controller, clock, 60, 1000)
    assert controller.binding is Binding.RAMP
    minutes = [run(controller, clock, 60, 1000) for _ in range(31)]
    assert 58 <= minutes[0] <= 64
    assert 1.4 <= minutes[15] / minutes[0] <= 1.55
    assert 1.4 <= minutes[30] / minutes[15] <= 1.55


def test_a_server_that_says_slow_down_is_approached_by_the_ramp() -> None:
    clock = Clock()
    controller = make(clock)
    run(controller, clock, 60)
    controller.slowed(1.0, {"retry-after": "1"}, send(controller, clock), slow_down=True)
    run(controller, clock, 30)
    assert controller.binding is Binding.RAMP


def test_the_ramp_rule_belongs_to_a_provider() -> None:
    rule = ramp_rule("https://api.openai.com/v1")
    assert rule == ramp_rule(None) == RampRule(1_000_000, 1.5, 900)
    assert ramp_rule("http://127.0.0.1:8000/v1") is None
