"""Tiny random models of other architectures than LLaVA, as folders; none of them needs torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sgv_data.captioner.quiet import quiet_libraries
from sgv_data.captioner.tiny import TEST_SIZE, build_processor
from tests.tiny_models import CAPTIONS, build_next_folder

_VISION = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
_TEXT = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 512,
}  # fmt: skip
_TEMPLATE = (
    "<s>{% for message in messages %}[{{ message['role'] }}] {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ '</s>' if message['role'] == 'assistant' else ' ' }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def _tokenizer(*tokens: str) -> Any:
    tokenizer = build_processor(CAPTIONS * 5, TEST_SIZE).tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", *tokens]})
    tokenizer.chat_template = None
    return tokenizer


def _ends(tokenizer: Any) -> dict[str, int]:
    return {
        "vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip


def build_gemma_folder(folder: Path) -> Path:
    """Gemma 3: SigLIP tower, pictures as soft tokens that see each other, sliding windows."""
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessor,
        Gemma3Processor,
        Gemma3TextConfig,
        PreTrainedTokenizerFast,
        SiglipVisionConfig,
    )

    torch.manual_seed(1)
    plain = _tokenizer("<start_of_image>", "<end_of_image>", "<image_soft_token>")
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain.backend_tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        padding_side="left", extra_special_tokens=named,
    )  # fmt: skip
    text = Gemma3TextConfig(**{**_TEXT, "head_dim": 32, "sliding_window": 64}, **_ends(tokenizer))
    config = Gemma3Config(
        text_config=text, vision_config=SiglipVisionConfig(**_VISION), mm_tokens_per_image=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
    )  # fmt: skip
    images = Gemma3ImageProcessor(size={"height": 32, "width": 32}, do_pan_and_scan=False)
    template = _TEMPLATE.replace("IMAGE", "<start_of_image>")
    processor = Gemma3Processor(images, tokenizer, chat_template=template, image_seq_length=4)
    return _save(Gemma3ForConditionalGeneration(config), processor, folder)


def build_paligemma_folder(folder: Path) -> Path:
    """PaliGemma: no chat template, the prompt looks ahead of itself, types of tokens tell it from the answer."""
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
        SiglipVisionConfig,
    )

    torch.manual_seed(1)
    tokenizer = _tokenizer()
    vision = SiglipVisionConfig(**_VISION, projection_dim=64)
    config = PaliGemmaConfig(
        vision_config=vision, text_config=GemmaConfig(**_TEXT, head_dim=32, **_ends(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), projection_dim=64, hidden_size=64,
    )  # fmt: skip
    images = SiglipImageProcessor(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, tokenizer)
    return _save(PaliGemmaForConditionalGeneration(config), processor, folder)


def build_idefics_folder(folder: Path) -> Path:
    """Idefics 3: pictures cut into tiles with rows and columns in the text, patches shuffled into channels."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
        LlamaConfig,
    )
    from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig

    torch.manual_seed(1)
    tokenizer = _tokenizer("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    config = Idefics3Config(
        vision_config=Idefics3VisionConfig(**_VISION),
        text_config=LlamaConfig(**_TEXT, **_ends(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    images = Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    template = _TEMPLATE.replace("IMAGE", "<image>")
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=template)
    return _save(Idefics3ForConditionalGeneration(config), processor, folder)


def _save(model: Any, processor: Any, folder: Path) -> Path:
    with quiet_libraries():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


BUILDERS = {
    "llava-next": build_next_folder,
    "gemma3": build_gemma_folder,
    "paligemma": build_paligemma_folder,
    "idefics3": build_idefics_folder,
}
