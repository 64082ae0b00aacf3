"""An SFT file of the published size. By hand: pytest -m slow tests/integration/test_mix_large.py"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sgv_data.json_rows import read_json_rows
from tests.unit.mix.files import DETAILED, row

NUM_ROWS, NUM_DETAILED = 665_298, 23_240
EVERY = NUM_ROWS // NUM_DETAILED
MIX = """
import resource, sys
from pathlib import Path
from sgv_data.mix.captions import open_captions
from sgv_data.mix.records import Images, MixPlan
from sgv_data.mix.sft import make_mixes
from sgv_data.progress import Silent
sft, new, out = map(Path, sys.argv[1:4])
make_mixes(sft, open_captions(new), MixPlan(Images(sys.argv[4]), (1.0,), 5), out, Silent())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def _write_sft(path: Path) -> None:
    talk = [text for number in range(4) for text in (f"Question {number} of some length?", "An answer. " * 18)]
    with path.open("w") as file:
        file.write("[\n")
        for number in range(NUM_ROWS):
            image = f"coco/train2017/{number:012d}.jpg"
            if number % EVERY == 0 and number // EVERY < NUM_DETAILED:
                value = row(f"{number:012d}", image, DETAILED[number % 2], "An old caption. " * 38)
            else:
                value = row(str(number), image if number % 16 else None, *talk)
            file.write(("" if number == 0 else ",\n") + json.dumps(value))
        file.write("\n]")


def _write_captions(path: Path) -> None:
    with path.open("w") as file:
        file.write("[")
        for number in range(100_000):
            image = f"coco/train2017/{number * (EVERY if number < NUM_DETAILED else 1):012d}.jpg"
            value = row("x", image, "<image>\nq", f"Caption {number}. " + "A word or so. " * 65)
            file.write(("" if number == 0 else ",") + json.dumps(value))
        file.write("]")


def _mixed(folder: Path, out: str, images: str) -> tuple[Path, int]:
    """The written file and the peak memory of writing it, in MiB."""
    places = [str(folder / name) for name in ("sft.json", "new.json", out)]
    command = [sys.executable, "-c", MIX, *places, images]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    return folder / out, int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("images", ["same", "drawn"])
def test_a_file_of_the_published_size_is_mixed_in_flat_memory(tmp_path: Path, images: str) -> None:
    _write_sft(tmp_path / "sft.json")
    _write_captions(tmp_path / "new.json")
    mixed, peak_mib = _mixed(tmp_path, "out.json", images)
    assert (tmp_path / "sft.json").stat().st_size > 600_000_000
    assert peak_mib < 400
    num_new = 0
    pairs = zip(read_json_rows(tmp_path / "sft.json"), read_json_rows(mixed), strict=True)
    for old, new in pairs:
        if old.value == new.value:
            continue
        num_new += 1
        assert new.value["conversations"][0] == old.value["conversations"][0]
        assert new.value["conversations"][1]["value"].startswith("Caption ")
        assert len(new.value["conversations"]) == 2
        assert images == "drawn" or new.value["image"] == old.value["image"]
    assert num_new == NUM_DETAILED
    assert len(list(read_json_rows(tmp_path / "out.replaced.jsonl"))) == NUM_DETAILED
    again, _ = _mixed(tmp_path, "again.json", images)
    assert again.read_bytes() == mixed.read_bytes()
