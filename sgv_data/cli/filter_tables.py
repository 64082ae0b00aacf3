"""How funnels and audits are shown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from sgv_data.filter.audit import AuditResult, Share
from sgv_data.filter.what_if import Example, WhatIf
from sgv_data.printable import printable
from sgv_data.records import CaptionReject

_SHOWN_CHARS = 300


def funnel_table(found: WhatIf) -> Table:
    """The two funnels side by side."""
    table = Table(title=f"{found.num_captions:,} captions, {found.num_changed:,} verdicts differ", title_justify="left")
    table.add_column("verdict", no_wrap=True)
    for name in ("now", "what if", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    for reason in (None, *CaptionReject):
        before, after = found.before[reason], found.after[reason]
        if before or after:
            change = f"{after - before:+,}" if after != before else ""
            table.add_row(reason or "kept", f"{before:,}", f"{after:,}", change)
    return table


def example_lines(found: WhatIf) -> Iterator[str]:
    """A few captions for each kind of change, those nearest the line first."""
    shown = None
    for example in found.examples:
        change = f"{example.before or 'kept'} -> {example.after or 'kept'}"
        if change != shown:
            yield f"\n{change}"
            shown = change
        yield _example_line(example)


def audit_lines(result: AuditResult) -> Iterator[str]:
    """What an audit proves, with 95 % intervals."""
    yield f"{result.num_answered} answered, {result.num_unsure} of them unsure and left out"
    yield f"precision of rejections: {_share(result.precision)}"
    yield f"recall of bad captions:  {_share(result.recall)}"
    yield f"good captions rejected:  {_share(result.good_rejected)}"


def _share(share: Share | None) -> str:
    if share is None:
        return "not known: needs answers about kept and about rejected captions"
    return f"{share.value:.1%} (95 % interval {share.low:.1%} to {share.high:.1%})"


def _example_line(example: Example) -> str:
    text = " ".join(printable(example.text).split())
    text = text if len(text) <= 2 * _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]} [...] {text[-_SHOWN_CHARS:]}"
    return f"  {example.image_id}  {example.score} {example.value:.3g}: {text}"
