"""Several processes that train one captioner, started by `accelerate launch` or `torchrun`.

The first of them is `sgv` as always: it holds the run folder, prepares, writes everything. The others wait until it
says that the training starts, take part in that, and end. Nothing here does anything for a process that is alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

_LONGEST_PREPARATION = timedelta(days=2)
_said = {"started": False}


def num_processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process among them."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this process prepares and writes."""
    return rank() == 0


@contextmanager
def leading() -> Iterator[None]:
    """Around the first process's work: on leaving, the others are told that there is nothing (more) to do."""
    _said["started"] = False
    yield
    if not _said["started"]:
        _tell(start=False)


def start_training() -> None:
    """Called by the first process: the others may begin."""
    _said["started"] = True
    _tell(start=True)


def wait_for_start() -> bool:
    """Called by the others: waits for the first process; False if there is nothing to train."""
    return _tell(start=False)


def agree(said: bool) -> bool:
    """What the first process says, in all of them."""
    return _tell(said)


def _tell(start: bool) -> bool:
    """The first process's `start`, in every process."""
    if num_processes() == 1:
        return start
    import torch

    if not torch.distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group(backend, timeout=_LONGEST_PREPARATION)
    said = [start]
    torch.distributed.broadcast_object_list(said, src=0, device=torch.device("cpu"))
    return said[0]
