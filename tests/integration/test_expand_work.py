"""Any number of processes may share an expansion; whatever dies, the result is that of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from sgv_data.expand import team
from sgv_data.manifest import Manifest
from sgv_data.pipeline import find_stage, run_stage
from sgv_data.progress import Silent
from sgv_data.records import CaptionRow, FailureClass, ImageRow, Outcome
from sgv_data.run_folder import RunFolder
from sgv_data.tables import read_table
from tests.captioner_run import captioner_run, make

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, RunFolder]:
    """A run with a trained captioner; `expanded` copies it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        manifest, run = captioner_run(tmp_path_factory.mktemp("trained"))
        make(manifest, run, "train")
    return manifest, run


def copied(trained: tuple[Manifest, RunFolder], root: Path, **expand: Any) -> tuple[Manifest, RunFolder]:
    """The run without its expansion, in a folder of its own, and a manifest with another section `expand`."""
    import shutil

    manifest, run = trained
    shutil.copytree(run.root, root / "run", ignore=shutil.ignore_patterns("expand"))
    section = {**manifest.expand.model_dump(mode="json"), **expand}
    changed = Manifest.model_validate({**manifest.model_dump(mode="json"), "expand": section})
    (root / "manifest.json").write_text(changed.model_dump_json())
    return changed, RunFolder(root / "run")


def table(run: RunFolder, name: str = "captions") -> list[tuple[Any, ...]]:
    """A table without what may differ between equal runs."""
    volatile = {"latency_s", "created_utc", "request_id"}
    names = [each for each in CaptionRow.__slots__ if each not in volatile]
    return [
        tuple(getattr(row, each) for each in names) for row in read_table(run.stage("expand"), name, CaptionRow)
    ]


@pytest.fixture(scope="module")
def undisturbed(
    trained: tuple[Manifest, RunFolder], tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Any, ...]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        manifest, run = copied(trained, tmp_path_factory.mktemp("undisturbed"))
        make(manifest, run, "expand")
    return table(run)


def leftovers(run: RunFolder) -> list[str]:
    """What lies beside finished units and the note of who began."""
    units = run.stage("expand") / "units"
    return [
        path.name for path in [*units.iterdir(), *(units / ".claims").iterdir()]
        if path.suffix != ".parquet" and path.name not in (".claims", ".made_by")
    ]  # fmt: skip


def test_an_undisturbed_run_leaves_nothing_behind(trained: tuple[Manifest, RunFolder], tmp_path: Path) -> None:
    manifest, run = copied(trained, tmp_path)

    make(manifest, run, "expand")

    assert leftovers(run) == []


def test_the_ladder_asks_cut_off_captions_again_and_keeps_all_askings(
    trained: tuple[Manifest, RunFolder], tmp_path: Path, undisturbed: list[tuple[Any, ...]]
) -> None:
    retry = {"truncated": [{"max_new_tokens": 14}, {"max_new_tokens": 40}]}
    manifest, run = copied(trained, tmp_path, retry=retry)

    report = make(manifest, run, "expand")

    rows = list(read_table(run.stage("expand"), "captions", CaptionRow))
    earlier = list(read_table(run.stage("expand"), "attempts", CaptionRow))
    first = {name: text for name, text, *_ in undisturbed}
    again = [row for row in rows if row.asked_again_for is not None]
    assert again
    assert report.notes["asked_again"] == len(again)
    assert {row.asked_again_for for row in again} == {Outcome.TRUNCATED}
    assert len(earlier) == sum(row.attempts - 1 for row in rows)
    assert all(row.text == first[row.image_id] for row in earlier if row.attempts == 1)
    for row in rows:
        tokens = json.loads(row.sampling)["max_new_tokens"]
        assert tokens == {1: 12, 2: 14, 3: 40}[row.attempts]
        assert row.attempts == 3 or row.outcome is Outcome.OK


def test_sampled_captions_depend_on_nothing_but_seed_and_picture(
    trained: tuple[Manifest, RunFolder], tmp_path: Path
) -> None:
    tables = []
    for number, (seed, batch, unit) in enumerate([(1, 8, 8), (1, 3, 5), (2, 8, 8)]):
        sampling = {"temperature": 1.0, "top_p": 0.95, "seed": seed}
        manifest, run = copied(
            trained, tmp_path / str(number), sampling=sampling, batch_size=batch, unit_size=unit
        )
        make(manifest, run, "expand")
        tables.append({row.image_id: row.text for row in read_table(run.stage("expand"), "captions", CaptionRow)})

    assert tables[0] == tables[1]
    assert tables[0] != tables[2]


@pytest.mark.slow
def test_two_processes_give_what_one_gives(
    trained: tuple[Manifest, RunFolder], tmp_path: Path, undisturbed: list[tuple[Any, ...]]
) -> None:
    manifest, run = copied(trained, tmp_path, gpus=["cpu", "cpu"], unit_size=4)

    report = make(manifest, run, "expand")

    assert table(run) == undisturbed
    assert report.notes["engines"] == 2
    assert leftovers(run) == []


@pytest.mark.slow
def test_a_killed_engine_is_replaced_and_nothing_is_lost(
    trained: tuple[Manifest, RunFolder], tmp_path: Path, undisturbed: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    manifest, run = copied(trained, tmp_path, gpus=["cpu", "cpu"], unit_size=2)
    started: list[Any] = []
    start = team._Team._start

    def remembering(self: Any, place: str) -> Any:
        member = start(self, place)
        started.append(member)
        return member

    def kill_one() -> None:
        units = run.stage("expand") / "units"
        while len(list(units.glob("*.parquet"))) < 2:
            time.sleep(0.01)
        os.kill(next(iter(started[0].process._processes)), signal.SIGKILL)

    monkeypatch.setattr(team._Team, "_start", remembering)
    killer = threading.Thread(target=kill_one)
    killer.start()
    make(manifest, run, "expand")
    killer.join()

    assert len(started) == 3
    assert table(run) == undisturbed


@pytest.mark.slow
def test_a_picture_that_kills_every_engine_is_rejected_alone(
    trained: tuple[Manifest, RunFolder], tmp_path: Path
) -> None:
    _, run = copied(trained, tmp_path, unit_size=4)
    bad = sorted(row.image_id for row in read_table(run.stage("index"), "images", ImageRow))[10]
    code = (
        "import os, sys; from pathlib import Path\n"
        "from sgv_data.expand import rows\n"
        "answered = rows.Writer.answered\n"
        f"def deadly(self, row, *rest):\n    if row.image_id == {bad!r}: os._exit(9)\n"
        "    return answered(self, row, *rest)\n"
        "rows.Writer.answered = deadly\n"
        "from tests.captioner_run import _main\n"
        "_main(Path(sys.argv[1]), 'expand', 10**9)\n"
    )
    for _ in range(12):
        child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
        if child.returncode == 0:
            break
    assert child.returncode == 0

    rows = {row.image_id: row for row in read_table(run.stage("expand"), "captions", CaptionRow)}
    assert [name for name, row in rows.items() if row.failure is not None] == [bad]
    assert rows[bad].failure is FailureClass.BAD_IMAGE
    assert "broke down" in str(rows[bad].detail)


@pytest.mark.slow
def test_a_helper_joins_and_the_result_is_the_same(
    trained: tuple[Manifest, RunFolder], tmp_path: Path, undisturbed: list[tuple[Any, ...]]
) -> None:
    manifest, run = copied(trained, tmp_path, unit_size=1)
    code = (
        "import sys, time; from pathlib import Path\n"
        "from sgv_data.expand.team import join; from sgv_data.manifest import Manifest\n"
        "from sgv_data.progress import Silent; from sgv_data.run_folder import RunFolder\n"
        "root = Path(sys.argv[1])\n"
        "while not (root / 'run/expand/units/.made_by').is_file(): time.sleep(0.01)\n"
        "manifest = Manifest.model_validate_json((root / 'manifest.json').read_text())\n"
        "notes = join(manifest, RunFolder(root / 'run'), Silent())\n"
        "print(notes['model_s'] > 0)\n"
    )
    helper = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    make(manifest, run, "expand")
    _, errors = helper.communicate(timeout=120)

    assert helper.returncode == 0, errors.decode()
    assert table(run) == undisturbed


@pytest.mark.slow
def test_killed_at_twenty_random_moments_it_ends_the_same(
    trained: tuple[Manifest, RunFolder], tmp_path: Path, undisturbed: list[tuple[Any, ...]]
) -> None:
    manifest, run = copied(trained, tmp_path, unit_size=2)
    chance, num_killed = random.Random(5), 0
    while num_killed < 20:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.captioner_run", str(tmp_path), "expand", str(10**9)], cwd=ROOT
        )
        try:
            # Loading takes some seconds; most moments lie after it.
            child.wait(timeout=chance.uniform(0.5, 9.0))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            num_killed += 1
        child.wait()
        if child.returncode == 0:  # finished: from the beginning, as if it had never been
            assert table(run) == undisturbed
            run_stage_anew(run)

    make(manifest, run, "expand")

    assert table(run) == undisturbed
    assert leftovers(run) == []


def run_stage_anew(run: RunFolder) -> None:
    import shutil

    shutil.rmtree(run.stage("expand"))


def test_made_anew_from_units_it_is_the_same(trained: tuple[Manifest, RunFolder], tmp_path: Path) -> None:
    manifest, run = copied(trained, tmp_path, retry={"truncated": [{"max_new_tokens": 20}]})
    make(manifest, run, "expand")
    before = table(run), table(run, "attempts")

    run_stage(find_stage(manifest, "expand"), manifest, run, Silent(), redo=True)

    assert (table(run), table(run, "attempts")) == before
