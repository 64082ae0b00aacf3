"""How much of a GPU training uses: model FLOP utilisation of full and LoRA fine-tuning, weights random and made here.

    python benchmarks/train_gpu.py [--steps 12] [--micro 8] [--tiny]

    llava-1.5-7b     336-pixel pictures, 577 image tokens, every token with its own keys and values
    qwen2.5-vl-7b    448-pixel pictures, 256 image tokens, keys and values shared by groups of heads

Every sample is one picture, a prompt of 40 tokens, a caption of 190. Weights and optimizer are bfloat16, so that full
fine-tuning fits on one GPU of 80 GB; activations are recomputed. The numbers are those that `sgv train` writes into
metrics.jsonl: what the model needs (recomputation and padding not counted) over the seconds of a step, medians without
the first steps. A micro-batch that does not fit is halved. `--tiny` runs small shapes on the CPU, to see that it works.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sgv_data.captioner.parts import set_trained_parts
from sgv_data.captioner.render import IGNORED, Inputs
from sgv_data.errors import TrainingError
from sgv_data.manifest import CaptionerModel, Lora, TrainedParts
from sgv_data.progress import Silent
from sgv_data.train.checkpoints import Checkpoints
from sgv_data.train.dataset import CaptionDataset, SampleCache
from sgv_data.train.metrics import read_metrics
from sgv_data.train.trainer import CaptionTrainer, TrainingJob, train

PROMPT_TOKENS, CAPTION_TOKENS = 40, 190
WARM_STEPS = 3
WAYS = {
    "full": TrainedParts(vision="from_block_12", projector="full", language="full"),
    "lora": TrainedParts(vision="frozen", projector="full", language="lora"),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A model with random weights, and a sample for it."""

    name: str
    model: Any
    image_token_id: int
    image_tokens: int
    pixels: dict[str, torch.Tensor]

    def sample(self, number: int) -> Inputs:
        """Random tokens behind the picture; the loss is on the last ones."""
        chance = torch.Generator().manual_seed(number)
        text = torch.randint(10, self.image_token_id, (PROMPT_TOKENS + CAPTION_TOKENS,), generator=chance)
        ids = torch.cat([torch.full((self.image_tokens,), self.image_token_id), text])
        labels = torch.full_like(ids, IGNORED)
        labels[-CAPTION_TOKENS:] = ids[-CAPTION_TOKENS:]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, **self.pixels}


def llava(tiny: bool, device: torch.device) -> Shape:
    """LLaVA-1.5-7B, or the same in small."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    side, patch = (32, 8) if tiny else (336, 14)
    sizes = (48, 96, 14, 3) if tiny else (1024, 4096, 24, 16)
    words = (64, 128, 2, 2, 500) if tiny else (4096, 11008, 32, 32, 32064)
    vision = CLIPVisionConfig(
        hidden_size=sizes[0], intermediate_size=sizes[1], num_hidden_layers=sizes[2], num_attention_heads=sizes[3],
        image_size=side, patch_size=patch,
    )  # fmt: skip
    language = LlamaConfig(
        hidden_size=words[0], intermediate_size=words[1], num_hidden_layers=words[2], num_attention_heads=words[3],
        vocab_size=words[4], max_position_embeddings=4096,
    )  # fmt: skip
    image_token = words[4] - 1
    config = LlavaConfig(
        vision_config=vision, text_config=language, image_token_id=image_token,
        vision_feature_select_strategy="full", vision_feature_layer=-2,
    )  # fmt: skip
    pixels = {"pixel_values": torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))}
    model = _random(LlavaForConditionalGeneration, config, device)
    return Shape("llava-1.5-7b", model, image_token, (side // patch) ** 2 + 1, pixels)


def qwen(tiny: bool, device: torch.device) -> Shape:
    """Qwen2.5-VL-7B, or the same in small."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    grid = 8 if tiny else 32
    sizes = (48, 96, 14, 3, 64) if tiny else (1280, 3420, 32, 16, 3584)
    names = ("hidden_size", "intermediate_size", "depth", "num_heads", "out_hidden_size")
    vision = dict(zip(names, sizes, strict=True))
    words = (64, 128, 2, 4, 2, 500) if tiny else (3584, 18944, 28, 28, 4, 152064)
    head = words[0] // words[3] // 2
    text = {
        "hidden_size": words[0], "intermediate_size": words[1], "num_hidden_layers": words[2],
        "num_attention_heads": words[3], "num_key_value_heads": words[4], "vocab_size": words[5],
        "rope_scaling": {"type": "mrope", "mrope_section": [head - 2 * (head * 3 // 8), head * 3 // 8, head * 3 // 8]},
    }  # fmt: skip
    last = words[5] - 1
    config = Qwen2_5_VLConfig(
        vision_config=vision, text_config=text, image_token_id=last, video_token_id=last - 1,
        vision_start_token_id=last - 2, vision_end_token_id=last - 3,
    )  # fmt: skip
    patches = torch.randn(grid * grid, 1176, generator=torch.Generator().manual_seed(0))
    pixels = {"pixel_values": patches, "image_grid_thw": torch.tensor([[1, grid, grid]])}
    model = _random(Qwen2_5_VLForConditionalGeneration, config, device)
    return Shape("qwen2.5-vl-7b", model, last, grid * grid // 4, pixels)


def _random(kind: Any, config: Any, device: torch.device) -> Any:
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device.type == "cuda" else torch.float32)
    try:
        with device:
            return kind(config)
    finally:
        torch.set_default_dtype(before)


class Unsaved(CaptionTrainer):
    """Writes no checkpoints: forty gigabytes that nobody reads."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        return


def measure(shape: Shape, way: str, micro: int, steps: int, device: torch.device) -> str:
    """One row of the table. The model is changed by it."""
    set_trained_parts(shape.model, WAYS[way], Lora())
    while True:
        try:
            return _measure(shape, way, micro, steps, device)
        except TrainingError as exc:
            if micro == 1 or "not enough memory" not in str(exc):
                return f"{shape.name:<16} {way:<6} micro-batch {micro}: {exc}"
            print(f"  {exc}", flush=True)
        micro //= 2


def _measure(shape: Shape, way: str, micro: int, steps: int, device: torch.device) -> str:
    settings = CaptionerModel(
        base_model="tiny", batch_size=micro, micro_batch_size=micro, learning_rate=1e-5, gradient_checkpointing=True,
        checkpoint_every_steps=10**9, precision="auto",
    )  # fmt: skip
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        cache = SampleCache()
        job = TrainingJob(
            model=shape.model, device=device, pad_id=0, image_token_id=shape.image_token_id, seed=0,
            trained=CaptionDataset(shape.sample, np.arange(steps * micro), cache),
            held_out=CaptionDataset(shape.sample, np.arange(1), cache), num_per_epoch=steps * micro,
            describe=lambda prompts: [""] * len(prompts), text=lambda ids: "",
        )  # fmt: skip
        train(job, settings, Checkpoints(Path(folder) / "checkpoints"), Path(folder), Silent(), trainer_class=Unsaved)
        rows = [row for row in read_metrics(Path(folder) / "metrics.jsonl") if row.tokens_per_s][WARM_STEPS:]
    speed = statistics.median(row.tokens_per_s or 0 for row in rows)
    tflops = statistics.median(row.tflops_per_s or 0 for row in rows)
    shares = [row.mfu for row in rows if row.mfu is not None]
    mfu = f"{statistics.median(shares):.3f}" if shares else "unknown"
    peak = f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if device.type == "cuda" else "not measured"
    return f"{shape.name:<16} {way:<6} {micro:>5} {speed:>12,.0f} {tflops:>10.3f} {mfu:>8} {peak:>13}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--micro", type=int, default=8)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    device = torch.device("cpu" if options.tiny or not torch.cuda.is_available() else "cuda")
    if device.type == "cpu" and not options.tiny:
        raise SystemExit("no GPU here; --tiny runs small shapes on the CPU")
    print(torch.cuda.get_device_name() if device.type == "cuda" else "CPU, small shapes")
    print(f"{'model':<16} {'way':<6} {'micro':>5} {'tokens/s':>12} {'TFLOP/s':>10} {'MFU':>8} {'peak memory':>13}")
    for build in (llava, qwen):
        for way in WAYS:
            shape = build(options.tiny, device)
            print(measure(shape, way, options.micro, options.steps, device), flush=True)
            del shape
            if device.type == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
