"""How stages tell what they are doing. The command line hands in an implementation; stages only know this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Panel:
    """A few named facts shown together in one place that is drawn over; `line` says the same in one line."""

    title: str
    rows: tuple[tuple[str, str], ...]
    line: str
    share_done: float | None = None


class Progress(Protocol):
    """Told by a stage while it works. Implementations never raise and are cheap to call per item."""

    def begin(self, what: str, total: int | None) -> None:
        """A countable piece of work starts; the one before it is over."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more items are done; `note` replaces the short text beside the bar."""

    def show(self, panel: Panel) -> None:
        """A panel takes the place of the bar, and of the panel before it; `begin` ends it."""

    def say(self, line: str) -> None:
        """One line that should stay on the screen."""


class Silent:
    """Shows nothing: for tests and for use as a library."""

    def begin(self, what: str, total: int | None) -> None: ...

    def advance(self, count: int = 1, note: str = "") -> None: ...

    def show(self, panel: Panel) -> None: ...

    def say(self, line: str) -> None: ...
