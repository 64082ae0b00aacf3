"""Two processes train one captioner on the CPU, as on two GPUs; and one process that is killed again and again."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from sgv_data.run_folder import RunFolder
from tests.captioner_run import captioner_run, make, weights
from tests.integration.test_train import ROWS, SMALL, conversation_run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# Trainer fills up an incomplete last batch with samples that come twice, where there are several devices.
WHOLE = {"batch_size": 6, "micro_batch_size": 3}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def launch(root: Path, *more: str, num: int = 2) -> subprocess.CompletedProcess[str]:
    """`torchrun … -m sgv_data train`, for the manifest in `root`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={num}", f"--master-port={port}",
               "-m", "sgv_data", "train", str(root / "manifest.yaml"), "--runs", str(root), "-q", *more]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)


def written(root: Path, **captioner: Any) -> RunFolder:
    """A run of tiny models with the manifest as a file; the folder is called as the run."""
    manifest, run = captioner_run(root, captioner=captioner or None)
    (root / "manifest.yaml").write_text(yaml.safe_dump(manifest.model_dump(mode="json", exclude_unset=True)))
    run.root.rename(root / manifest.name)
    return RunFolder(root / manifest.name)


def close(one: RunFolder, other: RunFolder) -> bool:
    """Whether the two captioners are the same but for the order of sums."""
    mine, theirs = (load_file(run.stage("train") / "model" / "model.safetensors") for run in (one, other))
    return all((mine[name] - theirs[name]).abs().max() < 2e-4 for name in mine)


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    alone, together = written(tmp_path / "one", **WHOLE), written(tmp_path / "two", **WHOLE)

    first, second = launch(tmp_path / "one", num=1), launch(tmp_path / "two")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert close(alone, together)
    record = together.record("train")
    assert record is not None
    assert record.report is not None
    assert record.report.notes["processes"] == 2
    steps = [json.loads(line) for line in (together.stage("train") / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if "loss" in row] == [1, 2, 3, 4, 5, 6]
    lone = [json.loads(line) for line in (alone.stage("train") / "metrics.jsonl").read_text().splitlines()]
    assert [row.get("tokens") for row in steps] == [row.get("tokens") for row in lone]


def test_two_processes_with_nothing_to_do_end(tmp_path: Path) -> None:
    written(tmp_path / "two")
    launch(tmp_path / "two")

    again = launch(tmp_path / "two")

    assert again.returncode == 0, again.stderr


def test_a_mistake_ends_both_processes(tmp_path: Path) -> None:
    written(tmp_path / "two", learning_rate=1e30)

    done = launch(tmp_path / "two")

    assert done.returncode != 0
    assert "lower captioner.learning_rate" in done.stderr


@pytest.mark.parametrize("kind", ["lora", "conversations"])
def test_two_processes_train_adapters_and_conversations(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "two"
    if kind == "lora":
        run = written(root, **SMALL)
    else:
        manifest, run = conversation_run(root, ROWS * 6)
        (root / "manifest.yaml").write_text(yaml.safe_dump(manifest.model_dump(mode="json", exclude_unset=True)))
        run = RunFolder(root / manifest.name)

    done = launch(root)

    assert done.returncode == 0, done.stderr
    record = run.record("train")
    assert record is not None
    assert record.report is not None
    notes = record.report.notes
    assert notes["held_out_loss"] < notes["held_out_loss_before"]  # type: ignore[operator]


def test_two_processes_share_a_model_that_is_spread_over_them(tmp_path: Path) -> None:
    config = tmp_path / "fsdp.json"
    wrapped = ["CLIPEncoderLayer", "LlamaDecoderLayer"]
    config.write_text(json.dumps({"transformer_layer_cls_to_wrap": wrapped, "state_dict_type": "FULL_STATE_DICT"}))
    alone, together = written(tmp_path / "one", **WHOLE), written(tmp_path / "two", fsdp=str(config), **WHOLE)

    first, second = launch(tmp_path / "one", num=1), launch(tmp_path / "two")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert close(alone, together)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_killed_at_ten_random_moments_the_weights_are_the_same(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    captioner = {"checkpoint_every_steps": 1, "epochs": 4, **(SMALL if kind == "lora" else {})}
    manifest, undisturbed = captioner_run(tmp_path / "whole", captioner=captioner)
    make(manifest, undisturbed, "train")
    root = tmp_path / "killed"
    run = written(root, **captioner)
    command = [sys.executable, "-m", "sgv_data", "train", str(root / "manifest.yaml"), "--runs", str(root), "-q"]
    chance, num_killed = random.Random(11), 0

    while num_killed < 10:
        started_s = time.monotonic()
        child = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        _wait_for_work(child, run)
        try:
            child.wait(chance.uniform(0, 4))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            num_killed += 1
        else:
            assert child.returncode == 0, time.monotonic() - started_s
            make_anew(run)
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert weights(run) == weights(undisturbed)


def _wait_for_work(child: subprocess.Popen[bytes], run: RunFolder) -> None:
    """Until the stage has begun: what comes before only imports."""
    while child.poll() is None and not run.is_held():
        time.sleep(0.05)


def make_anew(run: RunFolder) -> None:
    """Takes the finished stage away: there are kills left."""
    import shutil

    shutil.rmtree(run.stage("train"))
