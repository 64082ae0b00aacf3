"""Samples are read when asked for, kept while there is room, and refused when their picture has changed."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from sgv_data.captioner.load import Captioner
from sgv_data.captioner.picture import picture_opener
from sgv_data.captioner.render import Renderer
from sgv_data.errors import InputError
from sgv_data.train.dataset import CaptionDataset, CaptionSamples, SampleCache
from sgv_data.train.kept import kept_captions, write_kept
from tests.captioner_run import captioner_run
from tests.tiny_models import PROMPT


def dataset(root: Path, captioner: Captioner, cache_bytes: int) -> CaptionDataset:
    manifest, run = captioner_run(root, num_taught=6, num_untaught=0)
    rows = kept_captions(run.stage("index"), run.stage("collect"), run.stage("filter-teacher"))
    kept = write_kept(root / "kept.arrow", rows)
    opener = picture_opener(manifest, captioner.processor.image_processor)
    render = CaptionSamples(kept, Renderer(captioner, PROMPT), opener)
    return CaptionDataset(render, np.array([2, 0, 2, 1]), SampleCache(cache_bytes))


@pytest.mark.parametrize("cache_bytes", [0, 10_000_000])
def test_the_order_says_which_sample_comes(tmp_path: Path, captioner: Captioner, cache_bytes: int) -> None:
    samples = dataset(tmp_path, captioner, cache_bytes)

    assert len(samples) == 4
    first, second, third = samples[0], samples[1], samples[2]
    assert all(torch.equal(first[name], third[name]) for name in first)
    assert not torch.equal(first["pixel_values"], second["pixel_values"])


def test_a_kept_sample_is_not_read_again(tmp_path: Path, captioner: Captioner) -> None:
    samples = dataset(tmp_path, captioner, 10_000_000)
    first = samples[0]
    for path in (tmp_path / "pictures").iterdir():
        path.unlink()

    assert torch.equal(samples[2]["input_ids"], first["input_ids"])


def test_what_does_not_fit_is_read_again(tmp_path: Path, captioner: Captioner) -> None:
    samples = dataset(tmp_path, captioner, 0)
    assert samples[0]
    for path in (tmp_path / "pictures").iterdir():
        path.unlink()

    with pytest.raises(InputError, match="cannot be read any more"):
        samples[0]


def test_a_copy_for_a_loader_process_is_small_and_reads_the_same(tmp_path: Path, captioner: Captioner) -> None:
    samples = dataset(tmp_path, captioner, 10_000_000)
    first = samples[0]

    copy = pickle.loads(pickle.dumps(samples))

    assert torch.equal(copy[0]["pixel_values"], first["pixel_values"])
    assert torch.equal(copy[0]["labels"], first["labels"])
