"""`sgv run` from pictures to shards, as a user types it, on a demo small enough for a test."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MANIFEST = """
name: small
seed: 3
images:
- {name: scenes, kind: scenes, count: 60, prompt: [scene_plain, scene_survey], teacher: 20, expand: 24, apart: true}
- {name: photos, kind: folder, path: "sgv:photos", prompt: photo_plain, teacher: 2, expand: 2, apart: true}
teacher:
  model: pixel-reader
  price: {input_usd: 0, output_usd: 0}
  base_url: sgv:demo-teacher
  max_completion_tokens: 300
  limits: {in_flight: 2}
filter:
  length: {min_words: 1, max_words: 400}
  repetition: {max_share: 1.0}
captioner: {base_model: tiny, batch_size: 4, micro_batch_size: 4, epochs: 1, held_out: 0.2, samples: 2,
            learning_rate: 1.0e-3, checkpoint_every_steps: 2, precision: float32}
expand: {max_new_tokens: 8, batch_size: 8, unit_size: 8}
shard: {max_samples: 10}
publish: {to: "file://published"}
"""


def sgv(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sgv_data", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "2", "NO_COLOR": "1", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(folder: Path, *arguments: str) -> str:
    process = sgv(folder, *arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "small.yaml").write_text(MANIFEST)
    (folder / "shown.txt").write_text(finished(folder, "run", "small.yaml"))
    return folder


def checksums(folder: Path) -> str:
    return (folder / "runs/small/shard/SHA256SUMS").read_text()


def test_every_picture_has_one_final_state(undisturbed: Path) -> None:
    import pyarrow.parquet as pq

    states = pq.read_table(undisturbed / "runs/small/report/states-00000.parquet").to_pylist()
    photos = sum(1 for path in Path("sgv_data/demo/assets/photos").iterdir() if path.suffix not in (".md", ".jsonl"))
    assert len(states) == len({row["image_id"] for row in states}) == 60 + photos
    assert sum(row["state"] == "published" for row in states) > 20


def test_the_table_at_the_end_tells_where_the_report_is(undisturbed: Path) -> None:
    assert "runs/small/report/index.html" in (undisturbed / "shown.txt").read_text()


def test_again_it_does_nothing_and_says_so(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (undisturbed / "runs").rglob("*") if path.is_file()}
    assert "Nothing to do" in finished(undisturbed, "run", "small.yaml")
    after = {path: path.stat().st_mtime_ns for path in (undisturbed / "runs").rglob("*") if path.is_file()}
    assert {path for path in before if before[path] != after[path]} <= {undisturbed / "runs/small/.lock"}


def test_verify_finds_the_shards_sound_and_a_flipped_bit(undisturbed: Path, tmp_path: Path) -> None:
    finished(undisturbed, "verify", "runs/small/published")
    copy = tmp_path / "copy"
    shutil.copytree(undisturbed / "runs/small/published", copy)
    tar = sorted((copy / "data").glob("*.tar"))[0]
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 1
    tar.write_bytes(content)
    process = sgv(tmp_path, "verify", str(copy))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 10
    assert tar.name in out + err


def test_another_folder_gives_the_same_shards_byte_for_byte(undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(MANIFEST)
    finished(tmp_path, "run", "small.yaml")
    assert checksums(tmp_path) == checksums(undisturbed)


def test_killed_again_and_again_the_shards_are_the_same(undisturbed: Path, tmp_path: Path) -> None:
    """kill -9 of the whole process group at random moments, each followed by a plain re-run."""
    (tmp_path / "small.yaml").write_text(MANIFEST)
    moments = random.Random(5)
    for _ in range(4):
        process = sgv(tmp_path, "run", "small.yaml")
        try:
            process.wait(timeout=moments.uniform(0.5, 9))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    finished(tmp_path, "run", "small.yaml")
    assert checksums(tmp_path) == checksums(undisturbed)


def test_ctrl_c_answers_at_once_and_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(MANIFEST)
    process = sgv(tmp_path, "run", "small.yaml")
    while not (tmp_path / "runs/small/collect").is_dir():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert "Stopped." in err
    assert "Traceback" not in err


def test_two_at_once_in_one_run_folder(undisturbed: Path) -> None:
    from sgv_data.run_folder import RunFolder

    with RunFolder(undisturbed / "runs/small").lock():
        process = sgv(undisturbed, "run", "small.yaml")
        _, err = process.communicate(timeout=60)
    assert process.returncode == 6
    assert "another sgv" in err


def test_the_provenance_is_inside_the_shard(undisturbed: Path) -> None:
    import tarfile

    tar = sorted((undisturbed / "runs/small/shard/data").glob("*.tar"))[0]
    with tarfile.open(tar) as opened:
        member = next(m for m in opened if m.name.endswith(".json"))
        extracted = opened.extractfile(member)
        assert extracted is not None
        provenance = json.load(extracted)
    text = json.dumps(provenance)
    for needed in ("image_id", "prompt", "model", "sha256", "finish_reason"):
        assert needed in text
    for volatile in ("latency", "created_utc", "request_id", "attempts"):
        assert volatile not in text
