"""Imports go one way: cli → pipeline → stages → (api, captioner, images, sources, demo) → foundations."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path("sgv_data")
FOUNDATIONS = {path.stem for path in PACKAGE.glob("*.py")} - {"pipeline", "__main__", "__init__"}
STAGES = {"plan", "index", "collect", "filter", "train", "expand", "shard", "publish", "report"}
MIDDLE = {"api", "captioner", "images", "sources", "demo"}

MAY_IMPORT = {
    "cli": FOUNDATIONS | STAGES - {"index"} | {"pipeline", "api", "mix", "evaluate"},
    "pipeline": FOUNDATIONS,
    "mix": FOUNDATIONS | {"sources"},
    "evaluate": FOUNDATIONS,
    "api": FOUNDATIONS,
    "images": FOUNDATIONS,
    "sources": FOUNDATIONS | {"images", "demo"},
    "captioner": FOUNDATIONS | {"images", "sources"},
    "demo": FOUNDATIONS | {"images", "captioner", "api"},
    **dict.fromkeys(FOUNDATIONS, FOUNDATIONS),
    **dict.fromkeys(STAGES, FOUNDATIONS | MIDDLE),
}


def imported_parts(path: Path) -> set[str]:
    """First components below `sgv_data` of everything a module imports, late imports included."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "sgv_data" else [f"sgv_data.{a.name}" for a in node.names]
        parts |= {name.split(".")[1] for name in names if name.startswith("sgv_data.")}
    return {part for part in parts if not part.startswith("__")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=str)
def test_imports_go_one_way(path: Path) -> None:
    inside = path.relative_to(PACKAGE)
    own = inside.parts[0] if len(inside.parts) > 1 else inside.stem
    if own in ("__init__", "__main__"):
        return
    wrong = imported_parts(path) - MAY_IMPORT[own] - {own}
    assert not wrong, f"{path} must not import sgv_data.{', sgv_data.'.join(sorted(wrong))}"


@pytest.mark.parametrize("command", ["import sgv_data", "import sgv_data.cli.app"])
def test_the_package_and_its_help_load_nothing_heavy(command: str) -> None:
    heavy = ("torch", "transformers", "openai", "httpx", "httpx2", "aiohttp", "datasets", "pyarrow", "matplotlib")
    code = f"{command}; import sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
