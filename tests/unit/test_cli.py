from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden"


def sgv(*arguments: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    root = str(Path.cwd())
    return subprocess.run(
        [sys.executable, "-m", "sgv_data", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root, "COLUMNS": "100", "NO_COLOR": "1", **environment},
        timeout=120,
    )


@pytest.mark.parametrize("command", ["", "run", "index", "collect", "filter", "status", "verify"])
def test_help_is_as_recorded(command: str) -> None:
    """When help changes on purpose: UPDATE_GOLDEN=1 pytest tests/unit/test_cli.py"""
    shown = sgv(*command.split(), "--help").stdout
    golden = GOLDEN / f"help{'-' if command else ''}{command}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(shown)
    assert shown == golden.read_text()


def test_every_command_of_the_help_stands_in_the_readme() -> None:
    commands = re.findall(r"^  (\w+)  ", sgv("--help").stdout.split("Commands:")[1], flags=re.MULTILINE)
    readme = Path("README.md").read_text()
    assert len(commands) >= 11
    assert [name for name in commands if f"`sgv {name}" not in readme] == []


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (("run", "nowhere.yaml"), 2, "no such manifest"),
        (("run", "manifests/demo.yaml", "--set", "teacher.modle=x"), 2, "did you mean 'model'?"),
        (("run", "manifests/demo.yaml", "--redo", "colect"), 2, "the stages of this manifest are index, collect"),
        (("train", "manifests/photos.yaml"), 2, "no section 'captioner'"),
        (("filter", "manifests/demo.yaml", "pupil"), 2, "not of 'pupil'"),
        (("collect", "manifests/demo.yaml"), 6, "collect needs index"),
        (("index", "manifests/photos.yaml", "--set", "images.0.path=nowhere"), 3, "nowhere"),
        (("frobnicate",), 2, "No such command"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(
    tmp_path: Path, arguments: tuple[str, ...], exit_code: int, says: str
) -> None:
    done = sgv(*arguments, folder=tmp_path)
    assert done.returncode == exit_code, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_status_of_a_run_that_never_began(tmp_path: Path) -> None:
    done = sgv("status", "manifests/demo.yaml", folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.count("to do") == 9


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the run folders should be")
    done = sgv("run", "manifests/demo.yaml", folder=tmp_path)
    assert done.returncode == 7
    assert "Traceback" not in done.stderr
