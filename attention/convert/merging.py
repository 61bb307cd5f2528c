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

Source: the moments and the rotation, ``moments``; the best common subspace, the
Eckart-Young theorem; groups of heads, Ainslie et al. 2023 (arXiv:2305.13245, section 2.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attention.convert.moments import Heads, Moments, Rotation, Weighted, trace_of, weigh


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


def _outside(weighted: Tensor, index: Tensor, r: int) -> Tensor:
    """[groups]: the trace of each group's block minus its r largest eigenvalues."""
    if r == 0:
        return torch.zeros(len(index), dtype=weighted.dtype, device=weighted.device)
    places = (index[:, :, None] * r + torch.arange(r, device=index.device)).flatten(1)
    blocks = weighted[places[:, :, None], places[:, None, :]]
    return torch.linalg.eigvalsh(blocks)[:, :-r].sum(-1)
