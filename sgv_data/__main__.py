"""The way in: `sgv …` and `python -m sgv_data …`."""

from __future__ import annotations

import os
import signal

_STOPPED = b"sgv: Stopped. Nothing that was finished is lost; the same command goes on from here.\n"


def _leave(*_: object) -> None:
    os.write(2, _STOPPED)
    os._exit(130)


def main() -> None:
    """Runs `sgv`. Until a command is at work (`cli/interrupts.py`), Ctrl-C and SIGTERM end the process on the spot.

    Loading takes a second or more, and an interrupt in the middle of it comes out of the libraries as any error.
    """
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)
    from sgv_data.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
