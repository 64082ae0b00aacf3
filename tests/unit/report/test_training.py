"""The page's facts about a training come from its record and from what was said on the way."""

from __future__ import annotations

import json
from pathlib import Path

from sgv_data.records import StageReport
from sgv_data.report.training import Said, read_training


def test_first_and_last_evaluation_stand_beside_what_was_wanted(tmp_path: Path) -> None:
    rows = [
        {"step": step, "sample": sample, "wanted": f"w{sample}", "written": f"{step}/{sample}"}
        for step in (0, 5, 9)
        for sample in (0, 1)
    ]
    (tmp_path / "samples-during.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    facts = read_training(tmp_path, StageReport(stage="train", num_in=0, num_out=0))

    assert facts.said == (Said("w0", "0/0", "9/0"), Said("w1", "0/1", "9/1"))
    assert (facts.first_step, facts.last_step) == (0, 9)


def test_numbers_are_named_and_unknown_ones_left_out(tmp_path: Path) -> None:
    notes: dict[str, float | int | str | None] = {"steps": 1200, "mfu": None, "tokens_per_s": 1234.5, "device": "cpu"}
    report = StageReport(stage="train", num_in=3, num_out=1, rejected={"missing_picture": 2}, notes=notes)

    facts = read_training(tmp_path, report)

    assert facts.rows == (("steps", "1,200"), ("tokens per second", "1,234"), ("missing picture", "2"))
    assert facts.said == ()
