from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from sgv_data.cli import mix
from sgv_data.cli.app import Guarded
from tests.unit.mix.files import captions, read, sft_rows, write

app = typer.Typer(cls=Guarded)
mix.register(app)


@app.callback()
def _several_commands() -> None: ...


def sgv(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "sft.json", sft_rows()), write(tmp_path / "new.json", captions())


def test_sft_says_what_it_wrote(files: tuple[Path, Path], tmp_path: Path) -> None:
    done = sgv("mix", "sft", files[0], "--captions", files[1], "--out", tmp_path / "out.json", "--share", "0,1", "-q")
    assert done.exit_code == 0, done.output
    assert "60 rows, 20 detailed descriptions" in done.output
    assert "20 replaced" in done.output
    assert len(read(tmp_path / "out-share-1.json")) == 60


def test_pretrain_writes_every_caption(files: tuple[Path, Path], tmp_path: Path) -> None:
    done = sgv("mix", "pretrain", "--captions", files[1], "--out", tmp_path / "pre.jsonl", "-q")
    assert done.exit_code == 0, done.output
    assert len(read(tmp_path / "pre.jsonl")) == 60


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--share", "2"), "--share must be numbers from 0 to 1"),
        (("--share", "1,1"), "each once"),
        (("--images", "other"), "--images must be same or drawn"),
        (("--weight", "coco=1"), "nothing to draw"),
        (("--images", "drawn", "--weight", "coco"), "write it as SOURCE=VALUE"),
        (("--images", "drawn", "--weight", "coco=-1"), "above 0"),
        (("--of", "teacher"), "does not say who wrote"),
        (("--questions", "nowhere.txt"), "cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence(
    files: tuple[Path, Path], tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = sgv("mix", "sft", files[0], "--captions", files[1], "--out", tmp_path / "out.json", *arguments)
    assert done.exit_code == 3
    assert says in done.output
    assert not (tmp_path / "out.json").exists()
