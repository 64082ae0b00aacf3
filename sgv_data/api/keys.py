"""The cache key: the request as it leaves, with the picture's bytes replaced by their hash.

    key = sha256( head  "data:<media type>;sha256,<sha256 of the bytes sent>"  tail )

`head` and `tail` are the canonical JSON of the body (sorted keys, no spaces; model, messages, `detail`, token limit,
temperature, seed: all that is sent) before and after the picture's URL. Whatever changes what the model is asked
changes the key; time-outs, limits, retries, budget, address, file names and places do not. How a picture was resized
is not in the key by itself: it shows in the bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash


@dataclass(frozen=True, slots=True)
class SentImage:
    """The picture as the model sees it, without its bytes."""

    sha256: str
    media_type: str
    width_px: int
    height_px: int
    num_bytes: int


def request_key(head: bytes, tail: bytes, image: SentImage) -> str:
    """The key of one request, as 64 hex digits."""
    whole = _begun(head).copy()
    whole.update(f'"data:{image.media_type};sha256,{image.sha256}"'.encode())
    whole.update(tail)
    return whole.hexdigest()


@lru_cache(maxsize=64)
def _begun(head: bytes) -> _Hash:
    """The hash of what all requests with one prompt begin with: a million keys are made from a handful of heads."""
    return hashlib.sha256(head)
