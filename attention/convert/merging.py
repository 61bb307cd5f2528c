"""Merges K/V heads so that a layer's output loses least: the mathematics, on tensors.

Three kinds of change do not alter what a layer computes, so a merge may use them without loss:

- an invertible map of a head's values, with its inverse in the output projection of the query heads that read it;
- a map of a head's keys that commutes with the rotation of positions, with its inverse in the queries: one complex
  number per rotated pair, and an invertible map of the dimensions that are not rotated (all dimensions in a layer
  without rotary positions);
- another order of the heads, where each head moves with the query heads that read it.

So a group's common values span the leading eigenspace of their second moment, weighted by the output projection. Its
common keys are, pair by pair, the leading complex direction over the group's heads, weighted by the energy of their
queries. Heads that differ only by such maps are merged without loss. A norm between projection and rotation (q/k norms)
does not allow such maps of keys: there keys are averaged.

Source: rotary pairs as complex numbers, Su et al. 2021 (arXiv:2104.09864, section 3.2.1); the best common subspace, the
Eckart-Young theorem; groups of heads, Ainslie et al. 2023 (arXiv:2305.13245, section 2.1).
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
class Merged:
    """A merged layer.

    Attributes:
        heads: the layer's projections, in the new order of heads.
        groups: the old K/V heads of each new one.
        query_order: for each new query head, the number of the old one.
        keys_kept, values_kept: kept shares of the weighted energy, 0 to 1; None for keys that were averaged.
    """

    heads: Heads
    groups: tuple[tuple[int, ...], ...]
    query_order: tuple[int, ...]
    keys_kept: float | None
    values_kept: float


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


def lost(weighted: Weighted, groups: list[tuple[int, ...]]) -> Tensor:
    """[len(groups), 2]: the energy of keys and of values that each group loses, as shares of the layer's energy.

    All groups must be of one size.
    """
    index = torch.tensor(groups, device=weighted.values.device)
    pairs = weighted.pairs[:, index[:, :, None], index[:, None, :]].transpose(0, 1)  # [group, pair, n, n]
    keys = torch.diagonal(pairs, dim1=-2, dim2=-1).real.sum((-1, -2)) - torch.linalg.eigvalsh(pairs)[..., -1].sum(-1)
    keys = keys + _outside(weighted.flat, index, weighted.flat_root.shape[-1])
    whole = torch.diagonal(weighted.pairs, dim1=-2, dim2=-1).real.sum() + trace_of(weighted.flat)
    values = _outside(weighted.values, index, weighted.values_root.shape[-1])
    return torch.stack(
        [keys / whole.clamp_min(1e-300), values / trace_of(weighted.values).clamp_min(1e-300)], -1
    ).clamp_min(0)


def merge_heads(
    heads: Heads, moments: Moments, rotation: Rotation, groups: tuple[tuple[int, ...], ...], normed: bool = False
) -> Merged:
    """The layer with one K/V head for each group.

    Args:
        heads, moments, rotation: the layer's projections, moments and rotation.
        groups: a partition of the K/V heads into groups of one size.
        normed: queries and keys pass through a norm after the projection; then a group's keys are averaged.

    Raises:
        ValueError: the groups are no partition of the heads, or weights, moments or the result are not finite.
    """
    n_kv, size = len(heads.k), heads.group_size
    if sorted(h for group in groups for h in group) != list(range(n_kv)) or len({len(g) for g in groups}) != 1:
        raise ValueError(f"groups must hold each of the {n_kv} K/V heads once and be of one size, got {groups}")
    order = tuple(h * size + i for group in groups for h in group for i in range(size))
    weighted = weigh(heads, moments, rotation)
    q, o = heads.q.double()[list(order)], heads.o.double()[:, list(order)]
    parts = [_merge_group(heads, weighted, rotation, group, normed) for group in groups]
    for i, (_, _, to_query, to_output) in enumerate(parts):
        n = len(groups[i])
        for j in range(n):
            rows = slice((i * n + j) * size, (i * n + j + 1) * size)
            q[rows] = _absorb(q[rows], to_query[j], rotation) if to_query is not None else q[rows]
            if to_output is not None:
                o[:, rows] = o[:, rows] @ to_output[j]
    dtype = heads.k.dtype
    kept = 1 - lost(weighted, list(groups)).sum(0)
    merged = Heads(
        q.to(dtype),
        torch.stack([p[0] for p in parts]).to(dtype),
        torch.stack([p[1] for p in parts]).to(dtype),
        o.to(dtype),
    )
    if not all(bool(t.isfinite().all()) for t in (merged.q, merged.k, merged.v, merged.o)):
        raise ValueError(f"the layer cannot be merged: what comes out is not finite in {dtype}")
    return Merged(merged, groups, order, None if normed else float(kept[0]), float(kept[1]))


Expansion = tuple[Tensor, Tensor]


def _merge_group(
    heads: Heads, weighted: Weighted, rotation: Rotation, group: tuple[int, ...], normed: bool
) -> tuple[Tensor, Tensor, list[Expansion] | None, Tensor | None]:
    """(common key, common value, how each head's queries absorb the change of keys, how each head's output columns
    absorb the change of values). None where there is nothing to absorb."""
    index = list(group)
    k, v = heads.k[index].double(), heads.v[index].double()
    to_query: list[Expansion] | None = None
    to_output: Tensor | None = None
    if all(torch.equal(heads.k[index[0]], heads.k[h]) for h in index):
        key = k[0]
    elif normed:
        key = k.mean(0)
    else:
        key = torch.empty_like(k[0])
        real, imaginary = rotation.pairs
        rest = slice(rotation.n_rotated, key.shape[0])
        z = torch.complex(k[:, real], k[:, imaginary])  # [n, pair, column]
        vector = torch.linalg.eigh(weighted.pairs[:, index][:, :, index])[1][..., -1].T  # [n, pair]
        root = weighted.energy[index].sqrt()
        share, common = vector / root, torch.einsum("np,npc->pc", vector.conj() * root, z)
        # a pair's factor is free: with this one, coefficients have modulus one on average, and are real where the heads
        # agree
        mean = share.mean(0)
        size = share.abs().square().mean(0).sqrt()
        phase = torch.where(mean.abs() > 1e-3 * size, mean / mean.abs().clamp_min(1e-300), torch.ones_like(mean))
        factor = phase * size.clamp_min(1e-300)
        common, share = common * factor[:, None], share / factor
        key[real], key[imaginary] = common.real, common.imag
        key[rest], flat = _subspace(k[:, rest], weighted.flat, weighted.flat_root, index)
        to_query = [(share[i].conj(), flat[i].T) for i in range(len(index))]
    if all(torch.equal(heads.v[index[0]], heads.v[h]) for h in index):
        value = v[0]
    else:
        value, to_output = _subspace(v, weighted.values, weighted.values_root, index)
    return key, value, to_query, to_output


def _absorb(q: Tensor, expansion: Expansion, rotation: Rotation) -> Tensor:
    """Queries [n, head_dim, columns] changed so that they read the common key as they read their own key."""
    factor, flat = expansion
    real, imaginary = rotation.pairs
    rest = slice(rotation.n_rotated, q.shape[1])
    new = torch.empty_like(q)
    z = torch.complex(q[:, real], q[:, imaginary]) * factor[:, None]
    new[:, real], new[:, imaginary] = z.real, z.imag
    new[:, rest] = flat @ q[:, rest]
    return new


def _subspace(rows: Tensor, weighted: Tensor, roots: Tensor, index: list[int]) -> tuple[Tensor, Tensor]:
    """The best common rows of a group, and how each head's rows follow from them.

    Args:
        rows: [n, r, columns], of the group's n heads.
        weighted: square matrix of size all * r, the weighted moment of all heads.
        roots: [all, r, r], Cholesky factors of the weights.
        index: the group's heads.

    Returns:
        common [r, columns] and expansion [n, r, r] with rows[i] ≈ expansion[i] @ common.
    """
    n, r = rows.shape[:2]
    if r == 0:
        return rows[0], rows.new_empty(n, 0, 0)
    root = roots[index]
    places = (torch.tensor(index, device=rows.device)[:, None] * r + torch.arange(r, device=rows.device)).flatten()
    basis = torch.linalg.eigh(weighted[places][:, places])[1][:, -r:].unflatten(0, (n, r))  # [n, r, new]
    common = torch.einsum("nrj,nrc->jc", root @ basis, rows)  # Uᵀ Lᵀ rows, where L Lᵀ is the weight
    expansion = torch.linalg.solve_triangular(root.transpose(1, 2), basis, upper=True)
    # every rotation of the basis is equally good: this one changes the heads least
    left, _, right = torch.linalg.svd(expansion.sum(0))
    turn = left @ right
    scale = expansion.square().mean().sqrt() * r**0.5
    return turn @ common * scale, expansion @ turn.T / scale


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


def _outside(weighted: Tensor, index: Tensor, r: int) -> Tensor:
    """[groups]: the trace of each group's block minus its r largest eigenvalues."""
    if r == 0:
        return torch.zeros(len(index), dtype=weighted.dtype, device=weighted.device)
    places = (index[:, :, None] * r + torch.arange(r, device=index.device)).flatten(1)
    blocks = weighted[places[:, :, None], places[:, None, :]]
    return torch.linalg.eigvalsh(blocks)[:, :-r].sum(-1)


def trace_of(matrix: Tensor) -> Tensor:
    """Traces of matrices: [..., n, n] -> [...]."""
    return torch.diagonal(matrix, dim1=-2, dim2=-1).sum(-1)
