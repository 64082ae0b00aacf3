"""The engine `vllm`: continuous batching with paged memory, one engine in this process.

Pictures come decoded and scaled from the worker processes, since vLLM prepares them in a single thread. What it sees is
the prompt's token ids and the picture; its own processor is that of the model folder, as ours is.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from sgv_data.captioner.setting import LOOP_MAX_PERIOD_TOKENS, LOOP_MIN_TOKENS, Setting
from sgv_data.errors import MissingPart, SgvError
from sgv_data.expand.asynchronous import LoopThread
from sgv_data.expand.engine import Answer, Engine, Finish, Load, Picture
from sgv_data.expand.setup import Work


@contextmanager
def opened_vllm(work: Work) -> Iterator[Engine]:
    """The engine with the captioner in it.

    Raises:
        MissingPart: vLLM is not installed.
        SgvError: it does not start.
    """
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM
    except ImportError as exc:
        raise MissingPart(
            f"the engine vllm needs {exc.name or 'vllm'}, which is not installed: pip install 'sgv_data[vllm]', best "
            "in an environment of its own"
        ) from exc
    dtype = dict(work.writer.engine)["dtype"]
    arguments = AsyncEngineArgs(
        model=str(work.model), dtype=dtype, max_num_seqs=work.manifest.expand.batch_size,
        limit_mm_per_prompt={"image": 1},  # frees the memory that it would set aside for more
        mm_processor_cache_gb=0,  # every picture is asked about once: hashing them would be for nothing
        seed=0, disable_log_stats=True, generation_config="vllm",
        enforce_eager=not _has_gpu(),  # compiling pays on a GPU; elsewhere it only makes the start longer
    )  # fmt: skip
    with LoopThread() as loop:
        llm = loop.call(_start(AsyncLLM, arguments))
        try:
            yield VllmEngine(loop, llm, work)
        finally:
            loop.call(_stop(llm))


def _has_gpu() -> bool:
    """Whether torch sees a GPU."""
    import torch

    return torch.cuda.is_available()


async def _start(kind: Any, arguments: Any) -> Any:
    try:
        return kind.from_engine_args(arguments)
    except (RuntimeError, ValueError) as exc:
        raise SgvError(f"vLLM does not start with this captioner: {exc}") from exc


async def _stop(llm: Any) -> None:
    llm.shutdown()


class VllmEngine:
    """Hands pictures to vLLM, twice as many at once as it decodes, so that the next ones are prepared in time."""

    def __init__(self, loop: LoopThread, llm: Any, work: Work) -> None:
        self._loop, self._llm = loop, llm
        self._prompt_ids, self._end_ids = _prompt_and_ends(work.model, work.prompt.text)
        self._most = 2 * work.manifest.expand.batch_size
        self._num_asked = 0
        self.load = Load()

    def describe(self, pictures: Iterator[Picture | None]) -> Generator[Answer]:
        """One answer per picture, as they come."""
        return self._loop.answers(pictures, self._ask, self._most, self.load)

    async def _ask(self, picture: Picture) -> Answer:
        from vllm.v1.engine.exceptions import EngineDeadError

        self._num_asked += 1
        prompt = {
            "prompt_token_ids": self._prompt_ids,
            "multi_modal_data": {"image": Image.fromarray(picture.pixels)},
        }
        sampling = sampling_params(picture.setting, picture.seed, self._end_ids)
        result: Any = None
        try:
            async for output in self._llm.generate(prompt, sampling, str(self._num_asked)):
                result = output
        except EngineDeadError as exc:
            raise SgvError(f"vLLM broke down: {exc}") from exc
        except ValueError as exc:
            return Answer(picture.place, f"vLLM refused it ({exc})", Finish.FAILED, 0, 0, 0.0)
        return _answer(picture, result)


def _prompt_and_ends(model: Path, text: str) -> tuple[list[int], list[int]]:
    """The prompt as the model's chat template and tokenizer have it, with one image token, and what ends a caption."""
    from transformers import AutoProcessor, GenerationConfig

    processor = AutoProcessor.from_pretrained(model, local_files_only=True)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    prompt = str(processor.apply_chat_template(messages, add_generation_prompt=True))
    tokenizer = processor.tokenizer
    has_start = bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token)
    ids = [int(token) for token in tokenizer(prompt, add_special_tokens=not has_start)["input_ids"]]
    ends = [tokenizer.eos_token_id]
    if (model / "generation_config.json").is_file():
        more = GenerationConfig.from_pretrained(model).eos_token_id
        ends += more if isinstance(more, list) else [more]
    return ids, list(dict.fromkeys(int(end) for end in ends if end is not None))


def sampling_params(setting: Setting, seed: int, end_ids: list[int]) -> Any:
    """vLLM's own form of a setting, with nothing left to the model's defaults."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    options: dict[str, Any] = {}
    if setting.stops_loops:
        from vllm.sampling_params import RepetitionDetectionParams

        # Counts turns, not tokens: as many turns as make a loop of the shortest phrase long enough for ours.
        options["repetition_detection"] = RepetitionDetectionParams(
            max_pattern_size=LOOP_MAX_PERIOD_TOKENS, min_pattern_size=1, min_count=LOOP_MIN_TOKENS // 4
        )
    return SamplingParams(
        n=1, temperature=setting.temperature, top_p=setting.top_p, repetition_penalty=setting.repetition_penalty,
        max_tokens=setting.max_new_tokens, seed=seed if setting.samples else None, stop_token_ids=end_ids,
        skip_special_tokens=True, output_kind=RequestOutputKind.FINAL_ONLY, **options,
    )  # fmt: skip


def _answer(picture: Picture, result: Any) -> Answer:
    (said,) = result.outputs
    if said.finish_reason not in tuple(Finish):
        return Answer(picture.place, f"vLLM gave it up ({said.finish_reason})", Finish.FAILED, 0, 0, 0.0)
    return Answer(
        picture.place, said.text.strip(), Finish(said.finish_reason), len(result.prompt_token_ids or ()),
        len(said.token_ids), 0.0,
    )  # fmt: skip
