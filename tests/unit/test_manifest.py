from __future__ import annotations

from pathlib import Path

import pytest

from sgv_data.errors import ManifestError
from sgv_data.manifest_file import load_manifest

MINIMAL = "name: tiny\nimages:\n- {name: a, kind: folder, path: pics}\nteacher: {model: m}\n"


def written(folder: Path, text: str = MINIMAL) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def complaint(folder: Path, *overrides: str, text: str = MINIMAL) -> str:
    with pytest.raises(ManifestError) as caught:
        load_manifest(written(folder, text), overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("teacher.limits.requests_per_minute=0", "requests_per_minute must be > 0.0 (got 0); leave it out"),
        ("teacher.modle=x", "teacher has no key 'modle'; did you mean 'model'?"),
        ("images.0.teacher=-1", "images.0.teacher must not be negative (got -1)"),
        ("images.0.teacher=1.5", "images.0.teacher must be a whole number, a share from 0.0 to 1.0"),
        ("images.0.kind=foldr", "images.0 kind must be one of folder, webdataset, scenes"),
        ("images.3.path=x", "'3' is no place in a list of 1"),
        ("teacher.base_url=localhost:80", "teacher.base_url must start with http:// or https://"),
        ("seed=abc", "seed must be a whole number (got 'abc')"),
        ("filter.length.min_words=500", "min_words 500 is more than max_words 400"),
        ("name=a/b", "name must match"),
        ("nonsense", "write it as key.path=value"),
        ("name.first=x", "name is a value, not a section"),
    ],
)
def test_a_mistake_names_the_place_the_rule_and_the_value(tmp_path: Path, override: str, says: str) -> None:
    assert says in complaint(tmp_path, override)


def test_a_message_starts_with_the_file(tmp_path: Path) -> None:
    assert complaint(tmp_path, "seed=x").startswith(str(tmp_path / "run.yaml"))


def test_every_mistake_gets_its_line(tmp_path: Path) -> None:
    assert len(complaint(tmp_path, "seed=x", "teacher.timeout_s=0").splitlines()) == 2


def test_a_key_written_into_the_manifest_is_not_repeated(tmp_path: Path) -> None:
    assert "sk-verysecretvalue" not in complaint(tmp_path, "teacher.api_key=sk-verysecretvalue")


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    text = MINIMAL.replace("teacher:", "- {name: a, kind: folder, path: other}\nteacher:")
    assert "the name 'a' is used twice" in complaint(tmp_path, text=text)


def test_a_missing_manifest_is_said_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no such manifest.*manifests/demo\.yaml"):
        load_manifest(tmp_path / "none.yaml")


def test_broken_yaml_is_said_in_one_line(tmp_path: Path) -> None:
    assert "\n" not in complaint(tmp_path, text="name: [1")


def test_paths_in_the_file_count_from_the_file(tmp_path: Path) -> None:
    assert load_manifest(written(tmp_path)).images[0].path == str(tmp_path / "pics")  # type: ignore[union-attr]


def test_paths_in_overrides_count_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    manifest = load_manifest(written(tmp_path / "deep"), ["images.0.path=here"])
    assert manifest.images[0].path == str(tmp_path / "here")  # type: ignore[union-attr]


def test_an_override_reaches_into_a_section_that_is_not_there(tmp_path: Path) -> None:
    manifest = load_manifest(written(tmp_path), ["captioner.base_model=tiny", "captioner.epochs=2"])
    assert manifest.captioner is not None
    assert manifest.captioner.epochs == 2


@pytest.mark.parametrize("path", sorted(Path("manifests").glob("*.yaml")), ids=lambda path: path.name)
def test_every_manifest_that_ships_is_valid(path: Path) -> None:
    assert load_manifest(path).name == path.stem


def test_a_key_in_place_of_the_name_of_its_variable_is_refused_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("name: x\nimages: [{name: a, kind: folder, path: .}]\nteacher: {model: m, api_key_env: my-key-1}\n")
    with pytest.raises(ManifestError, match=r"teacher\.api_key_env must be the name of an environment") as refused:
        load_manifest(path, ())
    assert "my-key-1" not in str(refused.value)
