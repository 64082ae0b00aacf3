"""How many captions are generated at once: as many as were asked for, or as memory holds."""

from __future__ import annotations

_FIRST_PATIENCE = 512
_GROWTH = 1.25


class BatchSize:
    """Halved when memory runs out; after a good many captions tried a little larger again, ever more rarely where that
    fails."""

    def __init__(self, wanted: int) -> None:
        self.now = self._wanted = wanted
        self._patience = _FIRST_PATIENCE
        self._num_since = 0
        self._failed_at: int | None = None

    def fell_short(self, num_tried: int) -> None:
        """Memory did not suffice for `num_tried` captions at once, of which there were at least two."""
        if self._failed_at is not None and num_tried <= self._failed_at:
            self._patience *= 4
        self._failed_at = num_tried
        self.now = max(1, min(self.now, num_tried) // 2)
        self._num_since = 0

    def described(self, count: int = 1) -> None:
        """So many captions are finished."""
        if self.now >= self._wanted:
            return
        self._num_since += count
        if self._num_since >= self._patience:
            self._num_since = 0
            self.now = min(self._wanted, max(self.now + 1, int(self.now * _GROWTH)))
