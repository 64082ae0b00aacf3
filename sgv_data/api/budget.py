"""The hard cap on money: the worst case is set aside before a request leaves and settled when its answer is known."""

from __future__ import annotations

import asyncio

from sgv_data.errors import BudgetReached

_CENT_FRACTION = 1e-9


class Budget:
    """`cap_usd` None: nothing is refused, spending is only counted.

    `spent_usd` at the start is what earlier runs spent, requests included that may have been billed without an answer.
    """

    def __init__(self, cap_usd: float | None, spent_usd: float = 0.0) -> None:
        self.cap_usd, self.spent_usd = cap_usd, spent_usd
        self._reserved_usd = 0.0
        self._num_reserved = 0
        self._excess = 1.0
        self._settled = asyncio.Condition()

    @property
    def excess(self) -> float:
        """By how much the bills so far went beyond the worst case at most; 1.0: never. All that is set aside grows
        by it, also for requests that are under way."""
        return self._excess

    async def reserve(self, worst_usd: float, alone: bool = False) -> None:
        """Sets `worst_usd` aside, waiting while open requests may still give some of theirs back.

        `alone`: waits until nothing else is open; for a request whose bill will tell whether the worst case is one.

        Raises:
            BudgetReached: if nothing is open any more and the cap leaves no room.
        """
        if self.cap_usd is None:
            return
        async with self._settled:
            while not self._has_room(worst_usd) or (alone and self._num_reserved):
                if not self._num_reserved:
                    raise BudgetReached(
                        f"teacher.budget_usd is used up: ${self.spent_usd:.4f} of ${self.cap_usd:.4f} spent, and the "
                        f"next picture may cost ${worst_usd * self._excess:.4f}. Everything answered is stored; raise "
                        "the budget and run the same command again to go on"
                    )
                await self._settled.wait()
            self._reserved_usd += worst_usd
            self._num_reserved += 1

    async def settle(self, worst_usd: float, spent_usd: float) -> None:
        """Ends a reservation: `spent_usd` was really spent (0 if the request was not billed)."""
        self.spent_usd += spent_usd
        if worst_usd > 0:
            self._excess = max(self._excess, spent_usd / worst_usd)
        if self.cap_usd is None:
            return
        async with self._settled:
            self._num_reserved -= 1
            self._reserved_usd = self._reserved_usd - worst_usd if self._num_reserved else 0.0
            self._settled.notify_all()

    def _has_room(self, worst_usd: float) -> bool:
        assert self.cap_usd is not None
        set_aside_usd = (self._reserved_usd + worst_usd) * self._excess
        return self.spent_usd + set_aside_usd <= self.cap_usd + _CENT_FRACTION
