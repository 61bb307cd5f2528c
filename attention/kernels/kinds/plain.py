"""A step over each kind of cache in plain PyTorch, in a few lines.

Shapes: q [batch, n_heads, q_len, head_dim] -> [batch, n_heads, q_len, value_dim]. NaN and infinity appear where the
specification (``reference.py``) has them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attention.kernels.kinds.stored import Cache, read, seen


def attend(q: Tensor, cache: Cache) -> Tensor:
    """Attention with the query heads of a group and the new tokens as rows of one query, which share each K/V row.

    A quantised cache is widened in memory first, and that costs the traffic that it saves. Kernels widen in registers.
    """
    k = read(cache.k, q.dtype)
    v = k[..., : cache.value_dim] if cache.v is None else read(cache.v, q.dtype)
    rows = q.reshape(q.shape[0], cache.n_kv_heads, -1, q.shape[-1])
    scores = rows @ k.mT * cache.scale
    visible = seen(cache, q.shape[2]).repeat(rows.shape[2] // q.shape[2], 1)
    weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    return (weights @ v).reshape(*q.shape[:3], cache.value_dim)


def pick(cache: Cache) -> Tensor:
    """Positions that the indexer picks for each new token, [batch, q_len, min(top_k, context)]; -1 where the token sees
    fewer."""
    assert cache.index_k is not None
    assert cache.index_q is not None
    assert cache.index_weights is not None
    products = (cache.index_q @ cache.index_k[:, None].mT).float().relu()
    scores = (cache.index_weights[:, :, None] @ products).squeeze(2)
    found = scores.masked_fill(~seen(cache, scores.shape[1]), -torch.inf)
    best = found.topk(min(cache.top_k, cache.context), sorted=False)
    return torch.where(best.values.isneginf(), -1, best.indices)


def attend_sparse(q: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
    """Score all positions with the indexer's small keys, gather the latents of the best, and attend to them.

    Returns:
        The result, and the positions, as in :func:`pick`.
    """
    chosen = pick(cache)
    k = read(cache.k, q.dtype)[:, 0]
    sequences = torch.arange(q.shape[0], device=q.device)[:, None, None]
    latents = k[sequences, chosen.clamp(min=0)]
    scores = q.transpose(1, 2) @ latents.mT * cache.scale
    weights = scores.masked_fill((chosen < 0)[:, :, None], -torch.inf).softmax(-1)
    return (weights @ latents[..., : cache.value_dim]).transpose(1, 2), chosen
