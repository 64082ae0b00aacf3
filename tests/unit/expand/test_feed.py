"""The feed says when it can bring no more before something is answered, and ends only when all is settled."""

from __future__ import annotations

import threading

import numpy as np

from sgv_data.captioner.setting import Setting
from sgv_data.expand.engine import Picture
from sgv_data.expand.feed import Feed

NO_PIXELS = np.zeros((1, 1, 3), np.uint8)


def picture(place: int) -> Picture:
    return Picture(place, NO_PIXELS, Setting(8))


def test_it_says_that_it_is_dry_and_ends_when_all_is_settled() -> None:
    feed = Feed(iter([picture(1)]))

    assert next(feed) == picture(1)
    assert next(feed) is None
    feed.settle()
    assert list(feed) == []


def test_what_is_put_back_comes_once_more_and_it_says_again_that_it_is_dry() -> None:
    feed = Feed(iter([picture(1), picture(2)]))
    assert [next(feed), next(feed), next(feed)] == [picture(1), picture(2), None]
    feed.put_back(picture(2))
    feed.settle()

    assert [next(feed), next(feed)] == [picture(2), None]
    feed.settle()
    assert list(feed) == []


def test_one_who_waits_is_woken_by_what_is_put_back() -> None:
    feed, got = Feed(iter([picture(1)])), []
    next(feed)
    next(feed)
    waiter = threading.Thread(target=lambda: got.append(next(feed)))
    waiter.start()

    feed.put_back(picture(1))
    waiter.join(5)

    assert got == [picture(1)]


def test_closing_it_wakes_the_one_who_waits() -> None:
    feed = Feed(iter([picture(1)]))
    next(feed)
    next(feed)
    waiter = threading.Thread(target=lambda: list(feed))
    waiter.start()

    feed.close()
    waiter.join(5)

    assert not waiter.is_alive()
