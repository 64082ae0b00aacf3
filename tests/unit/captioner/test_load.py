"""Finding and loading models, and refusing what is none."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from sgv_data.captioner.load import (
    Captioner,
    ModelPlace,
    choose_dtype,
    find_model,
    folder_digest,
    image_token_id,
    load_captioner,
    model_identity,
    require_captioner_part,
)
from sgv_data.errors import ManifestError, MissingPart, TrainingError

CPU = torch.device("cpu")


def place(folder: Path) -> ModelPlace:
    return ModelPlace(str(folder), None, folder.name, is_folder=True)


def test_a_folder_is_known_by_its_files_and_not_by_its_path(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, copy)

    assert model_identity(str(copy)) == model_identity(str(folder))
    (copy / "model.safetensors").write_bytes(b"other")
    assert model_identity(str(copy)) != model_identity(str(folder))


def test_a_large_folder_is_known_by_names_and_sizes(tmp_path: Path) -> None:
    large = tmp_path / "model.safetensors"
    with large.open("wb") as file:
        file.truncate(200_000_001)
    before = folder_digest(tmp_path)
    with large.open("r+b") as file:
        file.write(b"x")
    assert folder_digest(tmp_path) == before

    with large.open("r+b") as file:
        file.truncate(200_000_002)

    assert folder_digest(tmp_path) != before


def test_a_hub_name_is_known_by_name_and_revision() -> None:
    assert model_identity("owner/name", "abc") == {"base_model": "owner/name", "revision": "abc"}


def test_tiny_is_known_by_its_name() -> None:
    assert model_identity("tiny") == {"base_model": "tiny"}


@pytest.mark.parametrize("written", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c"])
def test_a_folder_that_is_not_there_is_refused(written: str) -> None:
    with pytest.raises(ManifestError, match=f"no such folder: {written}"):
        find_model(written)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"holds no config\.json"):
        find_model(str(tmp_path))


def test_a_hub_model_that_cannot_be_had_is_refused_in_one_sentence() -> None:
    with pytest.raises(ManifestError, match="'nobody/nothing' is no folder here") as caught:
        load_captioner(find_model("nobody/nothing"), CPU, torch.float32)

    assert "\n" not in str(caught.value)


def test_a_damaged_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "config.json").write_text('{"model_type": "nothing"}')

    with pytest.raises(ManifestError, match="no image-text-to-text model that loads"):
        load_captioner(place(broken), CPU, torch.float32)


def test_weights_stored_as_bfloat16_are_float32_on_the_cpu(captioner: Captioner, tmp_path: Path) -> None:
    captioner.model.to(torch.bfloat16).save_pretrained(tmp_path)
    captioner.processor.save_pretrained(tmp_path)

    loaded = load_captioner(place(tmp_path), CPU, torch.float32)

    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def test_a_tokenizer_without_image_token_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    config = json.loads((other / "config.json").read_text())
    config["image_token_id"] = 99_999
    (other / "config.json").write_text(json.dumps(config))

    with pytest.raises(TrainingError, match=r"tokenizer \(\d+ tokens\) has no image token"):
        load_captioner(place(other), CPU, torch.float32)


def test_the_image_token_is_found(captioner: Captioner) -> None:
    assert captioner.processor.tokenizer.convert_ids_to_tokens(image_token_id(captioner)) == "<image>"


def test_auto_precision_is_float32_on_a_cpu() -> None:
    assert choose_dtype("auto", CPU) is torch.float32
    assert choose_dtype("bfloat16", CPU) is torch.bfloat16


def test_a_missing_library_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)

    with pytest.raises(MissingPart, match=r"pip install 'sgv_data\[captioner\]'"):
        require_captioner_part()
