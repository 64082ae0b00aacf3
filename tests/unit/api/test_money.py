from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgv_data.api.budget import Budget
from sgv_data.api.prices import TokenPrice, plain_model, price_of
from sgv_data.errors import BudgetReached
from sgv_data.manifest import Teacher


def test_the_manifests_price_wins_over_the_table() -> None:
    teacher = Teacher.model_validate({"model": "gpt-4o", "price": {"input_usd": 1, "output_usd": 2}})
    assert price_of(teacher) == TokenPrice(1.0, 2.0)


def test_a_listed_model_has_a_dated_price() -> None:
    price = price_of(Teacher(model="gpt-4o-2024-11-20"))
    assert price is not None
    assert (price.input_usd, price.output_usd, price.dated) == (2.5, 10.0, "2026-11-22")
    assert price.cost_usd(825, 200) == pytest.approx(0.0040625)


def test_the_lane_decides_the_price() -> None:
    teacher = Teacher(model="gpt-5.4-mini", lane="batch")
    batch, live, flex = price_of(teacher), price_of(teacher, "live"), price_of(teacher, "flex")
    assert batch == flex == TokenPrice(0.375, 2.25, "2026-11-22")
    assert live == TokenPrice(0.75, 4.5, "2026-11-22")


def test_a_lane_without_a_listed_price_has_none() -> None:
    assert price_of(Teacher(model="gpt-4-turbo", lane="batch")) is None
    assert price_of(Teacher(model="gpt-4o"), "flex") is None


def test_the_manifests_price_holds_in_every_lane() -> None:
    teacher = Teacher.model_validate({"model": "gpt-4o", "lane": "batch", "price": {"input_usd": 1, "output_usd": 2}})
    assert price_of(teacher) == price_of(teacher, "live") == TokenPrice(1.0, 2.0)


def test_a_price_called_unknown_is_not_looked_up() -> None:
    assert price_of(Teacher(model="gpt-4o", price="unknown")) is None


@pytest.mark.parametrize("model", ["gpt-5-pro", "pixel-reader", "gpt-4o-2024"])
def test_an_unlisted_model_has_no_price(model: str) -> None:
    assert price_of(Teacher(model=model)) is None


def test_vendor_and_date_are_taken_off_a_name() -> None:
    assert plain_model("OpenAI/gpt-4.1-mini-2025-04-14") == "gpt-4.1-mini"
    assert plain_model("claude-haiku-4-5-20251001") == "claude-haiku-4-5"


@given(st.integers(1, 40), st.floats(0.05, 5.0), st.integers(0, 1000))
@settings(deadline=None, max_examples=50)
def test_requests_at_the_edge_never_exceed_the_cap_and_leave_less_than_one(
    workers: int, cap_usd: float, seed: int
) -> None:
    rng, worst_usd = random.Random(seed), 0.1
    budget = Budget(cap_usd)
    spent: list[float] = []

    async def worker() -> None:
        while True:
            await budget.reserve(worst_usd)
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            cost_usd = rng.uniform(0.02, worst_usd)
            spent.append(cost_usd)
            await budget.settle(worst_usd, cost_usd)

    async def main() -> None:
        ends = await asyncio.gather(*(worker() for _ in range(workers)), return_exceptions=True)
        assert all(isinstance(end, BudgetReached) for end in ends)

    asyncio.run(main())
    assert cap_usd - worst_usd - 1e-6 <= sum(spent) <= cap_usd + 1e-6


def test_what_earlier_runs_spent_counts() -> None:
    with pytest.raises(BudgetReached, match="budget_usd"):
        asyncio.run(Budget(1.0, spent_usd=0.95).reserve(0.1))


def test_without_a_cap_spending_is_only_counted() -> None:
    async def main() -> float:
        budget = Budget(None)
        await budget.reserve(10.0)
        await budget.settle(10.0, 4.0)
        return budget.spent_usd

    assert asyncio.run(main()) == 4.0
