"""A panel as it is drawn: small, and smaller on small terminals."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.panel import Panel as Box
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sgv_data.printable import printable
from sgv_data.progress import Panel

_WIDEST = 100
_NARROWEST_BOX = 44
_LINES_AROUND_ROWS = 5
_FEWEST_ROWS = 4
_LINES_OF_TEXT = 4


@dataclass(frozen=True, slots=True)
class DrawnPanel:
    """A panel that is as large as the terminal lets it be; `other_lines` are taken by what stands around it."""

    panel: Panel
    other_lines: int = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.size.height - self.other_lines if console.is_terminal else 1000
        yield draw(self.panel, options.max_width, height)


def draw(panel: Panel, width: int, height: int) -> RenderableType:
    """The panel in at most `width` columns and `height` lines; where a box does not fit, a few lines of text."""
    num_rows = min(len(panel.rows), height - _LINES_AROUND_ROWS)
    if width < _NARROWEST_BOX or num_rows < min(len(panel.rows), _FEWEST_ROWS):
        num_lines = max(1, min(_LINES_OF_TEXT, height - 1))
        return Text(printable(panel.line, max(1, width * num_lines - 1)), overflow="fold")
    inner = min(width - 1, _WIDEST) - 4
    grid = Table.grid()
    if panel.share_done is not None:
        grid.add_row(ProgressBar(total=1.0, completed=min(1.0, panel.share_done), width=inner))
    grid.add_row(_rows(panel, num_rows, inner))
    title = Text(printable(panel.title, inner))
    return Box(grid, title=title, title_align="left", box=box.ROUNDED, width=inner + 4)


def _rows(panel: Panel, num_rows: int, width: int) -> Table:
    shown = [(Text(printable(name)), Text(printable(value))) for name, value in _that_fit(panel.rows, num_rows)]
    names_width = min(width // 3, max(name.cell_len for name, _ in shown))
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(style="bold", no_wrap=True, width=names_width, overflow="ellipsis")
    rows.add_column(no_wrap=True, width=width - names_width - 2, overflow="ellipsis")
    for name, value in shown:
        rows.add_row(name, value)
    return rows


def _that_fit(rows: tuple[tuple[str, str], ...], most: int) -> tuple[tuple[str, str], ...]:
    """The first rows, and how many are left out."""
    if len(rows) <= most:
        return rows
    return (*rows[: most - 1], ("…", f"{len(rows) - most + 1} more; the terminal is too small"))
