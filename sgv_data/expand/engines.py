"""The engine a manifest asks for, opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sgv_data.expand.engine import Engine
from sgv_data.expand.setup import Work


@contextmanager
def opened_engine(work: Work) -> Iterator[Engine]:
    """The engine, ready to describe.

    Raises:
        MissingPart: what it needs is not installed.
    """
    match work.manifest.expand.engine:
        case "transformers":
            yield _transformers_engine(work)
        case "vllm":
            from sgv_data.expand.vllm_engine import opened_vllm

            with opened_vllm(work) as engine:
                yield engine
        case "openai":
            from sgv_data.expand.openai_engine import opened_server

            with opened_server(work) as engine:
                yield engine


def _transformers_engine(work: Work) -> Engine:
    from sgv_data.captioner.load import (
        ModelPlace,
        choose_device,
        load_captioner,
        require_captioner_part,
        use_all_cores,
    )

    require_captioner_part()
    use_all_cores()
    import torch

    from sgv_data.captioner.render import Renderer
    from sgv_data.expand.transformers_engine import TransformersEngine

    dtype = getattr(torch, dict(work.writer.engine)["dtype"])
    place = ModelPlace(str(work.model), None, "the captioner", is_folder=True)
    captioner = load_captioner(place, choose_device(), dtype)
    return TransformersEngine(captioner, Renderer(captioner, work.prompt), work.manifest.expand.batch_size)
