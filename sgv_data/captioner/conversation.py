"""Samples with several turns, for training: a person asks, the model answers, and the loss is on every answer.

    prompt       the template up to the first answer; the pictures are in its human turn, where the text places them
    answer       as `Renderer` makes it, with the token that ends the turn
    between      the template from there up to the next answer

A text without pictures is rendered in the same way and has no picture tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgv_data.captioner.render import IGNORED, TOKEN_KEYS, Inputs, Renderer
from sgv_data.errors import TrainingError

if TYPE_CHECKING:
    from PIL.Image import Image

PLACEHOLDER = "<image>"
"""Where a picture stands in the text of LLaVA's format."""

_SENTINEL = "Aq{number} sentinel answer {number}qA"


class TooLong(Exception):
    """A sample whose first question already fills the context."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a person said and what was answered."""

    asked: str
    answered: str


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer's place in the template: `anchor` goes before it, `between` comes behind its end token."""

    lead: str
    tail: str
    end_id: int
    between: str


class ConversationRenderer(Renderer):
    """Renders samples of several exchanges for one model, with the model's own chat template."""

    def conversation_inputs(self, exchanges: Sequence[Exchange], images: Sequence[Image]) -> Inputs:
        """The whole sample with its labels: the answers' tokens and the tokens that end them, all others ignored.

        What does not fit the context is cut off at the end; a picture loses nothing.

        Raises:
            TooLong: if already the first question does not fit.
            TrainingError: if the model's template cannot hold a conversation.
        """
        import torch

        prompt, answers = self._template(exchanges, len(images))
        inputs = self._prompt(prompt, images)
        prompt_T = inputs["input_ids"]
        if self.max_tokens is not None and len(prompt_T) >= self.max_tokens:
            raise TooLong
        ids, labels, before = [], [], prompt
        for exchange, place in zip(exchanges, answers, strict=True):
            written = self._behind(before, place.lead + exchange.answered.strip() + place.tail)
            between = self._between(place)
            ids += [*written, place.end_id, *between]
            labels += [*written, place.end_id, *[IGNORED] * len(between)]
            before = place.between
        room = len(ids) if self.max_tokens is None else self.max_tokens - len(prompt_T)
        more_T = torch.tensor(ids[:room], dtype=prompt_T.dtype)
        more_labels_T = torch.tensor(labels[:room], dtype=prompt_T.dtype)
        for name in TOKEN_KEYS:
            if name in inputs and name not in ("input_ids", "attention_mask"):
                inputs[name] = torch.cat([inputs[name], torch.full_like(more_T, self.answer_type).to(inputs[name])])
        inputs["input_ids"] = torch.cat([prompt_T, more_T])
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["labels"] = torch.cat([torch.full_like(prompt_T, IGNORED), more_labels_T])
        return inputs

    def without_loss(self, image: Image) -> Inputs:
        """A sample that teaches nothing, in place of one that cannot be used."""
        import torch

        inputs = self.prompt_inputs(image)
        return {**inputs, "labels": torch.full_like(inputs["input_ids"], IGNORED)}

    def _template(self, exchanges: Sequence[Exchange], num_images: int) -> tuple[str, list[_Answer]]:
        """The prompt's text, and around each answer what the template puts there."""
        messages: list[dict[str, Any]] = []
        for number, exchange in enumerate(exchanges):
            parts = self._parts(exchange.asked, num_images if number == 0 else 0)
            messages.append({"role": "user", "content": parts})
            text = _SENTINEL.format(number=number)
            messages.append({"role": "assistant", "content": [{"type": "text", "text": text}]})
        if not self.has_template:
            raise TrainingError(f"{self.label}: has no chat template, so it cannot be trained on conversations")
        prompt = str(self.processor.apply_chat_template(messages[:1], add_generation_prompt=True))
        rest = str(self.processor.apply_chat_template(messages))
        pieces = []
        for number in range(len(exchanges)):
            piece, found, rest = rest.partition(_SENTINEL.format(number=number))
            if not found:
                raise TrainingError(f"{self.label}: its chat template leaves out turns of a conversation")
            pieces.append(piece)
        pieces.append(rest)
        if not pieces[0].startswith(prompt):
            raise TrainingError(f"{self.label}: its chat template renders a question differently once it is answered")
        lead = pieces[0][len(prompt) :]
        return prompt, [self._answer(piece, lead, last=piece is pieces[-1]) for piece in pieces[1:]]

    def _answer(self, behind: str, lead: str, last: bool) -> _Answer:
        ends = {self.tokenizer.convert_ids_to_tokens(end): end for end in self.end_ids}
        places = sorted((behind.find(token), token) for token in ends if token in behind)
        tail, end_id = "", self.end_ids[0]
        if places:
            place, token = places[0]
            tail, end_id, behind = behind[:place], ends[token], behind[place + len(token) :]
        return _Answer(lead, tail, end_id, "" if last else behind.removesuffix(lead))

    def _parts(self, text: str, num_images: int) -> list[dict[str, str]]:
        """The text as the template takes it, with pictures where it places them (first, if it does not say)."""
        if num_images == 0:
            return [{"type": "text", "text": self._harmless(text.strip())}]
        texts = text.split(PLACEHOLDER)
        parts: list[dict[str, str]] = [{"type": "image"}] * (num_images if len(texts) == 1 else 0)
        for number, piece in enumerate(texts):
            parts += [{"type": "image"}] if number else []
            parts += [{"type": "text", "text": self._harmless(piece.strip())}] if piece.strip() else []
        return parts

    def _harmless(self, text: str) -> str:
        """A person's words in which special tokens are broken by a space; no loss is ever on them."""
        for token in self.tokenizer.all_special_tokens:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
        return text

    def _prompt(self, text: str, images: Sequence[Image]) -> Inputs:
        if images:
            return self.encode(text, images)
        encoded = self.tokenizer(text, return_tensors="pt", **self.special_options(text))
        return {name: value[0] for name, value in encoded.items() if name in TOKEN_KEYS}

    def _between(self, place: _Answer) -> list[int]:
        """Tokenised behind the end token, as in the whole text."""
        if not place.between:
            return []
        end = str(self.tokenizer.convert_ids_to_tokens(place.end_id))
        ids = [int(token) for token in self.tokenizer(end + place.between, add_special_tokens=False)["input_ids"]]
        return ids[1:] if ids[0] == place.end_id else ids[ids.index(place.end_id) + 1 :]
