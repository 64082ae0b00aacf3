"""What a run looks like: a bar or a panel that is drawn over on a terminal, plain periodic lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from sgv_data.cli.interrupts import answer_interrupts
from sgv_data.cli.panels import draw
from sgv_data.printable import printable
from sgv_data.progress import Panel
from sgv_data.run_folder import utc_now

_SECONDS_BETWEEN_LINES = 15.0
_DRAWINGS_PER_S = 4


class Screen:
    """Implements `sgv_data.progress.Progress`. Use as a context manager.

    On a terminal that cannot draw over what it wrote (`TERM=dumb`) it writes lines too.
    """

    def __init__(
        self, console: Console, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._quiet, self._clock = console, quiet, clock
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
        )
        self._task: TaskID | None = None
        self._what = self._note = ""
        self._total: int | None = None
        self._done = 0
        self._panel: Panel | None = None
        self._last_line = self._clock()
        self._drawn_width = 0
        can_draw_over = console.is_terminal and not console.is_dumb_terminal and not quiet
        self._live = self._make_live() if can_draw_over else None

    def __enter__(self) -> Screen:
        answer_interrupts()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end_panel()
        if self._live is not None:
            self._live.stop()

    def begin(self, what: str, total: int | None) -> None:
        self._end_panel()
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(printable(what), total=total, note="")
        self._what, self._total, self._done, self._note = what, total, 0, ""
        self._last_line = self._clock()

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        self._note = printable(note) or self._note
        if self._task is not None and self._live is not None:
            self._bars.update(self._task, advance=count, note=self._note)
        elif self._line_is_due():
            of = "" if self._total is None else f"/{self._total}"
            self._periodic(f"{self._what}: {self._done}{of} {self._note}")

    def show(self, panel: Panel) -> None:
        is_first, self._panel = self._panel is None, panel
        if self._live is not None:
            if is_first:
                self._live.refresh()
        elif self._line_is_due():
            self._periodic(panel.line)

    def say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def _make_live(self) -> Live:
        return Live(
            console=self._console, get_renderable=self._picture, refresh_per_second=_DRAWINGS_PER_S, transient=True,
            vertical_overflow="crop",
        )  # fmt: skip

    def _line_is_due(self) -> bool:
        if self._clock() - self._last_line < _SECONDS_BETWEEN_LINES:
            return False
        self._last_line = self._clock()
        return True

    def _periodic(self, line: str) -> None:
        """A line that tells its time, since it is read in a log."""
        self.say(f"{utc_now()} {line}")

    def _end_panel(self) -> None:
        """The panel goes; the one line that says the same stays."""
        panel, self._panel = self._panel, None
        if panel is None:
            return
        if self._live is None:
            self._periodic(panel.line)
        else:
            self.say(panel.line)

    def _picture(self) -> RenderableType:
        width, height = self._console.size
        if width < self._drawn_width:
            # The terminal may have folded what was drawn into more lines than can be counted.
            self._console.clear()
        panel = self._panel
        if panel is None:
            self._drawn_width = width if self._task is not None else 0
            return Text("") if self._task is None else self._bars.get_renderable()
        drawn = draw(panel, width, height)
        self._drawn_width = self._console.measure(drawn).maximum
        return drawn
