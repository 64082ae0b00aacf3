"""The numbers of a training run: `metrics.jsonl`, a line per event, and the curve drawn from it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sgv_data.run_folder import write_durably


class Metric(BaseModel):
    """One line: a step of training (`loss`) or a look at the held-out captions (`eval_loss`).

    `tokens` of all devices in this step, padding not counted; `tflops_per_s` what the model needs for them (see
    `flops.py`), over all devices; `mfu` its share of what the GPUs could do, where that is known; `without_loss` counts
    samples that could not be used, where there were any.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=True)

    step: int
    epoch: float
    loss: float | None = None
    eval_loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    seconds: float
    tokens: int | None = None
    tokens_per_s: float | None = None
    tflops_per_s: float | None = None
    mfu: float | None = None
    without_loss: int | None = None


class MetricsFile:
    """`metrics.jsonl`, appended to while training; a run that goes on drops what came after its checkpoint."""

    def __init__(self, path: Path, keep_to_step: int) -> None:
        self._path = path
        self.rows = [row for row in read_metrics(path) if row.step <= keep_to_step] if keep_to_step else []
        write_durably(path, "".join(_line(row) for row in self.rows))

    @property
    def seconds(self) -> float:
        """Time spent up to the last line, over all attempts."""
        return self.rows[-1].seconds if self.rows else 0.0

    def add(self, row: Metric) -> None:
        """Appends a line."""
        self.rows.append(row)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(row))


def _line(row: Metric) -> str:
    return json.dumps(row.model_dump(exclude_none=True)) + "\n"


def read_metrics(path: Path) -> list[Metric]:
    """All lines; one that was cut by a crash is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(Metric.model_validate_json(line))
        except ValidationError:
            continue
    return rows


def draw_loss(rows: list[Metric], path: Path) -> None:
    """The loss over steps, training and held out, as an SVG; equal rows give equal bytes."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    trained = [(row.step, row.loss) for row in rows if row.loss is not None]
    held_out = [(row.step, row.eval_loss) for row in rows if row.eval_loss is not None]
    with matplotlib.rc_context({"svg.hashsalt": "sgv_data", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 3.5), layout="constrained")
        FigureCanvasSVG(figure)
        axes: Any = figure.add_subplot()
        axes.plot(*zip(*trained, strict=True), linewidth=1, color="#4878a8", label="training") if trained else None
        axes.plot(*zip(*held_out, strict=True), marker="o", color="#c05030", label="held out") if held_out else None
        axes.set(xlabel="step", ylabel="loss (nats per caption token)", ylim=(0, None))
        axes.grid(alpha=0.3)
        if trained or held_out:
            axes.legend()
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    write_durably(path, drawn.getvalue())
