from __future__ import annotations

import io

import pytest
from rich.console import Console

from sgv_data.cli.panels import draw
from sgv_data.cli.screen import Screen
from sgv_data.progress import Panel

ROWS = tuple((f"name {number}", f"value {number} " + "x" * 60) for number in range(9))
PANEL = Panel("asking", ROWS, "asking: 5 of 10, " + "and so on " * 20, 0.5)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def console(width: int = 80, height: int = 24, terminal: bool = False, term: str = "xterm") -> Console:
    """Writes into memory."""
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=width, height=height, color_system=None,
        _environ={"TERM": term},
    )  # fmt: skip


def written(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def drawn(width: int, height: int, panel: Panel = PANEL) -> list[str]:
    on = console(width, height, terminal=True)
    on.print(draw(panel, width, height))
    return written(on).splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (44, 24), (43, 24), (10, 5), (200, 6), (80, 2)])
def test_a_panel_fits_its_terminal(width: int, height: int) -> None:
    lines = drawn(width, height)
    assert len(lines) < height
    assert max(map(len, lines)) <= width


def test_a_panel_shows_every_row_where_there_is_room() -> None:
    shown = "\n".join(drawn(80, 24))
    assert [name for name, _ in ROWS if name not in shown] == []
    assert "━" in shown


def test_a_low_terminal_shows_the_first_rows_and_says_how_many_are_missing() -> None:
    shown = "\n".join(drawn(80, 10))
    assert "name 3" in shown
    assert "name 4" not in shown
    assert "5 more" in shown


def test_a_narrow_terminal_gets_text_instead_of_a_box() -> None:
    assert "".join(drawn(30, 24)).startswith("asking: 5 of 10, and so on")


def test_hostile_words_are_drawn_as_harmless_text() -> None:
    hostile = "\x1b[2J[red]x[/red]\u202e\nnext"
    shown = drawn(80, 24, Panel(hostile, ((hostile, hostile),), hostile))
    assert len(shown) == 3
    assert "[red]x[/red] next" in shown[1]
    assert not {"\x1b", "\u202e"} & set("".join(shown))


def test_elsewhere_than_on_a_terminal_a_panel_is_a_line_every_15_seconds_and_one_at_the_end() -> None:
    clock, on = Clock(), console()
    with Screen(on, clock=clock) as screen:
        for second in range(46):
            clock.now_s = float(second)
            screen.show(Panel("t", (), f"at {second}"))
    said = [line.split("Z ", 1)[1] for line in written(on).splitlines()]
    assert said == ["at 15", "at 30", "at 45", "at 45"]


def test_a_terminal_that_cannot_draw_over_gets_lines_too() -> None:
    on = console(terminal=True, term="dumb")
    with Screen(on) as screen:
        screen.show(Panel("t", (("a", "b"),), "the line"))
    assert written(on).count("the line") == 1
    assert "╭" not in written(on)


def test_on_a_terminal_the_panel_is_drawn_and_its_line_stays() -> None:
    on = console(terminal=True)
    with Screen(on) as screen:
        screen.show(PANEL)
        screen.say("something else")
    assert "│ name 0" in written(on).partition("asking: 5 of 10")[0]
    assert written(on).count("asking: 5 of 10") == 1


def test_the_next_piece_of_work_ends_the_panel() -> None:
    clock, on = Clock(), console()
    with Screen(on, clock=clock) as screen:
        screen.show(Panel("t", (), "the line"))
        screen.begin("next work", 4)
        clock.now_s = 20.0
        screen.advance(3)
    said = [line.split("Z ", 1)[1] for line in written(on).splitlines()]
    assert said == ["the line", "next work: 3/4"]


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_shows_nothing(terminal: bool) -> None:
    clock, on = Clock(), console(terminal=terminal)
    with Screen(on, quiet=True, clock=clock) as screen:
        screen.begin("work", 3)
        clock.now_s = 99.0
        screen.advance()
        screen.show(PANEL)
        screen.say("a line")
    assert written(on) == ""


def test_a_line_that_is_said_holds_no_controls_and_is_not_read_as_markup() -> None:
    on = console()
    with Screen(on) as screen:
        screen.say("\x1b]0;title\x07[bold]x[/bold]\r\nthere")
    assert written(on) == "[bold]x[/bold] there\n"


def test_a_note_beside_the_bar_is_not_read_as_markup() -> None:
    on = console(width=120, terminal=True)
    with Screen(on) as screen:
        screen.begin("work [red]", 3)
        screen.advance(1, "\x1b[2J[/nonsense]")
    assert "[/nonsense]" in written(on)


def test_a_terminal_made_narrower_is_cleared_before_drawing() -> None:
    on = console(terminal=True)
    with Screen(on) as screen:
        screen.show(PANEL)
        screen._live.refresh()  # type: ignore[union-attr]
        before = written(on)
        on.size = (50, 24)  # type: ignore[assignment]
        screen._live.refresh()  # type: ignore[union-attr]
    assert "\x1b[2J" not in before
    assert "\x1b[2J" in written(on)
