"""The specification of a step over any kind of cache, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from attention.kernels.kinds.stored import Cache, Plane, read, seen


def attention(q: Tensor, cache: Cache, chosen: Tensor | None = None, sequences: tuple[int, ...] = ()) -> Tensor:
    """softmax(scale · q kᵀ) v over what each new token sees: [batch, n_heads, q_len, value_dim], float64.

    One sequence and one K/V head at a time are widened to float64.

    Args:
        q: [batch, n_heads, q_len, head_dim].
        chosen: positions to attend to in a sparse cache, [batch, q_len, top_k], -1 for none; None takes the positions
            of :func:`choose`.
        sequences: the sequences to compute, all if empty. The result's batch has as many.

    Raises:
        ValueError: n_kv_heads does not divide n_heads, or more new tokens than positions.
    """
    batch, n_heads, q_len, _ = q.shape
    if n_heads % cache.n_kv_heads:
        raise ValueError(f"n_kv_heads must divide n_heads = {n_heads}, got {cache.n_kv_heads}")
    if not 1 <= q_len <= cache.context:
        raise ValueError(f"q_len must be between 1 and the context of {cache.context}, got {q_len}")
    if cache.top_k and chosen is None:
        chosen = choose(cache)
    visible = seen(cache, q_len)
    heads = q.unflatten(1, (cache.n_kv_heads, -1))
    out = []
    for b in sequences or range(batch):
        if chosen is not None:
            visible = torch.zeros(q_len, cache.k.positions + 1, dtype=torch.bool, device=q.device)
            visible = visible.scatter(1, chosen[b].long() % visible.shape[1], True)[:, :-1]
        for kv_head in range(cache.n_kv_heads):
            keys = read(_only(cache.k, b, kv_head), torch.float64)[0, 0]
            values = (
                keys[:, : cache.value_dim] if cache.v is None else read(_only(cache.v, b, kv_head), torch.float64)[0, 0]
            )
            scores = heads[b, kv_head].double() @ keys.T * cache.scale
            out.append(scores.masked_fill(~visible, -torch.inf).softmax(dim=-1) @ values)
    return torch.stack(out).view(-1, n_heads, q_len, cache.value_dim)


def _only(plane: Plane, b: int, kv_head: int) -> Plane:
    """One sequence and one K/V head of a plane."""
    own = (slice(b, b + 1), slice(kv_head, kv_head + 1))
    scale = plane.scale
    if scale is not None:
        scale = scale[kv_head : kv_head + 1] if plane.format == "fp8-head" else scale[own]
    return plane._replace(data=plane.data[own], scale=scale, zero=None if plane.zero is None else plane.zero[own])


def index_scores(cache: Cache, dtype: torch.dtype = torch.float64) -> Tensor:
    """The indexer's score of each position: Σ over its heads of weight · ReLU(query · key), [batch, q_len, context];
    -inf for positions that a token does not see (DeepSeek-V3.2-Exp report, equation 1)."""
    assert cache.index_k is not None
    assert cache.index_q is not None
    assert cache.index_weights is not None
    keys = cache.index_k.to(dtype)[:, None]
    products = (cache.index_q.to(dtype) @ keys.mT).relu()
    scores = (products * cache.index_weights.to(dtype)[..., None]).sum(2)
    return scores.masked_fill(~seen(cache, scores.shape[1]), -torch.inf)


def choose(cache: Cache) -> Tensor:
    """Positions of the largest :func:`index_scores`, [batch, q_len, min(top_k, context)]; -1 where the token sees
    fewer."""
    found = index_scores(cache).topk(min(cache.top_k, cache.context), sorted=False)
    return torch.where(found.values.isneginf(), -1, found.indices)


def choice_error(cache: Cache, chosen: Tensor) -> float:
    """How far the worst chosen position's score is below the best score that was left out, 0 for an exact choice.

    The unit is the root mean square of the scores. The error is infinite where a position is chosen twice or is not
    seen by its token, or where too few are chosen.

    Args:
        chosen: [batch, q_len, top_k], -1 for none.
    """
    scores = index_scores(cache)
    wanted = scores.isfinite().sum(-1).clamp(max=cache.top_k)
    taken = torch.zeros(*scores.shape[:2], scores.shape[2] + 1, dtype=torch.int32, device=scores.device)
    places = chosen.long() % taken.shape[2]
    taken.scatter_add_(2, places, torch.ones_like(places, dtype=torch.int32))
    taken = taken[..., :-1]
    if bool((taken > 1).any()) or not torch.equal(taken.sum(-1), wanted) or bool(scores[taken > 0].isneginf().any()):
        return float("inf")
    worst = scores.masked_fill(taken == 0, torch.inf).amin(-1)
    best = scores.masked_fill(taken > 0, -torch.inf).amax(-1)
    size = scores[scores.isfinite()].square().mean().sqrt().clamp(min=1e-30)
    return float(((best - worst).clamp(min=0) / size).max())
