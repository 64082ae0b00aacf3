"""From a trained model to the folder that `expand` loads: adapters are merged, and the merged model is checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sgv_data.captioner.collate import collate
from sgv_data.captioner.lora import merge_adapters
from sgv_data.captioner.render import IGNORED, Inputs
from sgv_data.errors import TrainingError

COMPARED_SAMPLES = 4


def merge_and_compare(model: Any, samples: Sequence[Inputs], pad_id: int, most: float) -> float:
    """Merges in place; the largest difference in log probability that this made to any answer token of `samples`.

    Raises:
        TrainingError: if it is larger than `most`.
    """
    model.eval()
    before = [_log_probabilities(model, sample, pad_id) for sample in samples]
    merge_adapters(model)
    after = [_log_probabilities(model, sample, pad_id) for sample in samples]
    furthest = max((float((a - b).abs().max()) for a, b in zip(before, after, strict=True) if len(a)), default=0.0)
    if not furthest <= most:
        raise TrainingError(
            f"merging the adapters changed the log probability of a token by {furthest:.3g}, more than "
            f"captioner.lora_max_difference ({most:g}) allows"
        )
    return furthest


@torch.inference_mode()
def _log_probabilities(model: Any, sample: Inputs, pad_id: int) -> torch.Tensor:
    """Those of the answers' tokens, given what is before them: (answer tokens,)."""
    place = next(model.parameters())
    batch = collate([sample], side="right", pad_id=pad_id)
    batch = {name: value.to(place.device, place.dtype if value.is_floating_point() else None)
             for name, value in batch.items()}  # fmt: skip
    labels_T = batch.pop("labels")[0, 1:]
    logits_TV = model(**batch).logits[0, :-1].float()
    told_T = labels_T != IGNORED
    chosen_T: torch.Tensor = logits_TV[told_T].log_softmax(-1).gather(1, labels_T[told_T][:, None])[:, 0]
    return chosen_T.cpu()
