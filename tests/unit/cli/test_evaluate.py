from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from sgv_data.cli import evaluate
from sgv_data.cli.app import Guarded
from sgv_data.evaluate.mme_files import write_results
from tests.unit.evaluate import official_mme
from tests.unit.evaluate.test_mmbench import circular, reply, table, write_table
from tests.unit.evaluate.test_mme import random_answers

app = typer.Typer(cls=Guarded)
evaluate.register(app)


@app.callback()
def _several_commands() -> None: ...


def sgv(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", *(str(each) for each in arguments)])


def test_mme_shows_both_readings(tmp_path: Path) -> None:
    write_results(tmp_path, random_answers(1))
    done = sgv("mme", "--answers", tmp_path)
    assert done.exit_code == 0, done.output
    assert f"{official_mme.scores(tmp_path)['perception']:.2f}" in done.output
    assert "whole-word" in done.output


def test_mme_gives_its_numbers_as_json(tmp_path: Path) -> None:
    write_results(tmp_path, random_answers(2))
    shown = json.loads(sgv("mme", "--answers", tmp_path, "--json").stdout)
    assert shown["official"]["cognition"] == official_mme.scores(tmp_path)["cognition"]
    assert len(shown["whole-word"]["tasks"]) == 14


def test_a_part_of_mme_is_scored_only_when_asked(tmp_path: Path) -> None:
    write_results(tmp_path, {"count": random_answers(1)["count"]})
    assert sgv("mme", "--answers", tmp_path).exit_code == 3
    done = sgv("mme", "--answers", tmp_path, "--partial")
    assert done.exit_code == 0
    assert "not scored: existence" in done.output


def test_mme_answers_without_truth_need_the_release(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    done = sgv("mme", "--answers", tmp_path / "a.jsonl")
    assert done.exit_code == 3
    assert "--release" in done.output


@pytest.fixture
def bench(tmp_path: Path) -> tuple[Path, Path, float]:
    drawn = random.Random(9)
    rows = table(drawn)
    predictions = {row["index"]: reply(drawn, row, 0.9) for row in rows}
    answers = tmp_path / "answers.jsonl"
    lines = [json.dumps({"question_id": index, "text": text}) + "\n" for index, text in predictions.items()]
    answers.write_text("".join(lines))
    return write_table(tmp_path / "dev.tsv", rows), answers, circular(rows, predictions)[""]


def test_mmbench_scores_and_lists_what_it_could_not_read(bench: tuple[Path, Path, float], tmp_path: Path) -> None:
    questions, answers, expected = bench
    listing = tmp_path / "unmatched.jsonl"
    done = sgv("mmbench", "--answers", answers, "--questions", questions, "--json", "--unmatched", listing)
    shown = json.loads(done.stdout)
    assert shown["overall"] == expected
    assert shown["unmatched"] == len(listing.read_text().splitlines()) > 0
    assert f"{expected:.2f}" in sgv("mmbench", "--answers", answers, "--questions", questions).output


def test_mmbench_writes_the_servers_file(bench: tuple[Path, Path, float], tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    questions, answers, _ = bench
    done = sgv("mmbench", "--answers", answers, "--questions", questions, "--submission", tmp_path / "out.xlsx")
    assert done.exit_code == 0, done.output
    assert "0 rows without an answer" in done.output
    assert (tmp_path / "out.xlsx").stat().st_size > 1000
