"""Loss over the bytes that a token adds to the cache, with a point for each pair of formats."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from attention.llm.format_costs import Costs
from viz import theme

_SYMBOLS = {"both": "circle", "keys": "triangle-up", "values": "triangle-down"}
_NAMES = {"both": "keys and values", "keys": "keys alone, values in bf16", "values": "values alone, keys in bf16"}


_PLACES = ("top center", "middle left", "middle right", "bottom center")


def _sides(points: Sequence[tuple[int, float]]) -> list[str]:
    """The position of each point's name: different from those of higher points with about the same bytes."""
    most = max(x for x, _ in points)
    higher = (sum(abs(x - a) < 0.06 * most and (b, a) > (y, x) for a, b in points) for x, y in points)
    return [_PLACES[n % len(_PLACES)] for n in higher]


def plot_costs(costs: Costs) -> go.Figure:
    """The loss of each pair of formats; a pair with one format for keys and values has its name in the figure."""
    if not costs.rows:
        return theme.empty("Loss by format of the cache")
    fig = go.Figure()
    for at, which in enumerate(_SYMBOLS):
        rows = [row for row in costs.rows if row.which == which]
        if not rows:
            continue
        named = which == "both"
        fig.add_scatter(
            x=[row.bytes_per_token for row in rows],
            y=[row.loss for row in rows],
            name=_NAMES[which],
            mode="markers+text" if named else "markers",
            text=[row.label for row in rows] if named else None,
            textposition=_sides([(row.bytes_per_token, row.loss) for row in rows]),
            marker={"size": 12 if named else 10, "symbol": _SYMBOLS[which], "color": theme.SERIES[at]},
            error_y={
                "type": "data", "array": [row.loss_more_error or 0 for row in rows], "thickness": 1, "width": 3,
                "visible": any(row.loss_more_error for row in rows),
            },
            customdata=[[row.label, row.loss_more, 100 * row.logit_error] for row in rows],
            hovertemplate="%{customdata[0]}<br>%{x:,} bytes a token, %{y:.3f} nats per token<br>%{customdata[1]:+.4f} "
            "beside a float32 cache, logits off by %{customdata[2]:.2f} %<extra></extra>",
        )  # fmt: skip
    fig.add_hline(
        y=costs.reference_loss,
        line={"dash": "dot", "width": 1},
        annotation_text="cache in float32",
        annotation_position="bottom right",
    )
    most = max(row.bytes_per_token for row in costs.rows)
    fig.update_xaxes(title_text="Bytes that a token adds to the cache", range=[0, 1.12 * most])
    fig.update_yaxes(title_text="Loss, nats per token")
    fig.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return theme.apply(fig, height=380)
