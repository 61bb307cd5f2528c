"""Causal prefill: q [batch, n_heads, context, head_dim]; k, v [batch, n_kv_heads, context, head_dim]; result like q.

Here arithmetic is the limit, not traffic. Shared K/V heads leave as many products to compute, so all variants take
about as long.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def repeat_sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Copy each K/V head once per query head, then attend."""
    group_size = q.shape[1] // k.shape[1]
    if group_size > 1:
        k, v = k.repeat_interleave(group_size, dim=1), v.repeat_interleave(group_size, dim=1)
    return scaled_dot_product_attention(q, k, v, is_causal=True)


def enable_gqa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """SDPA with PyTorch's own switch for shared K/V heads."""
    return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def expanded_sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each K/V head becomes a batch entry whose query heads see it through a view of stride 0: no copy is made."""
    group_size = q.shape[1] // k.shape[1]
    k, v = (x.flatten(0, 1).unsqueeze(1).expand(-1, group_size, -1, -1) for x in (k, v))
    rows = q.reshape(k.shape[0], group_size, *q.shape[2:])
    return scaled_dot_product_attention(rows, k, v, is_causal=True).reshape(q.shape)
