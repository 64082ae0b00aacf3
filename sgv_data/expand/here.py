"""One engine in this process, working through units that it claims."""

from __future__ import annotations

from sgv_data.expand.claims import Claims
from sgv_data.expand.decoding import DecodingPool
from sgv_data.expand.describe import Describer
from sgv_data.expand.engines import opened_engine
from sgv_data.expand.gauge import Gauge
from sgv_data.expand.ladder import Ladder
from sgv_data.expand.setup import Work
from sgv_data.expand.work import Bench, work_through
from sgv_data.manifest import Expand
from sgv_data.progress import Progress

Notes = dict[str, float | int | str | None]

_BATCHES_DECODED_AHEAD = 4


def num_decoded_ahead(expand: Expand) -> int:
    """How many pictures lie decoded before the engine."""
    return _BATCHES_DECODED_AHEAD * expand.batch_size


def describe_here(work: Work, progress: Progress, num_left: int, until_finished: bool = True) -> Notes:
    """Describes units until all are there, or, without `until_finished`, until none is left to claim.

    The processes that decode start before the model is loaded.
    """
    expand, store = work.manifest.expand, work.store()
    with (
        DecodingPool(work.opener(), expand.workers, num_decoded_ahead(expand)) as pool,
        opened_engine(work) as engine,
        Claims(store.folder) as claims,
    ):
        gauge = Gauge(progress, num_left, expand.workers)
        describer = Describer(engine, pool, work.writer, Ladder(expand), work.setting, gauge)
        work_through(Bench(store, claims, describer, work.writer, work.setting), work.units, until_finished)
        return gauge.notes(engine.load)
