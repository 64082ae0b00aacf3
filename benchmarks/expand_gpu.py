"""How near the engine comes to what a GPU can do, with models of real shapes and random weights made on the spot.

    python benchmarks/expand_gpu.py [--captions 512] [--batch 128] [--tiny]

    llava-1.5-7b      multi-head attention, 336-pixel pictures, 576 tokens each
    qwen2.5-vl-7b     grouped-query attention, 448-pixel pictures, 256 tokens each

Every caption has 190 tokens: nothing ends early. Prompts are ready in memory, so that this is the model's side alone;
`expand_cpu.py` measures the feeding. The roofline is what memory and arithmetic allow: per step the weights and the
keys and values of all rows are read once, and the prompt costs 2 FLOP per parameter and token; the copy and matrix
product rates are measured on this device first. `--tiny` runs small models of both kinds on any device, to see that it
works.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import torch

from sgv_data.captioner.decode import RollingBatch, Row
from sgv_data.captioner.quiet import quiet_libraries
from sgv_data.captioner.render import Inputs
from sgv_data.captioner.setting import Setting

NEW_TOKENS = 190
TEXT_TOKENS = 40


@dataclass(frozen=True)
class Shape:
    """A model to be made: its name, configuration, and one prompt with a picture."""

    name: str
    config: Any
    sample: Inputs


def llava(tiny: bool) -> Shape:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    side_px, patch_px = (56, 14) if tiny else (336, 14)
    vision = CLIPVisionConfig(
        hidden_size=64 if tiny else 1024, intermediate_size=128 if tiny else 4096, num_hidden_layers=3 if tiny else 24,
        num_attention_heads=2 if tiny else 16, image_size=side_px, patch_size=patch_px,
        projection_dim=64 if tiny else 768,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=512 if tiny else 32064, hidden_size=64 if tiny else 4096, max_position_embeddings=4096,
        intermediate_size=128 if tiny else 11008, num_hidden_layers=2 if tiny else 32,
        num_attention_heads=2 if tiny else 32,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=text.vocab_size - 64)
    image_tokens = (side_px // patch_px) ** 2
    ids_T = _ids(image_tokens, config.image_token_id)
    sample = {
        "input_ids": ids_T, "attention_mask": torch.ones_like(ids_T),
        "pixel_values": torch.randn(1, 3, side_px, side_px),
    }  # fmt: skip
    return Shape("llava-1.5-7b", config, sample)


def qwen(tiny: bool) -> Shape:
    from transformers import Qwen2_5_VLConfig

    side_px, patch_px, merge = (56 if tiny else 448), 14, 2
    text = {
        "vocab_size": 512 if tiny else 152064, "hidden_size": 64 if tiny else 3584,
        "num_key_value_heads": 1 if tiny else 4, "bos_token_id": 1, "eos_token_id": 2,
        "intermediate_size": 128 if tiny else 18944, "num_hidden_layers": 2 if tiny else 28,
        "num_attention_heads": 2 if tiny else 28, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6,
                            "mrope_section": [4, 6, 6] if tiny else [16, 24, 24]},
    }  # fmt: skip
    vision = {
        "depth": 2 if tiny else 32, "hidden_size": 64 if tiny else 1280, "intermediate_size": 128 if tiny else 3420,
        "num_heads": 2 if tiny else 16, "out_hidden_size": text["hidden_size"],
        "fullatt_block_indexes": [1] if tiny else [7, 15, 23, 31],
    }  # fmt: skip
    image_token = 400 if tiny else 151655
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, image_token_id=image_token)
    grid = side_px // patch_px
    ids_T = _ids((grid // merge) ** 2, image_token)
    sample = {
        "input_ids": ids_T, "attention_mask": torch.ones_like(ids_T),
        "mm_token_type_ids": (ids_T == image_token).long(),
        "pixel_values": torch.randn(grid * grid, 3 * 2 * patch_px * patch_px),
        "image_grid_thw": torch.tensor([[1, grid, grid]]),
    }  # fmt: skip
    return Shape("qwen2.5-vl-7b", config, sample)


def _ids(image_tokens: int, image_token: int) -> torch.Tensor:
    torch.manual_seed(0)
    text_T = torch.randint(5, 300, (TEXT_TOKENS,))
    return torch.cat([text_T[:5], torch.full((image_tokens,), image_token), text_T[5:]])


def build(shape: Shape, device: torch.device) -> Any:
    """The model, made on the device itself, with weights small enough to stay finite."""
    from transformers import AutoModelForImageTextToText

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with quiet_libraries(), device:
        torch.set_default_dtype(dtype)
        model = AutoModelForImageTextToText.from_config(shape.config).eval()
        torch.set_default_dtype(torch.float32)
    return model


def measure_device(device: torch.device) -> tuple[float, float]:
    """Bytes per second copied (read and written) and FLOP per second of a matrix product."""
    on_gpu = device.type == "cuda"
    block = torch.empty(2**30 if on_gpu else 2**25, dtype=torch.uint8, device=device)
    size = 8192 if on_gpu else 512
    square = torch.randn(size, size, device=device, dtype=torch.bfloat16 if on_gpu else torch.float32)
    return 2 * block.numel() / _seconds(block.clone, device), 2 * size**3 / _seconds(lambda: square @ square, device)


def _seconds(work: Any, device: torch.device) -> float:
    times = []
    for _ in range(6):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - started)
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def roofline(model: Any, shape: Shape, batch: int, bytes_per_s: float, flop_per_s: float) -> float:
    """Captions per second that the device allows at this batch size."""
    text = shape.config.get_text_config()
    width = next(model.parameters()).element_size()
    language = sum(p.numel() for name, p in model.named_parameters() if "vision" not in name and "visual" not in name)
    head = text.hidden_size // text.num_attention_heads
    per_token = 2 * text.num_hidden_layers * (text.num_key_value_heads or text.num_attention_heads) * head * width
    num_prompt = len(shape.sample["input_ids"])
    step_s = (language * width + batch * (num_prompt + NEW_TOKENS / 2) * per_token) / bytes_per_s
    step_s = max(step_s, 2 * language * batch / flop_per_s)
    prefill_s = 2 * language * num_prompt * batch / flop_per_s
    return batch / (prefill_s + NEW_TOKENS * step_s)


def describe(model: Any, shape: Shape, num_captions: int, batch_size: int) -> tuple[float, float]:
    """Captions per second, and the share of time in which the GPU computed (nan without one)."""
    from torch.profiler import ProfilerActivity, profile

    device = next(model.parameters()).device
    decoder = RollingBatch(model, [-1], 0, None)
    setting = Setting(NEW_TOKENS)
    left = num_captions
    _wait(device)
    started = time.perf_counter()
    busy = float("nan")
    with torch.inference_mode():
        while left or decoder.num_rows:
            free = batch_size - decoder.num_rows
            if left and free >= batch_size / 4:
                count = min(free, left)
                decoder.join([Row(left - each, shape.sample, setting, 0) for each in range(count)])
                left -= count
            decoder.step()
        _wait(device)
        seconds = time.perf_counter() - started
        if device.type == "cuda":
            decoder.join([Row(each, shape.sample, setting, 0) for each in range(batch_size)])
            _wait(device)
            with profile(activities=[ProfilerActivity.CUDA]) as found:
                began = time.perf_counter()
                for _ in range(5):
                    decoder.step()
                _wait(device)
                passed_s = time.perf_counter() - began
            busy = sum(event.self_device_time_total for event in found.key_averages()) / 1e6 / passed_s
            decoder.clear()
    return num_captions / seconds, busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=512)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not arguments.tiny:
        parser.error("there is no GPU here; --tiny runs small models on the processor")
    bytes_per_s, flop_per_s = measure_device(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "processor"
    print(f"{name}: copies {bytes_per_s / 1e9:.0f} GB/s, multiplies {flop_per_s / 1e12:.2f} TFLOP/s")
    print("model            batch  captions/s  roofline  share  busy  peak GB")
    for make in (llava, qwen):
        shape = make(arguments.tiny)
        model = build(shape, device)
        for batch in arguments.batch:
            rate, busy = describe(model, shape, arguments.captions, batch)
            most = roofline(model, shape, batch, bytes_per_s, flop_per_s)
            peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")
            print(f"{shape.name:16s} {batch:5d} {rate:11.2f} {most:9.2f} {rate / most:6.2f} {busy:5.2f} {peak:8.1f}",
                  flush=True)  # fmt: skip
        del model
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
