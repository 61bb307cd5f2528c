"""Decode attention in plain PyTorch, from what most code does to what comes near the memory's limit.

Shapes throughout: q [batch, n_heads, 1, head_dim]; k, v [batch, n_kv_heads, context, head_dim]; result like q.
NaN and infinities appear where the specification (``reference.py``) has them, except in scaled_dot_product_attention:
on a processor PyTorch's fused kernel gives 0 where every score of a row is NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

CHUNK = 512
"""Positions per chunk of a split context: 256 KiB of float32 keys at head_dim 128, which stay in a core's L2."""


def fold(q: Tensor, n_kv_heads: int) -> Tensor:
    """[batch, n_heads, 1, head_dim] -> [batch, n_kv_heads, group_size, head_dim], without a copy.

    With one query position, the heads of a group are only more rows that read the same K and V.
    """
    batch, n_heads, _, head_dim = q.shape
    return q.reshape(batch, n_kv_heads, n_heads // n_kv_heads, head_dim)


def repeat_sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Copy each K/V head once per query head, then attend."""
    group_size = q.shape[1] // k.shape[1]
    if group_size > 1:
        k, v = k.repeat_interleave(group_size, dim=1), v.repeat_interleave(group_size, dim=1)
    return scaled_dot_product_attention(q, k, v)


def enable_gqa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """SDPA with PyTorch's own switch for shared K/V heads."""
    return scaled_dot_product_attention(q, k, v, enable_gqa=True)


def folded_sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """SDPA with the query heads of a group as rows of one query (:func:`fold`)."""
    return scaled_dot_product_attention(fold(q, k.shape[1]), k, v).reshape(q.shape)


def folded_matmul(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The folded query (:func:`fold`) with two matrix products and a softmax."""
    scores = fold(q, k.shape[1]) @ k.mT * q.shape[-1] ** -0.5
    return (scores.softmax(-1) @ v).reshape(q.shape)


def tall_matmul(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As :func:`folded_matmul`, but K times qᵀ: the matrix library reads K row by row."""
    scores = k @ fold(q, k.shape[1]).mT * q.shape[-1] ** -0.5
    return (scores.softmax(-2).mT @ v).reshape(q.shape)


def split_matmul(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Flash-decoding (Dao et al. 2023): each chunk gives a partial result and the log of its sum of exponentials."""
    whole = k.shape[2] // CHUNK * CHUNK
    rows = fold(q, k.shape[1])
    parts = []
    if whole:
        parts.append(
            _partial(rows, k[:, :, :whole].unflatten(2, (-1, CHUNK)), v[:, :, :whole].unflatten(2, (-1, CHUNK)))
        )
    if whole < k.shape[2]:
        parts.append(_partial(rows, k[:, :, None, whole:], v[:, :, None, whole:]))
    out, lse = (torch.cat(part, dim=2) for part in zip(*parts, strict=True))
    return combine(out, lse).to(q.dtype).reshape(q.shape)


def _partial(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Attention within each chunk: k, v [batch, n_kv_heads, chunks, positions, head_dim] ->
    out [batch, n_kv_heads, chunks, group_size, head_dim], lse [batch, n_kv_heads, chunks, group_size, 1]."""
    scores = (q.unsqueeze(2) @ k.mT).float() * q.shape[-1] ** -0.5
    lse = scores.logsumexp(-1, keepdim=True)
    # a chunk in which every score is -inf gets the weight 0: -inf minus -inf would be NaN
    return (scores - lse.clamp(min=torch.finfo(lse.dtype).min)).exp().to(v.dtype) @ v, lse


def combine(out: Tensor, lse: Tensor) -> Tensor:
    """Add up partial results, each weighted by its chunk's share of the softmax's sum.

    out [batch, n_kv_heads, chunks, group_size, head_dim], lse [batch, n_kv_heads, chunks, group_size, 1] ->
    [batch, n_kv_heads, group_size, head_dim].
    """
    return (out * lse.softmax(dim=2)).sum(dim=2)
