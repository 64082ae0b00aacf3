"""Tiny models for tests, and what is asked of them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sgv_data.captioner.load import Captioner, ModelPlace, load_captioner
from sgv_data.captioner.quiet import quiet_libraries
from sgv_data.captioner.tiny import TEST_SIZE, build_processor, build_tiny
from sgv_data.prompts import Prompt

CAPTIONS = (
    "A red rectangle lies on the left of a blue ground.",
    "A green circle and a white star stand on a red ground.",
    "Two blue rings hang above a white rectangle.",
)
_TEMPLATE = (
    "{% for message in messages %}[{{ message['role'] }}] {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ '</s>' if message['role'] == 'assistant' else ' ' }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
PROMPT = Prompt("mine", 1, "tests", "Describe the picture.", "0" * 64)


def build_folder(folder: Path) -> Path:
    """A model folder, the same each time."""
    torch.manual_seed(1)
    with quiet_libraries():
        build_tiny(folder, CAPTIONS * 5)
    return folder


def load(folder: Path) -> Captioner:
    """The model in float32 on the CPU, with one thread."""
    torch.set_num_threads(1)
    return load_captioner(ModelPlace(str(folder), None, "tiny", is_folder=True), torch.device("cpu"), torch.float32)


def picture(number: int, width_px: int = 40, height_px: int = 40) -> Image.Image:
    """Coloured noise that no other number has."""
    noise = np.random.default_rng(number).integers(0, 255, (height_px, width_px, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def teach_to_stop(captioner: Captioner, seed: int = 0) -> None:
    """Random large weights, so that captions differ between pictures and end at different lengths."""
    torch.manual_seed(seed)
    chance = random.Random(seed)
    with torch.no_grad():
        for parameter in captioner.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15 * chance.random())


def build_next_folder(folder: Path) -> Path:
    """A model of another architecture: LLaVA-NeXT, which cuts pictures into pieces."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessor,
        LlavaNextProcessor,
    )

    torch.manual_seed(1)
    tokenizer = build_processor(CAPTIONS * 5, TEST_SIZE).tokenizer
    pieces = [[32, 64], [64, 32], [64, 64]]
    vision = CLIPVisionConfig(
        hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=3, image_size=32, patch_size=8,
        projection_dim=48,
    )  # fmt: skip
    language = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=1024, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config = LlavaNextConfig(
        vision_config=vision, text_config=language, image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pieces, vision_feature_select_strategy="default", vision_feature_layer=-2,
    )  # fmt: skip
    images = LlavaNextImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=pieces
    )
    processor = LlavaNextProcessor(
        images, tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        image_token="<image>", chat_template=_TEMPLATE,
    )  # fmt: skip
    with quiet_libraries():
        LlavaNextForConditionalGeneration(config).save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder
