"""Multi-head latent attention (arXiv:2405.04434, section 2.1) in four steps: squeeze a token into a latent vector, keep
it, unfold it into heads, or fold the unfolding into the query."""

from __future__ import annotations

from pathlib import Path

from attention.spec import Kind, ModelSpec
from ui.components.component import component

GQA_8 = 8 * (128 + 128)
"""Numbers per token and layer with eight K/V heads of size 128, the usual grouped-query attention."""
_component = component(Path(__file__).parent, plays=True)


def latent(spec: ModelSpec, label: str, *, key: str) -> None:
    """Draw the first latent layer of a model.

    Args:
        spec: a model with a latent layer.
        label: the model's name, as people know it.
    """
    layer = next(layer for layer in spec.layers if layer.kind is Kind.LATENT)
    state = layer.key_value
    assert state is not None
    _component(
        key=key,
        data={
            "title": f"A token in a latent layer of {label}",
            "start": 1,
            "hidden": spec.hidden_size or 0,
            "rank": state.k_head_dim,
            "turned": state.v_head_dim,
            "nHeads": layer.n_heads,
            "key": layer.k_head_dim,
            "value": layer.v_head_dim,
            "gqa": GQA_8,
        },
    )
