"""What `sgv mix` writes is what `train` reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgv_data.mix.captions import open_captions
from sgv_data.mix.pretrain import write_pretraining
from sgv_data.mix.records import Images, MixPlan
from sgv_data.mix.sft import make_mixes
from sgv_data.progress import Silent
from sgv_data.train.conversations import write_conversations
from tests.unit.mix.files import captions, sft_rows, write


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "data/coco/train2017"
    folder.mkdir(parents=True)
    for number in range(60):
        (folder / f"{number:012d}.jpg").touch()
    return tmp_path / "data"


@pytest.mark.parametrize("images", list(Images))
def test_a_mixed_sft_file_is_trained_on_whole(tmp_path: Path, pictures: Path, images: Images) -> None:
    new = open_captions(write(tmp_path / "new.json", captions()))
    sft = write(tmp_path / "sft.json", sft_rows(), indent=2)
    make_mixes(sft, new, MixPlan(images), tmp_path / "mix.json", Silent())
    rows = write_conversations(tmp_path / "rows.arrow", tmp_path / "mix.json", pictures)
    assert (len(rows), rows.unusable) == (60, {})
    assert sum("New caption" in text for text in rows.captions()) == 20


@pytest.mark.parametrize("name", ["pre.json", "pre.jsonl"])
def test_a_pretraining_file_is_trained_on_whole(tmp_path: Path, pictures: Path, name: str) -> None:
    new = open_captions(write(tmp_path / "new.json", captions()))
    write_pretraining(new, tmp_path / name, Silent())
    rows = write_conversations(tmp_path / "rows.arrow", tmp_path / name, pictures)
    assert (len(rows), rows.unusable) == (60, {})
