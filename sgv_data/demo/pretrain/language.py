"""Second phase: projector and language model learn to say what the vision tower sees."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from sgv_data.captioner.tiny import IMAGE_TOKEN
from sgv_data.demo.accuracy import score_captions
from sgv_data.demo.photo import measure_photo
from sgv_data.demo.pretrain.optimize import Optimizers
from sgv_data.demo.pretrain.pictures import Pool, Viewer
from sgv_data.demo.pretrain.voice import PROMPTS, claim_spans, claim_words
from sgv_data.demo.pretrain.wording import describe_photo, describe_scene

log = logging.getLogger(__name__)

BATCH = 32
_CLAIM_WEIGHT = 3.0
_SHIFT_PX = 1
_GRAIN = 0.01
_MAX_NEW_TOKENS = 120
_TOKEN_LENGTH = 8.0


class Writer:
    """Makes batches of pictures with captions, and lets the model caption pictures."""

    def __init__(self, model: Any, processor: Any, viewer: Viewer, seed: int) -> None:
        self._model, self._tokenizer, self._viewer = model, processor.tokenizer, viewer
        self._rng = random.Random(seed)
        self._claim_words = claim_words()
        image_tokens = IMAGE_TOKEN * model.config.image_seq_length
        self._prompts = [self._encode(_ask(processor, text).replace(IMAGE_TOKEN, image_tokens)) for text in PROMPTS]

    def loss(self, pool: Pool, picks: torch.Tensor) -> torch.Tensor:
        """Mean cross entropy of the caption tokens, claim words counting three times."""
        rows = [self._row(self._caption(pool, int(pick))) for pick in picks]
        longest = max(len(ids) for ids, _ in rows)
        ids_BT = torch.full((len(rows), longest), self._tokenizer.pad_token_id)
        weights_BT = torch.zeros((len(rows), longest))
        for index, (ids, weights) in enumerate(rows):
            ids_BT[index, : len(ids)] = torch.tensor(ids)
            weights_BT[index, : len(ids)] = torch.tensor(weights)
        pixels = self._viewer.view(pool, picks, _SHIFT_PX, _GRAIN)
        with torch.autocast("cpu", torch.bfloat16):
            # Padding stands at the right, where causal attention never looks: no mask is needed.
            hidden = self._model.model(input_ids=ids_BT, pixel_values=pixels).last_hidden_state
            told = weights_BT[:, 1:] > 0
            logits = self._model.lm_head(hidden[:, :-1][told])
        losses = functional.cross_entropy(logits.float(), ids_BT[:, 1:][told], reduction="none")
        counts = weights_BT[:, 1:][told]
        return (losses * counts).sum() / counts.sum()

    def view(self, pool: Pool, picks: torch.Tensor) -> torch.Tensor:
        """Pixels of pictures as they are, (picks, C, H, W)."""
        return self._viewer.view(pool, picks)

    @torch.no_grad()
    def write(self, pool: Pool, picks: torch.Tensor) -> list[str]:
        """Greedy captions for pictures of a pool, asked for with the first prompt."""
        ids_BT = torch.tensor([self._prompts[0]]).expand(len(picks), -1)
        output = self._model.generate(
            input_ids=ids_BT,
            attention_mask=torch.ones_like(ids_BT),
            pixel_values=self.view(pool, picks),
            max_new_tokens=_MAX_NEW_TOKENS,
            do_sample=False,
        )
        texts: list[str] = self._tokenizer.batch_decode(output[:, ids_BT.shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _caption(self, pool: Pool, pick: int) -> str:
        scene = pool.scenes[pick]
        if scene is not None:
            return describe_scene(scene, self._rng)
        pixels = pool.pixels[pick].numpy().astype(np.float32)
        return describe_photo(measure_photo(pixels, 1, 1), self._rng)

    def _row(self, caption: str) -> tuple[list[int], list[float]]:
        """Token ids of prompt and caption, and how much each token counts in the loss."""
        prompt = self._rng.choice(self._prompts)
        text = f" {caption}"
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans = claim_spans(text, self._claim_words)
        weights = [
            _CLAIM_WEIGHT if any(start < span_end and span_start < end for span_start, span_end in spans) else 1.0
            for start, end in encoded["offset_mapping"]
        ]
        ids = [*prompt, *encoded["input_ids"], self._tokenizer.eos_token_id]
        return ids, [0.0] * len(prompt) + weights + [1.0]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def _ask(processor: Any, text: str) -> str:
    content = [{"type": "image"}, {"type": "text", "text": text}]
    return str(processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True))


def train_language(
    writer: Writer,
    model: Any,
    pool: Pool,
    held_out: Pool,
    num_steps: int,
    rate: float,
    export: Callable[[], None],
    export_every_s: float,
) -> None:
    """Train projector and language model in place, the vision tower frozen, with an export now and then."""
    model.model.vision_tower.requires_grad_(False)
    projector = model.model.multi_modal_projector
    calm_projector(model, writer.view(pool, torch.arange(BATCH)))
    optimizers = Optimizers(
        model.model.language_model, projector, matrix_rate=rate, other_rate=1e-3, num_steps=num_steps
    )
    started = exported = time.monotonic()
    losses = []
    for step in range(num_steps):
        loss = writer.loss(pool, torch.randint(0, len(pool), (BATCH,)))
        torch.autograd.backward([loss])
        optimizers.step(step)
        losses.append(float(loss.detach()))
        if (step + 1) % 100 == 0:
            mean = sum(losses) / len(losses)
            log.info("language %d/%d %.0f s loss %.3f", step + 1, num_steps, time.monotonic() - started, mean)
            losses.clear()
        if time.monotonic() - exported > export_every_s or step + 1 == num_steps:
            log.info("language says %s", accuracies(writer, held_out, 256))
            export()
            exported = time.monotonic()


@torch.no_grad()
def calm_projector(model: Any, pixels: torch.Tensor) -> None:
    """Scale the projector such that picture tokens are as long as other tokens grow to be.

    The vision tower's tokens are long; passed on like that, what the language model's blocks add would not count.
    """
    projector = model.model.multi_modal_projector
    tokens = model.model.vision_tower(pixels).last_hidden_state
    spread = projector.linear_1(tokens).std()
    projector.linear_1.weight /= spread
    projector.linear_1.bias /= spread
    length = projector(tokens).norm(dim=-1).mean()
    projector.linear_2.weight *= _TOKEN_LENGTH / length
    projector.linear_2.bias *= _TOKEN_LENGTH / length


def accuracies(writer: Writer, pool: Pool, count: int) -> str:
    """Shares of true claims, by kind, in captions of the pool's first scenes."""
    picks = torch.tensor([number for number, scene in enumerate(pool.scenes) if scene is not None][:count])
    captions = [caption for part in torch.split(picks, 128) for caption in writer.write(pool, part)]
    scenes = [pool.scenes[int(pick)] for pick in picks]
    accuracy = score_captions((caption, scene) for caption, scene in zip(captions, scenes, strict=True) if scene)
    shares = [f"{kind} {tally.share or 0:.3f}" for kind, tally in accuracy.kinds.items()]
    return f"{' '.join(shares)} all {accuracy.over_all.share or 0:.3f} floor {accuracy.floor.share or 0:.3f}"
