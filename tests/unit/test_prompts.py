from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgv_data.errors import ManifestError
from sgv_data.prompts import load_prompt

PROMPTS = sorted(path.stem for path in Path("prompts").glob("*.md"))
LOCK = Path(__file__).parents[1] / "golden" / "prompts.json"


@pytest.mark.parametrize("prompt_id", PROMPTS)
def test_a_changed_text_has_a_changed_version(prompt_id: str) -> None:
    """After changing a prompt raise its version, then put both into tests/golden/prompts.json."""
    prompt = load_prompt(prompt_id)
    assert json.loads(LOCK.read_text())[prompt_id] == {"version": prompt.version, "sha256": prompt.sha256}


def test_a_prompt_of_ones_own_comes_first(tmp_path: Path) -> None:
    (tmp_path / "detailed.md").write_text("---\nid: detailed\nversion: 3\nfor: me\n---\nSay what you see.\n")
    assert load_prompt("detailed", (tmp_path,)).text == "Say what you see."


def test_an_unknown_prompt_is_named_with_the_known_ones() -> None:
    with pytest.raises(ManifestError, match=r"no prompt 'detialed'; known prompts: .*detailed"):
        load_prompt("detialed")


@pytest.mark.parametrize("head", ["id: other\nversion: 1\nfor: x", "id: p\nversion: one\nfor: x", "id: p", "id: [", ""])
def test_wrong_front_matter_is_refused(tmp_path: Path, head: str) -> None:
    (tmp_path / "p.md").write_text(f"---\n{head}\n---\ntext\n")
    with pytest.raises(ManifestError, match=r"p\.md"):
        load_prompt("p", (tmp_path,))
