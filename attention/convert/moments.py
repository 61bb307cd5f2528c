"""The moments by which a merge weighs K/V heads: one layer's projections, what a text shows of them, and their roots.

Source: rotary pairs as complex numbers, Su et al. 2021 (arXiv:2104.09864, section 3.2.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from attention.spec import check_size

Style = Literal["half", "interleaved"]

PRIOR = 1e-4
"""Share of the moments that comes from the weights, as if the inputs were white noise. It ranks the directions that a
short text never shows."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """Which dimensions of a head rotate with the position, and in which pairs.

    Attributes:
        n_rotated: how many of the first dimensions rotate; 0 in a layer without rotary positions.
        style: "half" pairs dimension j with j + n_rotated / 2 (Llama), "interleaved" 2j with 2j + 1 (Cohere, GLM).

    Raises:
        ValueError: n_rotated is negative or odd.
    """

    n_rotated: int
    style: Style = "half"

    def __post_init__(self) -> None:
        check_size("n_rotated", self.n_rotated, minimum=0)
        if self.n_rotated % 2:
            raise ValueError(f"n_rotated must be even, got {self.n_rotated}")

    @property
    def pairs(self) -> tuple[slice, slice]:
        """The dimensions of the real and of the imaginary parts."""
        if self.style == "interleaved":
            return slice(0, self.n_rotated, 2), slice(1, self.n_rotated, 2)
        return slice(0, self.n_rotated // 2), slice(self.n_rotated // 2, self.n_rotated)


@dataclass(frozen=True)
class Heads:
    """One layer's projections, head by head. A bias is one more column of its projection.

    Attributes:
        q: [n_heads, head_dim, columns].
        k, v: [n_kv_heads, head_dim, columns].
        o: [hidden, n_heads, head_dim].
    """

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor

    @property
    def group_size(self) -> int:
        return len(self.q) // len(self.k)


@dataclass(frozen=True)
class Moments:
    """Second moments of a layer on a text: sums over its tokens.

    Attributes:
        keys: square matrix of size n_kv_heads * head_dim, of the keys before rotation.
        queries: [n_heads, head_dim, head_dim], of the queries before rotation.
        values: square matrix of size n_kv_heads * head_dim, of the values averaged by the heads' attention.
    """

    keys: Tensor
    queries: Tensor
    values: Tensor


@dataclass(frozen=True)
class Weighted:
    """Second moments of keys and values, weighted by how the layer uses them. A group's moments are blocks of these.

    Attributes:
        pairs: complex [n_pairs, n_kv_heads, n_kv_heads], of the keys' rotated pairs.
        flat: square matrix of size n_kv_heads * r, of the keys' r dimensions that are not rotated.
        values: square matrix of size n_kv_heads * head_dim.
        energy: [n_kv_heads, n_pairs], of the queries.
        flat_root: [n_kv_heads, r, r], Cholesky factors of the weights of `flat`.
        values_root: [n_kv_heads, head_dim, head_dim], Cholesky factors of the weights of `values`.
    """

    pairs: Tensor
    flat: Tensor
    values: Tensor
    energy: Tensor
    flat_root: Tensor
    values_root: Tensor


def weigh(heads: Heads, moments: Moments, rotation: Rotation) -> Weighted:
    """The weighted moments, with the share of the weights (PRIOR) added. All is computed in float64.

    Raises:
        ValueError: weights or moments are not finite.
    """
    for name, tensor in (
        ("projections", [heads.q, heads.k, heads.v, heads.o]),
        ("moments", [moments.keys, moments.values]),
    ):
        if not all(bool(t.isfinite().all()) for t in tensor):
            raise ValueError(f"the layer's {name} hold NaN or infinity: it cannot be merged")
    n_kv, head_dim = heads.k.shape[:2]
    keys = _with_prior(moments.keys, heads.k)
    values = _with_prior(moments.values, heads.v)
    prior = torch.einsum("hic,hjc->hij", heads.q.double(), heads.q.double())
    queries = moments.queries.double()
    queries = queries + prior * (PRIOR * trace_of(queries) / trace_of(prior).clamp_min(1e-300))[:, None, None]
    queries = queries.unflatten(0, (n_kv, heads.group_size)).sum(1)
    real, imaginary = rotation.pairs
    rest = slice(rotation.n_rotated, head_dim)
    moment = keys.unflatten(1, (n_kv, head_dim)).unflatten(0, (n_kv, head_dim))  # [head, dimension, head, dimension]
    rr, ii, ri, ir = (
        torch.diagonal(moment[:, a][..., b], dim1=1, dim2=3)
        for a, b in ((real, real), (imaginary, imaginary), (real, imaginary), (imaginary, real))
    )
    gram = torch.complex(rr + ii, ir - ri).permute(2, 0, 1)  # k_g conj(k_h), pair by pair
    diagonal = torch.diagonal(queries, dim1=1, dim2=2)
    energy = (diagonal[:, real] + diagonal[:, imaginary]).clamp_min(0)
    # if all queries are zero, all keys weigh the same
    energy = energy + 1e-12 * energy.mean() if float(energy.mean()) > 0 else torch.ones_like(energy)
    root = energy.sqrt().T
    flat_root = _root(queries[:, rest, rest])
    projection = heads.o.double().unflatten(1, (n_kv, heads.group_size))
    values_root = _root(torch.einsum("oghd,oghe->gde", projection, projection))
    flat = moment[:, rest][..., rest]
    return Weighted(
        pairs=gram * root[:, :, None] * root[:, None, :],
        flat=_both_sides(flat, flat_root),
        values=_both_sides(values.unflatten(1, (n_kv, head_dim)).unflatten(0, (n_kv, head_dim)), values_root),
        energy=energy,
        flat_root=flat_root,
        values_root=values_root,
    )


def _with_prior(moment: Tensor, weight: Tensor) -> Tensor:
    flat = weight.flatten(0, 1)
    prior = (flat @ flat.T).double()
    moment = moment.double()
    scale = trace_of(moment) if float(trace_of(moment)) > 0 else trace_of(prior)
    return moment + prior * (PRIOR * scale / trace_of(prior).clamp_min(1e-300))


def _root(weight: Tensor) -> Tensor:
    """Cholesky factors of the weights [n, r, r].

    A small multiple of the identity is added, because a weight may be zero in some direction. For a head that nothing
    reads, whose weight is all zero, it is large enough that the head's share of the common rows stays finite.
    """
    if weight.shape[-1] == 0:
        return weight
    own = torch.diagonal(weight, dim1=1, dim2=2).mean(-1)
    whole = own.mean() if float(own.mean()) > 0 else torch.ones_like(own.mean())
    ridge = 1e-10 * torch.maximum(own, 1e-6 * whole)
    eye = torch.eye(weight.shape[-1], dtype=weight.dtype, device=weight.device)
    return torch.linalg.cholesky(weight + ridge[:, None, None] * eye)


def _both_sides(moment: Tensor, root: Tensor) -> Tensor:
    """Lᵀ M L of a moment M [head, r, head, r], with one L per head, as a square matrix."""
    n, r = root.shape[:2]
    rows = (root.transpose(1, 2) @ moment.reshape(n, r, n * r)).reshape(n * r, n, r).transpose(0, 1)
    return (rows @ root).transpose(0, 1).reshape(n * r, n * r)


def trace_of(matrix: Tensor) -> Tensor:
    """Traces of matrices: [..., n, n] -> [...]."""
    return torch.diagonal(matrix, dim1=-2, dim2=-1).sum(-1)
