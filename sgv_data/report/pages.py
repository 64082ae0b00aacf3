"""The page: everything on it is inside it. Captions and all other text are escaped by the template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from sgv_data.errors import redact
from sgv_data.manifest import Manifest
from sgv_data.prompts import Prompt, load_prompt
from sgv_data.records import StageReport
from sgv_data.report.accuracy import AccuracyRow
from sgv_data.report.charts import length_chart, loss_chart, speed_chart
from sgv_data.report.collecting import Asking
from sgv_data.report.contact import Card
from sgv_data.report.states import NOT_ASKED_FOR, Balance, State
from sgv_data.report.summary import Summary
from sgv_data.report.tally import Tally

_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
_WAITING_FOR = {
    "collect": "waits for the teacher", "filter-teacher": "waits for the filter", "expand": "waits for the captioner",
    "filter-student": "waits for the filter", "shard": "waits for the shards", "publish": "waits for publishing",
    NOT_ASKED_FOR: "no caption asked for",
}  # fmt: skip
_STATE_NAMES = {
    State.PUBLISHED: "published", State.DUPLICATE: "duplicate of another", State.REJECTED: "rejected",
    State.FAILED: "failed", State.PENDING: "pending",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of the funnel. `part` is its share of all inputs, 0 to 1."""

    label: str
    count: int
    part: float
    state: str


@dataclass(frozen=True, slots=True)
class StageLine:
    """A row of the table of stages; None where the stage has not run."""

    name: str
    report: StageReport | None
    rejected: int
    failed: int


@dataclass(frozen=True, slots=True)
class KindLine:
    """One kind of statement over all sets of captions, in the order of the summary; None: a set has none of it."""

    kind: str
    cells: tuple[AccuracyRow | None, ...]


@dataclass(frozen=True, slots=True)
class UsedPrompt:
    """A prompt with the number of captions asked for with it, by whom they were written."""

    prompt: Prompt
    uses: str


def render(
    manifest: Manifest, summary: Summary, asking: Asking | None, balance: Balance, tally: Tally, cards: list[Card]
) -> str:
    """The whole page as HTML, without secrets."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    bars = _bars(balance)
    charts = {
        "lengths": length_chart(tally.num_words),
        "loss": loss_chart(summary.steps),
        "speed": speed_chart(asking.speed) if asking else None,
    }
    html = environment.get_template("index.html.jinja").render(
        summary=summary,
        asking=asking,
        dates=_dates(summary),
        headline=list(_headline(summary)),
        bars=bars,
        longest=max((bar.part for bar in bars), default=1.0),
        num_pictures=balance.states.total(),
        stages=[_stage_line(name, summary.reports.get(name)) for name in summary.active if name != "report"],
        sources=tally.sources,
        reasons=tally.reasons(),
        charts={name: Markup(chart) if chart else None for name, chart in charts.items()},
        kinds=_kinds(summary),
        cards=cards,
        prompts=_prompts(manifest, tally),
        settings=_settings(manifest),
        versions=_versions(summary),
    )
    return redact(html)


def _dates(summary: Summary) -> str:
    starts = sorted(record.started_utc for record in summary.records.values())
    ends = sorted(record.finished_utc for record in summary.records.values() if record.finished_utc)
    if not starts or not ends:
        return "nothing has run yet"
    first, last = starts[0][:16].replace("T", " "), ends[-1][:16].replace("T", " ")
    return f"{first} to {last[11:] if last[:10] == first[:10] else last} UTC"


def _headline(summary: Summary) -> list[tuple[str, str]]:
    """The few numbers at the top: label and value."""
    reports = summary.reports
    rows = []
    if "index" in reports:
        rows.append(("pictures in", f"{reports['index'].num_in:,}"))
    for stage, label in (("filter-teacher", "teacher captions kept"), ("filter-student", "captioner captions kept")):
        if stage in reports:
            rows.append((label, f"{reports[stage].num_out:,}"))
    if "shard" in reports:
        rows.append(("samples", f"{reports['shard'].num_out:,}"))
    if summary.accuracy and (share := summary.accuracy[-1].rows[-1].share) is not None:
        rows.append(("right statements on unseen pictures", f"{share:.0%}"))
    if summary.spending is not None and summary.spending.cost_usd is not None:
        rows.append(("teacher's cost", f"${summary.spending.cost_usd:,.2f}"))
    return rows


def _bars(balance: Balance) -> list[Bar]:
    """Final states, published first, each with its reasons; the counts add up to the number of inputs."""
    total = max(balance.states.total(), 1)
    order = list(_STATE_NAMES)
    keys = sorted(balance.states, key=lambda key: (order.index(key[0]), -balance.states[key], key[1]))
    return [
        Bar(_label(state, reason), balance.states[state, reason], balance.states[state, reason] / total, state)
        for state, reason in keys
        if balance.states[state, reason]
    ]


def _label(state: State, reason: str) -> str:
    if state is State.PENDING:
        return _WAITING_FOR.get(reason, f"waits for {reason}")
    if state is State.PUBLISHED:
        return f"published with the {'captioner' if reason == 'student' else reason}'s caption"
    name = _STATE_NAMES[state]
    return f"{name}: {reason.replace('_', ' ')}" if reason else name


def _stage_line(name: str, report: StageReport | None) -> StageLine:
    if report is None:
        return StageLine(name, None, 0, 0)
    return StageLine(name, report, sum(report.rejected.values()), sum(report.failed.values()))


def _kinds(summary: Summary) -> list[KindLine]:
    sets = [{row.kind: row for row in table.rows} for table in summary.accuracy]
    names = sorted({name for rows in sets for name in rows}, key=lambda name: (name == "all", name))
    return [KindLine(name, tuple(rows.get(name) for rows in sets)) for name in names]


def _prompts(manifest: Manifest, tally: Tally) -> list[UsedPrompt]:
    names = {name for source in manifest.images for name in source.prompts}
    if manifest.captioner is not None:
        names.add(manifest.captioner.prompt)
    names |= {name for name, _ in tally.num_captions}  # retry rounds may have used others
    used = []
    for name in sorted(names):
        prompt = load_prompt(name, manifest.prompt_folders)
        counts = {who: count for (each, who), count in sorted(tally.num_captions.items()) if each == name}
        uses = [f"{count:,} captions by the {who}" for who, count in counts.items()]
        used.append(UsedPrompt(prompt, ", ".join(uses) or "not used yet"))
    return used


def _settings(manifest: Manifest) -> str:
    text = yaml.safe_dump(manifest.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    return _CREDENTIALS.sub("***@", text)


def _versions(summary: Summary) -> list[tuple[str, str]]:
    """Library and versions; more than one where stages ran with different ones."""
    found: dict[str, set[str]] = {}
    for record in summary.records.values():
        found.setdefault("sgv_data", set()).add(record.code_version)
        for name, version in record.libraries.items():
            found.setdefault(name, set()).add(version)
    return [(name, ", ".join(sorted(versions))) for name, versions in found.items()]
