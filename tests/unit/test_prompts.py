from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from sgv_data.errors import ManifestError
from sgv_data.offer import OFFER_TEXT
from sgv_data.prompts import Prompt, is_base, load_prompt

PROMPTS = sorted(path.stem for path in Path("prompts").glob("*.md") if not is_base(path))
LOCK = Path(__file__).parents[1] / "golden" / "prompts.json"


@pytest.mark.parametrize("prompt_id", PROMPTS)
def test_a_changed_text_has_a_changed_version(prompt_id: str) -> None:
    """After changing a prompt or its base raise its version, then put both into tests/golden/prompts.json."""
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


def write(folder: Path, name: str, text: str, base: str = "") -> None:
    more = f"base: {base}\n" if base else ""
    (folder / f"{name}.md").write_text(f"---\nid: {name}\nversion: 1\nfor: tests\n{more}---\n{text}\n")


def loaded(folder: Path, base: str, middle: str = "Say where things are.") -> Prompt:
    write(folder, "frame", base)
    write(folder, "p", middle, "frame")
    return load_prompt("p", (folder,))


def test_a_middle_stands_in_its_base(tmp_path: Path) -> None:
    prompt = loaded(tmp_path, "Describe.\n\n{middle}\n\n{offered}\n\nNo list.")
    assert prompt.text == "Describe.\n\nSay where things are.\n\nNo list."
    assert prompt.sha256 == hashlib.sha256(prompt.text.encode()).hexdigest()


@pytest.mark.parametrize("base", ["{middle}\n\n{offered}\n\nNo list.", "{middle}\nNo list."])
def test_offered_words_are_in_the_text_and_not_in_its_hash(tmp_path: Path, base: str) -> None:
    prompt = loaded(tmp_path, base)
    text = prompt.offering("Eiffel Tower")
    assert OFFER_TEXT in text
    assert '"Eiffel Tower"' in text
    assert all(line in text for line in ("Say where things are.", "No list."))
    assert "{" not in prompt.text + text


def test_words_are_offered_in_the_place_that_the_base_has_for_them(tmp_path: Path) -> None:
    text = loaded(tmp_path, "First.\n\n{middle}\n\n{offered}\n\nLast.").offering("x")
    assert text == f'First.\n\nSay where things are.\n\n{OFFER_TEXT}\n\n"x"\n\nLast.'


def test_a_prompt_without_a_base_is_sent_as_it_is_and_offers_behind_itself(tmp_path: Path) -> None:
    write(tmp_path, "p", "Use {braces} and {offered} freely.")
    prompt = load_prompt("p", (tmp_path,))
    assert prompt.text == "Use {braces} and {offered} freely."
    assert prompt.offering("x").startswith(prompt.text + "\n\n")


@pytest.mark.parametrize("base", ["No place.", "{middle}\n{middle}", "{middle}\n{offered}\n{offered}"])
def test_a_base_needs_one_place_for_the_middle(tmp_path: Path, base: str) -> None:
    with pytest.raises(ManifestError, match=r"frame\.md: a base has"):
        loaded(tmp_path, base)


def test_a_base_is_no_prompt(tmp_path: Path) -> None:
    write(tmp_path, "frame", "{middle}")
    with pytest.raises(ManifestError, match="base for other prompts"):
        load_prompt("frame", (tmp_path,))


def test_a_prompt_without_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "p", "")
    with pytest.raises(ManifestError, match="no text"):
        load_prompt("p", (tmp_path,))


def test_a_base_of_ones_own_comes_first(tmp_path: Path) -> None:
    write(tmp_path, "caption_base", "Short:\n{middle}")
    assert load_prompt("landmark", (tmp_path,)).text.startswith("Short:\n")
