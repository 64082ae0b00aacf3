"""What is written down while training: every number, and what the captioner says about held-out samples."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from sgv_data.captioner.render import IGNORED, TOKEN_KEYS, Inputs
from sgv_data.errors import TrainingError
from sgv_data.progress import Progress
from sgv_data.run_folder import write_durably
from sgv_data.train.metrics import Metric, MetricsFile

SHOWN = 4
"""So many held-out samples are answered at each evaluation."""

_NUMBERS = ("loss", "eval_loss", "learning_rate", "grad_norm")
Asked = tuple[Inputs, str]
"""A held-out sample up to its first answer, and that answer."""


def asked_of(samples: list[Inputs], text: Callable[[list[int]], str]) -> list[Asked]:
    """The samples cut off where their first answer begins; those without an answer are left out."""
    found: list[Asked] = []
    for sample in samples:
        labels = sample["labels"].tolist()
        start = next((place for place, label in enumerate(labels) if label != IGNORED), None)
        if start is None:
            continue
        end = next((place for place, label in enumerate(labels[start:], start) if label == IGNORED), len(labels))
        prompt = {name: value[:start] if name in TOKEN_KEYS else value for name, value in sample.items()}
        prompt.pop("labels")
        found.append((prompt, text(labels[start:end])))
    return found


class SamplesFile:
    """`samples-during.jsonl`: a line per evaluation and sample; a run that goes on drops what came after."""

    def __init__(self, path: Path, keep_to_step: int) -> None:
        self._path = path
        kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= keep_to_step] if keep_to_step else []
        write_durably(path, "".join(f"{line}\n" for line in kept))

    def add(self, step: int, wanted: list[str], written: list[str]) -> None:
        """Appends what was wanted and what was written for each sample."""
        with self._path.open("a", encoding="utf-8") as file:
            for number, (want, wrote) in enumerate(zip(wanted, written, strict=True)):
                row = {"step": step, "sample": number, "wanted": want, "written": wrote}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _whole_lines(path: Path) -> list[str]:
    """Lines that no crash has cut."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return [line for line in text.split("\n")[:-1] if line.startswith("{") and line.endswith("}")]


class Watch(TrainerCallback):  # type: ignore[misc]
    """Writes every number down, shows the loss, and stops at one that is no number."""

    def __init__(
        self,
        metrics: MetricsFile,
        progress: Progress,
        epoch_of: Callable[[int], float],
        learning_rate: float,
        peak_flops_per_s: float | None,
        describe: Callable[[int], None],
    ) -> None:
        self._metrics, self._progress, self._epoch_of = metrics, progress, epoch_of
        self._learning_rate, self._peak, self._describe = learning_rate, peak_flops_per_s, describe
        self._started_s = time.monotonic() - metrics.seconds
        self._last_s = time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer before the first sample of a step is computed."""
        self._last_s = time.monotonic()

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after each look at the held-out samples."""
        self._describe(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Called by the trainer with the numbers of a step or of an evaluation."""
        if not logs or not ({"loss", "eval_loss"} & logs.keys()):
            return
        named = {name: float(logs[name]) for name in _NUMBERS if name in logs}
        step, now_s = state.global_step, time.monotonic()
        speed = self._speed(logs, now_s - self._last_s)
        seconds = round(now_s - self._started_s, 3)
        self._metrics.add(Metric(step=step, epoch=round(self._epoch_of(step), 4), seconds=seconds, **speed, **named))
        for name in ("loss", "grad_norm", "eval_loss"):
            if not math.isfinite(named.get(name, 0.0)):
                raise TrainingError(
                    f"step {step}: {name} is {named[name]}, so the training has broken down; lower "
                    f"captioner.learning_rate (it is {self._learning_rate:g}) or raise captioner.warmup_share"
                )
        if "loss" in named:
            note = f"loss {named['loss']:.3f}"
            if "tokens_per_s" in speed:
                note += f", {speed['tokens_per_s']:,.0f} tokens/s"
            self._progress.advance(1, note)

    def _speed(self, logs: dict[str, Any], step_s: float) -> dict[str, Any]:
        if "tokens" not in logs or step_s <= 0:
            return {}
        flops_per_s = logs["flops"] / step_s
        speed = {
            "tokens": int(logs["tokens"]),
            "tokens_per_s": round(logs["tokens"] / step_s, 1),
            "tflops_per_s": round(flops_per_s / 1e12, 6),
        }
        if logs["without_loss"]:
            speed["without_loss"] = int(logs["without_loss"])
        if self._peak:
            speed["mfu"] = round(flops_per_s / self._peak, 4)
        return speed
