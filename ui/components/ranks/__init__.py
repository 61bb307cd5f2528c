"""Accelerators side by side, from MHA to MQA: the K/V heads that each holds, and which of them are copies."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from attention import sharing
from attention.serving.ranks import Dealt
from attention.units import counted, significant
from ui.components.component import component
from viz.theme import kv_colors

_component = component(Path(__file__).parent, plays=True)


def ranks(found: tuple[Dealt, ...], n_heads: int, *, chosen: int, key: str) -> None:
    """Draw a picture with one step for each number of K/V heads.

    Args:
        found: K/V heads dealt to accelerators, from most K/V heads to fewest.
        chosen: number of K/V heads of the first step; if there is no such step, the next smaller number.
    """
    start = next((i for i, dealt in enumerate(found) if dealt.n_kv_heads <= chosen), len(found) - 1)
    _component(
        key=key,
        data={
            "title": f"{counted(len(found[0].ranks.ranks), 'accelerator')}, {counted(n_heads, 'query head')}",
            "start": start,
            "nHeads": n_heads,
            "steps": [_step(dealt, n_heads) for dealt in found],
        },
    )


def _step(dealt: Dealt, n_heads: int) -> dict[str, Any]:
    n, tp = dealt.n_kv_heads, len(dealt.ranks.ranks)
    name = sharing.name(n_heads, n)
    if dealt.ranks.copies == 1:
        says = f"{name}: {counted(tp, 'accelerator')} deal out {counted(n, 'K/V head')}, {dealt.kept} each."
    else:
        says = (
            f"{name}: {counted(n, 'K/V head')} for {counted(tp, 'accelerator')}, so {'it' if n == 1 else 'each'} is "
            f"copied: {dealt.ranks.copies} copies of every entry. Each accelerator still keeps a whole head, as with "
            f"{sharing.name(n_heads, tp)}."
        )
    colors = kv_colors(n)
    return {
        "name": name,
        "says": says,
        "boxes": [[colors[head] for head in rank.heads] for rank in dealt.ranks.ranks],
        "copied": [rank.copied for rank in dealt.ranks.ranks],
        "kept": dealt.kept / n_heads,
        "needed": float(dealt.needed / n_heads),
        "keptText": _percent(Fraction(dealt.kept, n_heads)),
        "neededText": _percent(dealt.needed / n_heads),
    }


def _percent(part: Fraction) -> str:
    return f"{significant(float(100 * part), 2)} %"
