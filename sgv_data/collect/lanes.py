"""Which lane asks about what: live or batch, phase after phase, within one event loop."""

from __future__ import annotations

import asyncio

from sgv_data.collect.batch import ask_in_batches, check_none_waiting, has_batches, take_batches, without_waiting
from sgv_data.collect.live import Desk, ask_live
from sgv_data.collect.phases import Parts, Phase
from sgv_data.collect.watch import Watch


async def ask_all(desk: Desk, phases: list[Phase], num_pictures: int) -> int:
    """Asks about all that is pending; returns how many pictures ended.

    Raises:
        SgvError: the run stops; everything answered is stored.
    """
    num_ended = 0
    for phase in phases:
        ask = _in_batches if phase.manifest.teacher.lane == "batch" else _live
        num_ended += await ask(desk, phase, num_pictures)
    check_none_waiting(desk.cache)
    return num_ended


async def _live(desk: Desk, phase: Phase, num_pictures: int) -> int:
    """Takes first what batches of earlier commands have brought, and leaves alone what still waits in one."""
    teacher, num_ended = phase.manifest.teacher, 0
    in_batches = has_batches(desk.cache)
    if in_batches:
        num_ended = await take_batches(
            phase.manifest, teacher.base_url, desk.cache, desk.session, desk.progress, desk.watch, desk.budget
        )
    pending = await _pending(phase)
    if pending is None:
        return num_ended
    if in_batches:
        pending = without_waiting(pending, phase.questions, desk.cache, teacher, desk.session)
    if phase.is_round:
        pending = _told(pending, desk.watch)
    return num_ended + await ask_live(desk, phase, pending, num_pictures)


async def _in_batches(desk: Desk, phase: Phase, num_pictures: int) -> int:
    """What batches bring back unfinished is pending again, and goes out once more: in a batch, or live if so wished."""
    teacher, num_ended, is_first = phase.manifest.teacher, 0, True
    while (pending := await _pending(phase)) is not None:
        if not is_first and teacher.batch.leftovers == "live":
            return num_ended + await ask_live(desk, phase, pending, num_pictures)
        if phase.is_round and is_first:
            pending = _told(pending, desk.watch)
        num_ended += await ask_in_batches(
            phase.manifest, teacher.base_url, phase.questions, desk.cache, desk.session, num_pictures, pending,
            desk.progress, desk.watch, desk.budget,
        )  # fmt: skip
        is_first = False
    return num_ended


def _told(parts: Parts, watch: Watch) -> Parts:
    """Tells the watch of pictures that a round asks about: they are counted once more."""
    for part in parts:
        watch.asked_again(len(part))
        yield part


async def _pending(phase: Phase) -> Parts | None:
    """Looks for what is pending beside the event loop: it may take a while."""
    return await asyncio.to_thread(phase.take)
