"""A tiny captioner, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgv_data.captioner.load import Captioner
from tests.tiny_models import build_folder, load


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA-like model that knows nothing."""
    return build_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def captioner(folder: Path) -> Captioner:
    """The model, freshly loaded."""
    return load(folder)
