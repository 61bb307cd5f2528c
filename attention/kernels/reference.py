"""Attention in float64, slow and obvious: the specification of every faster implementation, and the error allowed."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def attention(
    q: Float[Tensor, "batch n_heads query head_dim"],
    k: Float[Tensor, "batch n_kv_heads context head_dim"],
    v: Float[Tensor, "batch n_kv_heads context v_head_dim"],
) -> Float[Tensor, "batch n_heads query v_head_dim"]:
    """softmax(q kᵀ / √head_dim) v in float64. Query head i reads K/V head i // group_size.

    Attention is causal: the queries are the newest tokens, so query r of `query` sees the first
    ``context - query + r + 1`` positions. One sequence and one K/V head at a time are widened to float64, so a check
    needs little memory beside the cache itself.

    Raises:
        ValueError: n_kv_heads does not divide n_heads, or more queries than positions.
    """
    batch, n_heads, query, head_dim = q.shape
    n_kv_heads, context = k.shape[1:3]
    if n_heads % n_kv_heads:
        raise ValueError(f"n_kv_heads must divide n_heads = {n_heads}, got {n_kv_heads}")
    if query > context:
        raise ValueError(f"query must be at most the context of {context} positions, got {query}")
    group_size = n_heads // n_kv_heads
    out = torch.empty(batch, n_heads, query, v.shape[-1], dtype=torch.float64, device=q.device)
    hidden = torch.ones(query, context, dtype=torch.bool, device=q.device).triu(context - query + 1)
    for b in range(batch):
        for kv_head in range(n_kv_heads):
            keys, values = k[b, kv_head].double(), v[b, kv_head].double()
            for head in range(kv_head * group_size, (kv_head + 1) * group_size):
                scores = q[b, head].double() @ keys.T / head_dim**0.5
                out[b, head] = scores.masked_fill(hidden, -torch.inf).softmax(dim=-1) @ values
    return out


def tolerance(dtype: str, context: int, head_dim: int = 128, n_values: int = 4096) -> float:
    """Largest :func:`relative_error` allowed.

    Scores, weights and result are each rounded to `dtype` (unit roundoff u): about 4 u of a value. Sums over the head
    size and over the context are float32, and their error grows like a random walk of as many steps. The largest of n
    normal deviates is about √(2 ln n) times a typical one. Random inputs show half of this error; a kernel that loses
    one chunk of positions exceeds it many times.

    Args:
        n_values: numbers in the result: batch · n_heads · head_dim.
    """
    u, u32 = torch.finfo(getattr(torch, dtype)).eps / 2, torch.finfo(torch.float32).eps / 2
    return 2 * math.sqrt(2 * math.log(max(n_values, 4096))) * (4 * u + u32 * (context + head_dim) ** 0.5)


def relative_error(out: Tensor, expected: Tensor) -> float:
    """Largest deviation divided by the root mean square of `expected`; infinite if `out` holds anything not finite.

    In a result [batch, n_heads, query, head_dim], each query position has its own root mean square: in a causal prefill
    the first positions average over few values, so their results are larger than the later ones.
    """
    if not bool(torch.isfinite(out).all()):
        return float("inf")
    other = [dim for dim in range(expected.ndim) if expected.ndim != 4 or dim != 2]
    largest = (out.double() - expected).abs().amax(dim=other)
    return float((largest / expected.square().mean(dim=other).sqrt()).max())
