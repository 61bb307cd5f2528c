"""A published model with fewer K/V heads: held-out loss over the tokens of its training."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from viz import theme
from viz.lab import LEVELS, POOL_COLORS, Level, add_levels, label_ends, loss_axis
from viz.labels import EndLabel

HEIGHT = 400


def plot_tokens(
    curves: Sequence[tuple[str, bool, Sequence[int], Sequence[float]]], original: float, title: str = ""
) -> go.Figure:
    """Loss in nats per token, on a logarithmic axis, over millions of tokens.

    Args:
        curves: (how heads were merged, whether distilled, tokens, losses).
        original: loss of the model before the conversion.
    """
    if not curves:
        return theme.empty(title or "Loss against tokens", "No run is recorded.", height=HEIGHT)
    fig = go.Figure()
    end = max(tokens[-1] for _, _, tokens, _ in curves) / 1e6
    add_levels(fig, [Level("original", original, LEVELS["MHA"])], end, "token")
    named = [EndLabel(end, original, f"original {original:.2f}", LEVELS["MHA"], "dash")]
    for pool, distilled, tokens, losses in curves:
        name, dash = (f"{pool}, distilled", "dot") if distilled else (pool, "solid")
        fig.add_scatter(
            x=[n / 1e6 for n in tokens],
            y=list(losses),
            mode="lines+markers",
            name=name,
            line={"color": POOL_COLORS[pool], "width": 2.5, "dash": dash},
            marker={"size": 6},
            cliponaxis=False,
            hovertemplate=f"{name}<br>%{{x:.2f}} M tokens: %{{y:.3f}} nats/token<extra></extra>",
        )
        named.append(EndLabel(end, losses[-1], f"{name} {losses[-1]:.2f}", POOL_COLORS[pool], dash))
    values = [original, *(y for _, _, _, losses in curves for y in losses)]
    ends = loss_axis(fig, min(values), max(values), "token")
    fig.update_xaxes(title_text="Tokens of uptraining, millions", range=[-0.02 * end, end])
    label_ends(fig, named, ends, HEIGHT)
    return theme.apply(fig, title=title)
