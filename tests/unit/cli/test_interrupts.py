"""Ctrl-C before anything is at work."""

from __future__ import annotations

import subprocess
import sys

_INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupt:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.{name})

sys.meta_path.insert(0, Interrupt)
from sgv_data.__main__ import main
main()
"""


def _run(name: str) -> subprocess.CompletedProcess[str]:
    code = _INTERRUPTED_IMPORT.format(name=name)
    return subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=60)


def test_an_interrupt_while_loading_is_one_sentence() -> None:
    for name in ("SIGINT", "SIGTERM"):
        done = _run(name)
        assert done.returncode == 130
        assert done.stderr.startswith("sgv: Stopped.")
        assert "Traceback" not in done.stderr
