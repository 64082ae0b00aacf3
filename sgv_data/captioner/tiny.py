"""A small model of the LLaVA architecture, built from scratch: CLIP vision tower, MLP projector, Llama, own tokenizer.

Needs no network and no torchvision. The folder it writes is an ordinary one: `AutoProcessor` and
`AutoModelForImageTextToText` load it. It knows nothing yet; seed torch before building to get equal weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

IMAGE_TOKEN = "<image>"
_PAD, _BOS, _EOS = "<pad>", "<s>", "</s>"

_ROLES = ("USER: ", " ASSISTANT:")
"""Seen often by the tokenizer, so that prompts are short in tokens."""

_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'] | upper }}: "
    "{% if message['content'] is string %}{{ message['content'] | trim }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% elif part['type'] == 'text' %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ '</s>' if message['role'] == 'assistant' else ' ' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@dataclass(frozen=True, slots=True)
class TinySize:
    """How large a model is built. The picture is squeezed to a square of `side_px`, whatever its proportions."""

    side_px: int = 32
    patch_px: int = 8
    vision_width: int = 48
    vision_inner: int = 96
    vision_blocks: int = 2
    vision_heads: int = 3
    language_width: int = 64
    language_inner: int = 128
    language_blocks: int = 2
    language_heads: int = 2
    vocabulary_tokens: int = 800
    context_tokens: int = 1024

    @property
    def image_tokens(self) -> int:
        """How many tokens of the prompt one picture takes: its patches and the class token."""
        return (self.side_px // self.patch_px) ** 2 + 1


TEST_SIZE = TinySize()
"""About 0.2 million parameters."""

BASE_SIZE = TinySize(
    side_px=72,
    patch_px=12,
    vision_width=192,
    vision_inner=512,
    vision_blocks=4,
    vision_heads=3,
    language_width=192,
    language_inner=384,
    language_blocks=3,
    language_heads=3,
    vocabulary_tokens=1400,
)
"""About 2.9 million parameters: the demo's base model."""


def build_tiny(folder: Path, captions: Iterable[str], size: TinySize = TEST_SIZE) -> None:
    """Write a new model and its processor into `folder`; the tokenizer is trained on `captions`."""
    processor = build_processor(captions, size)
    build_model(processor.tokenizer, size).save_pretrained(folder)
    processor.save_pretrained(folder)


def build_processor(captions: Iterable[str], size: TinySize) -> Any:
    """A `LlavaProcessor` with tokenizer, picture preparation and chat template."""
    from transformers import CLIPImageProcessor, LlavaProcessor

    square = {"height": size.side_px, "width": size.side_px}
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(size=square, crop_size=square, do_center_crop=False),
        tokenizer=_train_tokenizer(captions, size),
        patch_size=size.patch_px,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=1,  # the class token
        image_token=IMAGE_TOKEN,
        chat_template=_CHAT_TEMPLATE,
    )


def build_model(tokenizer: Any, size: TinySize) -> Any:
    """A `LlavaForConditionalGeneration` with random weights, float32, whose patches know their place from the start."""
    import torch
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration(_model_config(tokenizer, size))
    vision = model.model.vision_tower
    embeddings = getattr(vision, "vision_model", vision).embeddings
    with torch.no_grad():
        embeddings.position_embedding.weight[1:] = _grid_positions(size)
    return model


def _model_config(tokenizer: Any, size: TinySize) -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    vision = CLIPVisionConfig(
        hidden_size=size.vision_width,
        intermediate_size=size.vision_inner,
        num_hidden_layers=size.vision_blocks,
        num_attention_heads=size.vision_heads,
        image_size=size.side_px,
        patch_size=size.patch_px,
        projection_dim=size.vision_width,
    )
    language = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.language_width,
        intermediate_size=size.language_inner,
        num_hidden_layers=size.language_blocks,
        num_attention_heads=size.language_heads,
        num_key_value_heads=size.language_heads,
        max_position_embeddings=size.context_tokens,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=language,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=size.image_tokens,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )


def _train_tokenizer(captions: Iterable[str], size: TinySize) -> Any:
    """A byte-level BPE: every text can be written in it, and `<image>` is one token that is never split."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size.vocabulary_tokens,
        special_tokens=[_PAD, _BOS, _EOS, IMAGE_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = chain(_ROLES * 50, (f" {caption.strip()}" for caption in captions))
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=_PAD,
        bos_token=_BOS,
        eos_token=_EOS,
        additional_special_tokens=[IMAGE_TOKEN],
        padding_side="left",
        model_max_length=size.context_tokens,
        clean_up_tokenization_spaces=False,
    )


def _grid_positions(size: TinySize) -> torch.Tensor:
    """Sines and cosines of a patch's row and column, half of the width each: (patches, vision_width)."""
    import torch

    side = size.side_px // size.patch_px
    width = size.vision_width // 4
    speeds = torch.pi / side * 2.0 ** torch.linspace(0, 3, width)
    angles = (torch.arange(side) + 0.5)[:, None] * speeds
    waves = torch.cat([angles.sin(), angles.cos()], dim=1) * 0.5
    rows = waves[:, None, :].expand(side, side, -1)
    columns = waves[None, :, :].expand(side, side, -1)
    return torch.cat([rows, columns], dim=2).reshape(side * side, -1)
