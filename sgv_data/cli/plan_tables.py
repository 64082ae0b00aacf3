"""How a plan is shown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from sgv_data.plan.figures import Money, Plan, SourcePlan

_LANES = ("live", "batch")


def show_plan(plan: Plan, output: Console) -> None:
    """Prints a plan: sources, facts, variants, warnings."""
    output.print(_sources(plan))
    output.print(_facts(plan))
    if plan.what_ifs:
        output.print(_what_ifs(plan))
    for warning in plan.warnings:
        output.print(f"! {warning}", markup=False, highlight=False)


def _sources(plan: Plan) -> Table:
    title = f"{plan.name}: {plan.model}, detail {plan.detail}, pictures sent at {_size(plan.max_side_px)}"
    table = Table(title=title, title_justify="left")
    table.add_column("source", overflow="fold")
    bound = "" if plan.model_known else " at most"
    for column in ("found", "left out", "asked", f"image tokens{bound}", "prompt tokens", "output tokens"):
        table.add_column(column, justify="right")
    for lane in _LANES:
        table.add_column(f"{lane}", justify="right")
    table.add_column("at most", justify="right")
    rows = [*plan.sources, plan.total] if len(plan.sources) > 1 else [plan.total]
    for each in rows:
        if each is plan.total:
            table.add_section()
        table.add_row(*_row(plan, each))
    return table


def _row(plan: Plan, each: SourcePlan) -> Iterator[str]:
    yield each.name
    numbers = (
        each.num_found, sum(each.left_out.values()), each.num_asked, each.image_tokens, each.prompt_tokens,
        each.output_tokens,
    )  # fmt: skip
    yield from (f"{number:,}" for number in numbers)
    yield from (_usd(each.money.get(lane)) for lane in _LANES)
    most = each.money.get(plan.lane)
    yield f"${most.most_usd:,.2f}" if most else "?"


def _facts(plan: Plan) -> Table:
    table = Table(show_header=False, box=None)
    table.add_column("what", no_wrap=True)
    table.add_column("how much", overflow="fold")
    for name, value in _lines(plan):
        table.add_row(name, value)
    return table


def _lines(plan: Plan) -> Iterator[tuple[str, str]]:
    total = plan.total
    yield "pictures read from", {"index": "the finished index", "sample": "a sample of headers"}.get(
        plan.read_from, "headers; duplicates are found by index only and still count"
    )
    if total.left_out:
        yield "left out", ", ".join(f"{number:,} {reason}" for reason, number in total.left_out.items())
    if total.num_asked:
        yield "per picture", (
            f"{total.image_tokens / total.num_asked:,.0f} image, {total.prompt_tokens / total.num_asked:,.0f} prompt, "
            f"{total.output_tokens / total.num_asked:,.0f} output tokens"
        )
    yield "prices", _prices(plan)
    if "flex" in total.money:
        yield "flex lane", _usd(total.money["flex"])
    yield "time, live", _time(plan)
    rounds = f"{plan.batches.rounds:,} rounds of up to a day" if plan.batches.rounds > 1 else "up to a day"
    yield "time, batch", f"{rounds}; {_files(plan.batches.num_files)}, {_bytes(total.upload_bytes)} to upload"
    disk = plan.disk
    yield "disk", (
        f"replies {_bytes(disk.replies_bytes)}, tables {_bytes(disk.tables_bytes)}, shards {_bytes(disk.shards_bytes)}"
    )
    yield "calibration", _calibration(plan)


def _prices(plan: Plan) -> str:
    if plan.prices_dated is None:
        return "not known"
    return f"of {plan.prices_dated}" if plan.prices_dated else "the manifest's own"


def _time(plan: Plan) -> str:
    live = plan.live
    others = ", ".join(f"{name} alone {_duration(seconds)}" for name, seconds in live.by_limit.items())
    latency = f"{'answers took' if live.latency_is_billed else 'if answers take'} {live.latency_s:.1f} s"
    return f"{_duration(live.seconds)}; {live.binding} bind ({others}; {latency})"


def _calibration(plan: Plan) -> str:
    bills = plan.calibration
    if bills is None:
        return "none yet: output tokens are a guess from the prompts; the first replies will correct it"
    return (
        f"{bills.num_replies:,} replies: prompt tokens predicted {bills.predicted_prompt_tokens:,}, billed "
        f"{bills.billed_prompt_tokens:,} (x {bills.prompt_factor:.3f}); output predicted "
        f"{bills.predicted_output_tokens:,}, billed {bills.billed_output_tokens:,} (x {bills.output_factor:.3f})"
    )


def _what_ifs(plan: Plan) -> Table:
    table = Table(title="What if", title_justify="left")
    table.add_column("in place of the manifest's")
    for column in ("image tokens each", *_LANES):
        table.add_column(column, justify="right")
    for each in plan.what_ifs:
        tokens = "?" if each.image_tokens_each is None else f"{each.image_tokens_each:,.0f}"
        table.add_row(each.label, tokens, *(_usd(each.money.get(lane)) for lane in _LANES))
    return table


def _size(max_side_px: int | str) -> str:
    return "the model's own size" if max_side_px == "model" else f"up to {max_side_px} px"


def _usd(money: Money | None) -> str:
    return "?" if money is None else f"${money.expected_usd:,.2f}"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} s"


def _bytes(num_bytes: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:,.1f} {unit}"
    return f"{num_bytes / 1e3:,.0f} kB"


def _files(number: int) -> str:
    return "one file" if number == 1 else f"about {number:,} files"
