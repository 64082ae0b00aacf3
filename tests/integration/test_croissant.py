"""The Croissant description, read by its own library: valid, and its records are the samples."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from sgv_data.records import SampleRow
from sgv_data.tables import read_table
from tests.small_run import small_run

mlcroissant = pytest.importorskip("mlcroissant")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = small_run(tmp_path_factory.mktemp("croissant"), num_images=24, publish={"to": "file://dataset",
                                                                                  "license": "cc-by-4.0"})  # fmt: skip
    made.make("shard", "publish")
    return made.run.root / "dataset"


def test_it_is_valid_and_names_every_tar_with_its_hash(dataset: Path) -> None:
    metadata = mlcroissant.Dataset(jsonld=str(dataset / "croissant.json")).metadata
    assert not metadata.issues.errors
    tars = {
        each.id: each.sha256 for each in metadata.distribution if each.encoding_formats == ["application/x-tar"]
    }
    assert tars == {
        f"data/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in (dataset / "data").iterdir()
    }


def test_the_responsible_ai_fields_are_filled_from_the_records(dataset: Path) -> None:
    described = json.loads((dataset / "croissant.json").read_text())
    assert described["rai:machineAnnotationTools"] == ["student-model abc", "teacher-model"]
    assert "pics (CC0-1.0)" in described["rai:dataCollection"]
    assert "mine, version 3" in described["rai:dataAnnotationProtocol"]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


def test_its_records_are_the_samples(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROISSANT_CACHE", str(tmp_path))
    read = mlcroissant.Dataset(jsonld=str(dataset / "croissant.json")).records("captions")
    rows = {row.key: row for row in read_table(dataset / "metadata", "samples", SampleRow)}
    found = {_text(record["captions/key"]): record["captions/caption"] for record in read}
    assert found.keys() == rows.keys()
    for key, text in found.items():
        data = text if isinstance(text, bytes) else text.encode()
        assert hashlib.sha256(data).hexdigest() == rows[key].text_sha256
