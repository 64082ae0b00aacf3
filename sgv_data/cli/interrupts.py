"""When Ctrl-C begins to mean: end what is at work, in order."""

from __future__ import annotations

import signal
import threading


def answer_interrupts() -> None:
    """From here on Ctrl-C and SIGTERM, a polite request to end, both raise KeyboardInterrupt."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
