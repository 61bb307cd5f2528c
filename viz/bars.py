"""Horizontal bars with their values: a few numbers that every moved control draws again.

``ui/components/bars`` draws them, not Plotly, which needs 20 ms for each such figure and its whole script on the first
page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from attention.memory.allocation import Step
from attention.memory.counterfactuals import Variant
from attention.memory.waterfall import Step as Idea
from attention.serving.plan import MemoryBar
from attention.timing.sharings import SharingTime
from attention.timing.views import faster, faster_text
from attention.units import binary_bytes, duration, ratio
from viz.spectrum import Quality
from viz.theme import ACCENT, ACCENT_MID, QUIET, SHARING_COLORS

ADDED, SAVED, TOO_MUCH = "#E69F00", "#009E73", "#D55E00"


class Bar(NamedTuple):
    """One bar, in the unit of its figure.

    Attributes:
        label: text left of the bar. text: text right of the bar.
        end, start: the values at which the bar ends and begins; a bar that adds to another begins at its end.
        color: "#rrggbb".
        spread: half the length of a whisker around `end`, 0 for none.
        own: the figure is about this bar; its texts are bold.
        pale: the bar is only there for comparison.
    """

    label: str
    text: str
    end: float
    color: str
    start: float = 0.0
    spread: float = 0.0
    own: bool = False
    pale: bool = False


def _sharing_color(label: str) -> str:
    return SHARING_COLORS.get(label.partition("-")[0], ACCENT_MID)


def ends(rows: Sequence[Variant], shown: Variant | None = None) -> tuple[Bar, ...]:
    """Cache bytes of MHA, the model and MQA; the row `shown` is bold, by default the model's."""

    def bold(row: Variant) -> bool:
        return row.is_model if shown is None else row == shown

    return tuple(
        Bar(row.label, binary_bytes(row.state_bytes), row.state_bytes, _sharing_color(row.label), own=bold(row))
        for row in rows
    )


def times(rows: Sequence[SharingTime]) -> tuple[Bar, ...]:
    """Seconds per decode step, with half the interquartile range to either side.

    A time that is not known yet is "…"; a time that is not steady is pale and not compared.
    """
    bars = []
    first = rows[0].result if rows else None
    for row in rows:
        bar = Bar(row.label, "…", 0.0, _sharing_color(row.label), own=row.is_model)
        found = row.result
        if found is not None and found.median_s is not None:
            compared = faster(first, found) if first is not None and found is not first else None
            parts = (duration(found.median_s), faster_text(compared, "as fast"))
            bar = bar._replace(
                end=found.median_s,
                text=" · ".join(part for part in parts if part),
                spread=(found.iqr_s or 0.0) / 2,
                pale=bool(found.unsteady),
            )
        bars.append(bar)
    return tuple(bars)


def variants(rows: Sequence[Variant]) -> tuple[Bar, ...]:
    """Cache bytes of the same model with other numbers of K/V heads; empty if the model keeps no cache."""
    own = next((row.state_bytes for row in rows if row.is_model), 0)

    def beside(row: Variant) -> str:
        size = binary_bytes(row.state_bytes)
        return f"{size}, this model" if row.is_model or not own else f"{size} · {ratio(row.state_bytes / own)}"

    return tuple(
        Bar(row.label, beside(row), row.state_bytes, _sharing_color(row.label), own=row.is_model, pale=not row.is_model)
        for row in rows
        if any(other.state_bytes for other in rows)
    )


def allocation(steps: Sequence[Step]) -> tuple[Bar, ...]:
    """The states' bytes, the bytes that each step adds or saves, and the bytes that an engine sets aside."""
    if not steps:
        return ()
    first, *others = steps
    bars = [Bar(first.name, binary_bytes(first.bytes_after), first.bytes_after, ACCENT)]
    for before, step in zip(steps, others, strict=False):
        added = step.bytes_after - before.bytes_after
        text = "+0" if not added else f"+{binary_bytes(added)}" if added > 0 else f"−{binary_bytes(-added)}"
        bars.append(Bar(step.name, text, step.bytes_after, SAVED if added < 0 else ADDED, start=before.bytes_after))
    total = steps[-1].bytes_after
    return (*bars, Bar("set aside", binary_bytes(total), total, ACCENT, own=True))


def waterfall(steps: Sequence[Idea]) -> tuple[Bar, ...]:
    """The cache as multi-head attention, what each idea takes away and leaves, and the model's cache."""
    if not steps:
        return ()
    first, *others = steps
    size = first.state_bytes
    bars = [Bar(first.name, binary_bytes(size), size, SHARING_COLORS["MHA"])]
    for before, step in zip(steps, others, strict=False):
        left, was = step.state_bytes, before.state_bytes
        text = f"{binary_bytes(left)} left, {ratio(was / left)} smaller" if left <= was else f"{binary_bytes(left)}"
        bars.append(Bar(step.name, text, left, SAVED if left <= was else ADDED, start=was))
    size = steps[-1].state_bytes
    return (*bars, Bar("this model", binary_bytes(size), size, ACCENT, own=True))


def cuts(rows: Sequence[tuple[str, int, int]], own: str) -> tuple[Bar, ...]:
    """Query heads that would share the one K/V head of MQA; the text also says how many share one now.

    Args:
        rows: (model, query heads, K/V heads; 0 for a latent vector).
        own: the model whose bar is bold.
    """
    return tuple(
        Bar(
            label,
            f"{n_heads} to 1" + ("" if n_kv_heads == n_heads else f", as it is {_shares(n_heads, n_kv_heads)}"),
            n_heads,
            SHARING_COLORS["MQA"],
            own=label == own,
        )
        for label, n_heads, n_kv_heads in rows
    )


def _shares(n_heads: int, n_kv_heads: int) -> str:
    return f"{n_heads // n_kv_heads} to 1" if n_kv_heads else "MLA"


def published(rows: Sequence[Quality], own: str) -> tuple[Bar, ...]:
    """Seconds per sample of the GQA paper's models, with their average score; the model `own` is bold."""
    return tuple(
        Bar(
            row.model,
            f"{row.seconds} s · {row.average}",
            row.seconds,
            _sharing_color(row.model),
            own=row.model == own,
        )
        for row in rows
    )


def memory(parts: MemoryBar) -> tuple[Bar, ...]:
    """The parts of one accelerator's memory one after another, and what is free or what is too much."""
    limit = parts.memory - parts.unused
    named = [
        ("weights", parts.weights, "#0072B2"),
        ("cache", parts.states, "#E69F00"),
        ("reserve", parts.reserve, "#7B6BB5"),
    ]
    bars, at = [], 0
    for name, size, color in named:
        if size:
            bars.append(Bar(name, binary_bytes(size), at + size, color, start=at))
            at += size
    if parts.over:
        bars.append(Bar("too much", binary_bytes(parts.over), at, TOO_MUCH, start=limit, own=True))
        bars.append(Bar("usable", binary_bytes(limit), limit, QUIET, pale=True))
        return tuple(bars)
    if parts.free:
        bars.append(Bar("free", binary_bytes(parts.free), limit, QUIET, start=at, own=True))
    if parts.unused:
        bars.append(Bar("not to be used", binary_bytes(parts.unused), parts.memory, QUIET, start=limit, pale=True))
    return tuple(bars)
