"""Running ahead keeps the order, is bounded, passes errors on and ends when nobody listens."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sgv_data.expand.ahead import Ahead


def test_items_come_in_order() -> None:
    assert list(Ahead(range(50), 3)) == list(range(50))


def test_it_is_never_further_ahead_than_asked() -> None:
    made = threading.Semaphore(0)
    num_made = 0

    def items() -> Iterator[int]:
        nonlocal num_made
        for number in range(100):
            num_made += 1
            made.release()
            yield number

    ahead = Ahead(items(), 2)
    assert next(ahead) == 0
    # One was taken, two wait, one is in the thread's hand.
    for _ in range(4):
        assert made.acquire(timeout=5)
    assert not made.acquire(timeout=0.05)
    assert num_made == 4
    ahead.close()


def test_an_error_comes_where_its_item_would_have() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    ahead = Ahead(items(), 4)

    assert next(ahead) == 1
    with pytest.raises(KeyError, match="broken"):
        next(ahead)


def test_leaving_early_ends_the_thread() -> None:
    ahead = Ahead(range(1000), 1)
    next(ahead)

    ahead.close()

    assert not [thread for thread in threading.enumerate() if thread.name == "run-ahead"]
