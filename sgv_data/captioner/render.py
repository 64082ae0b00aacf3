"""How a sample looks to the model. Training and inference both go through here, so they cannot drift apart.

    prompt     the model's own chat template over one user turn, a picture and the prompt's text, ready to be answered
    answer     what the template puts before the caption, the caption, and the token that ends the turn

Shapes: T tokens of one sample; a sample's tensors that are not about tokens (pixels, grids) keep what the model's
processor gave them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgv_data.captioner.load import Captioner, image_token_id
from sgv_data.errors import TrainingError
from sgv_data.prompts import Prompt

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

IGNORED = -100
"""Label of tokens that the loss does not see."""

TOKEN_KEYS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "labels")
"""Tensors with one value per token; all others are about the picture."""

_SENTINEL = "Aq0 sentinel caption 0qA"

Inputs = dict[str, "torch.Tensor"]
"""Tensors of one sample by the model's argument names: those of `TOKEN_KEYS` are (T,), others as the processor gave
them, first dimension included."""


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What surrounds a caption in the model's chat template: `lead` caption `tail` and then the token `end_id`."""

    lead: str
    tail: str
    end_id: int


class Renderer:
    """Renders samples for one model and one prompt.

    Raises (when made):
        TrainingError: the model has no way to be asked about a picture, or no token that ends a caption.
    """

    def __init__(self, captioner: Captioner, prompt: Prompt, max_tokens: int | None = None) -> None:
        self.processor, self.tokenizer = captioner.processor, captioner.processor.tokenizer
        self.label = captioner.label
        self.answer_type = _answer_type(captioner.model)
        self.image_token_id = image_token_id(captioner)
        self.prompt_text = self._ask(prompt.text)
        self.messages = _messages(prompt.text)
        self.end_ids = _end_ids(captioner)
        self.form = self._answer_form(prompt.text)
        context = _context_tokens(captioner.model)
        self.max_tokens = context if max_tokens is None else min(max_tokens, context or max_tokens)
        self._try_out()

    @property
    def pad_id(self) -> int:
        """The padding token, or the end token where the tokenizer has none."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.form.end_id)

    def prompt_inputs(self, image: Image) -> Inputs:
        """What the model is given to describe `image` (RGB).

        Raises:
            TrainingError: if no image token is left in it, or the context is too short for it.
        """
        inputs = self.encode(self.prompt_text, [image])
        ids_T = inputs["input_ids"]
        if not bool((ids_T == self.image_token_id).any()):
            raise TrainingError(f"{self.label}: its chat template puts no image token into the prompt")
        if self.max_tokens is not None and len(ids_T) + 2 > self.max_tokens:
            raise TrainingError(
                f"{self.label}: prompt and picture take {len(ids_T)} tokens, but its context holds {self.max_tokens}"
            )
        return inputs

    def encode(self, text: str, images: Sequence[Image]) -> Inputs:
        """What the model's processor makes of a rendered prompt and its pictures."""
        encoded = self.processor(text=[text], images=list(images), return_tensors="pt", **self.special_options(text))
        return {name: value[0] if name in TOKEN_KEYS else value for name, value in encoded.items()}

    def special_options(self, text: str) -> dict[str, bool]:
        """Keeps the tokenizer from putting a second first token before a template that has one."""
        bos = self.tokenizer.bos_token
        return {"add_special_tokens": False} if bos and text.startswith(bos) else {}

    @property
    def has_template(self) -> bool:
        """Whether the model comes with a chat template."""
        return bool(getattr(self.processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None))

    def training_inputs(self, image: Image, caption: str) -> Inputs:
        """`prompt_inputs` followed by the caption's tokens and the end token, with labels on these alone.

        A caption that does not fit the context loses its end, the end token with it; the picture loses nothing.
        """
        import torch

        inputs = self.prompt_inputs(image)
        prompt_T = inputs["input_ids"]
        answer = self.answer_ids(caption)
        if self.max_tokens is not None:
            answer = answer[: self.max_tokens - len(prompt_T)]
        answer_T = torch.tensor(answer, dtype=prompt_T.dtype)
        for name in TOKEN_KEYS:
            if name in inputs and name not in ("input_ids", "attention_mask"):
                inputs[name] = torch.cat([inputs[name], torch.full_like(answer_T, self.answer_type).to(inputs[name])])
        inputs["input_ids"] = torch.cat([prompt_T, answer_T])
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["labels"] = torch.cat([torch.full_like(prompt_T, IGNORED), answer_T])
        return inputs

    def answer_ids(self, caption: str) -> list[int]:
        """Token ids of a caption as the model is to write it, end token included.

        The caption is untrusted: `<image>` or `</s>` in it become plain text, never special tokens.
        """
        text = self.form.lead + caption.strip() + self.form.tail
        return [*self._behind(self.prompt_text, text), self.form.end_id]

    def caption_text(self, ids: list[int]) -> str:
        """The caption in generated ids (those before the end token)."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def _behind(self, before: str, text: str) -> list[int]:
        """`text` tokenised behind the last words of `before`, as the model will see it."""
        anchor = self._text_after_last_special(before)
        anchor_ids, joined = self._plain_ids(anchor), self._plain_ids(anchor + text)
        # Apart where a token would span both.
        together = joined[: len(anchor_ids)] == anchor_ids
        return joined[len(anchor_ids) :] if together else self._plain_ids(text)

    def _try_out(self) -> None:
        """Renders a grey picture, so that a model that cannot be asked is refused before anything is read."""
        from PIL import Image

        try:
            self.prompt_inputs(Image.new("RGB", (64, 64), (128, 128, 128)))
        except ValueError as exc:
            raise TrainingError(f"{self.label}: its processor refuses its own chat template ({exc})") from exc

    def _plain_ids(self, text: str) -> list[int]:
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return [int(token) for token in encoded["input_ids"]]

    def _ask(self, text: str) -> str:
        if self.has_template:
            return str(self.processor.apply_chat_template(_messages(text), add_generation_prompt=True))
        image_token = getattr(self.processor, "image_token", None)
        if not image_token:
            raise TrainingError(f"{self.label}: has neither a chat template nor an image token to be asked with")
        return f"{image_token}{text}\n"

    def _answer_form(self, text: str) -> AnswerForm:
        lead, rest = "", ""
        if self.has_template:
            turn = {"role": "assistant", "content": [{"type": "text", "text": _SENTINEL}]}
            full = str(self.processor.apply_chat_template([*_messages(text), turn]))
            if full.startswith(self.prompt_text) and _SENTINEL in full:
                lead, _, rest = full[len(self.prompt_text) :].partition(_SENTINEL)
        ends = {self.tokenizer.convert_ids_to_tokens(end): end for end in self.end_ids}
        places = sorted((rest.find(token), token) for token in ends if token in rest)
        if places:
            place, token = places[0]
            return AnswerForm(lead, rest[:place], ends[token])
        return AnswerForm(lead, "", self.end_ids[0])

    def _text_after_last_special(self, text: str) -> str:
        start = 0
        for token in self.tokenizer.all_special_tokens:
            place = text.rfind(token)
            start = max(start, place + len(token)) if place >= 0 else start
        return text[start:]


def _messages(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


def _end_ids(captioner: Captioner) -> list[int]:
    """Tokens that end a caption: the tokenizer's own first, then those of the model's generation settings."""
    tokenizer, settings = captioner.processor.tokenizer, getattr(captioner.model, "generation_config", None)
    more = getattr(settings, "eos_token_id", None)
    listed = more if isinstance(more, list) else [] if more is None else [more]
    found = [int(end) for end in (tokenizer.eos_token_id, *listed) if end is not None]
    if not found:
        raise TrainingError(f"{captioner.label}: its tokenizer has no token that ends a text")
    return list(dict.fromkeys(found))


def _answer_type(model: Any) -> int:
    """What models that mark tokens call those of an answer. PaliGemma lets tokens of type 0 look ahead."""
    return 1 if model.config.model_type == "paligemma" else 0


def _context_tokens(model: Any) -> int | None:
    """How many tokens the language model was made for; None if it does not say."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else None
