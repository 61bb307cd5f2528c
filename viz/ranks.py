"""Accelerators as boxes with the K/V heads that each holds, as HTML, so that the browser wraps the boxes."""

from __future__ import annotations

import html
from itertools import groupby

from attention.serving.ranks import Rank, Ranks
from viz.theme import kv_colors

MOST_SQUARES = 4096
_BOX = (
    "border:1px solid rgba(128,138,148,.55);border-radius:8px;padding:.45rem .55rem;min-width:5.4rem;max-width:17rem;"
    "flex:0 1 auto"
)
_SQUARE = "display:inline-block;width:17px;height:17px;border-radius:3px;margin:1px"
_COPY = "background:repeating-linear-gradient(45deg,{0} 0 3px,transparent 3px 6px);box-shadow:inset 0 0 0 1.5px {0}"


def boxes(found: Ranks, n_kv_heads: int, dcp: int, latent: bool = False) -> str:
    """HTML: a box for each accelerator, a square for each K/V head in its colour, hatched if it is a copy.

    Args:
        n_kv_heads: number of K/V heads of the layer.
        dcp: ranks of decode context parallelism; above 1 a box also names its tokens.
        latent: the layer keeps one latent vector.

    Raises:
        ValueError: there are more than MOST_SQUARES squares to draw.
    """
    squares = sum(len(rank.heads) for rank in found.ranks)
    if squares > MOST_SQUARES:
        raise ValueError(f"{squares:,} K/V heads on all ranks are too many to draw; at most {MOST_SQUARES:,} are")
    colors = kv_colors(max(1, n_kv_heads))
    groups = [list(members) for _, members in groupby(found.ranks, lambda rank: rank.group)]
    rows = []
    for number, members in enumerate(groups):
        shown = "".join(_box(rank, colors, dcp, latent) for rank in members)
        name = f'<div style="font-size:.8rem;margin:.3rem 0">Requests of group {number}</div>' * (len(groups) > 1)
        rows.append(f'{name}<div style="display:flex;flex-wrap:wrap;gap:.5rem">{shown}</div>')
    return f'<div role="img" aria-label="{html.escape(found.says)}">{"".join(rows)}</div>'


def _box(rank: Rank, colors: list[str], dcp: int, latent: bool) -> str:
    first, last = rank.heads[0], rank.heads[-1]
    heads = "latent" if latent else f"head {first}" if first == last else f"heads {first}–{last}"
    if dcp > 1:
        heads += f", tokens {rank.share}, {rank.share + dcp}, …"
    marks = "".join(_square(colors[head % len(colors)], rank.copied) for head in rank.heads)
    copy = " (copy)" if rank.copied else ""
    title = f"GPU {rank.number}"
    return (
        f'<div style="{_BOX}"><div style="font-weight:600;font-size:.85rem">{title}</div><div>{marks}</div>'
        f'<div style="font-size:.8rem">{heads}{copy}</div></div>'
    )


def _square(color: str, copied: bool) -> str:
    return f'<span style="{_SQUARE};{_COPY.format(color) if copied else f"background:{color}"}"></span>'
