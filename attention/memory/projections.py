"""The weight matrices of one attention layer, and the parameters that shared K/V heads save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from attention.spec import Kind, Layer, check_divides, check_size


class Projection(NamedTuple):
    """One weight matrix of `rows` outputs and `columns` inputs.

    Attributes:
        reads: the heads that use it, "query heads" or "K/V heads".
    """

    name: str
    rows: int
    columns: int
    reads: str

    @property
    def n_parameters(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True, slots=True)
class Projections:
    """The four projections of a layer, without biases.

    Attributes:
        hidden_size: elements of a token's hidden state.
        assumed: whether hidden_size is not published and n_heads * head_dim stands in for it.
        matrices: W_Q, W_K, W_V, W_O; W_K and W_V are missing where the layer reads an earlier layer's cache.
        mha_parameters: parameters that the layer would have with one K/V head per query head.
    """

    hidden_size: int
    assumed: bool
    matrices: tuple[Projection, ...]
    mha_parameters: int

    @property
    def n_parameters(self) -> int:
        return sum(m.n_parameters for m in self.matrices)

    @property
    def saved(self) -> int:
        """Parameters that MHA would have in addition."""
        return self.mha_parameters - self.n_parameters


def projections(layer: Layer, hidden_size: int | None, n_kv_heads: int | None = None) -> Projections | None:
    """The projections of `layer`, with `n_kv_heads` in place of its own if given.

    Shapes are those of Vaswani et al. 2017 (arXiv:1706.03762, section 3.2.2) with K and V for n_kv_heads heads (Ainslie
    et al. 2023, arXiv:2305.13245).

    Returns:
        The projections; None for a layer with other projections: latent without `n_kv_heads` (its down- and
        up-projections are not part of a :class:`~attention.spec.Layer`), recurrent, or without attention.

    Raises:
        ValueError: a size out of range, or n_kv_heads does not divide the layer's query heads.
    """
    if not layer.n_heads or (layer.kind is Kind.LATENT and n_kv_heads is None):
        return None
    if layer.kind not in (Kind.FULL, Kind.SLIDING, Kind.CHUNKED, Kind.SHARED, Kind.LATENT):
        return None
    q_dim, v_dim = layer.k_head_dim, layer.v_head_dim
    n_kv_heads = layer.n_kv_heads if n_kv_heads is None else n_kv_heads
    hidden = check_size("hidden_size", hidden_size or layer.n_heads * q_dim)
    q = Projection("W_Q", layer.n_heads * q_dim, hidden, "query heads")
    o = Projection("W_O", hidden, layer.n_heads * v_dim, "query heads")
    mha = q.n_parameters + o.n_parameters + layer.n_heads * (q_dim + v_dim) * hidden
    if layer.kind is Kind.SHARED:
        return Projections(hidden, hidden_size is None, (q, o), mha)
    check_size("n_kv_heads", n_kv_heads)
    check_divides(layer.n_heads, n_kv_heads)
    k = Projection("W_K", n_kv_heads * q_dim, hidden, "K/V heads")
    v = Projection("W_V", n_kv_heads * v_dim, hidden, "K/V heads")
    return Projections(hidden, hidden_size is None, (q, k, v, o), mha)
