"""Runs the lesson's classes, counts and compares, and reports the results. Needs torch; pages run it in the worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from attention.layers import GroupedQueryAttention, KVCache, MultiHeadAttention, MultiQueryAttention
from attention.lessons.code import Sizes

CHECK_HIDDEN, CHECK_CONTEXT, CHECK_BATCH = 256, 96, 2
"""Sizes of the equality checks. The heads are the reader's, but hidden size, context and batch are small: equality does
not depend on them, and the reader waits less."""
TOLERANCE = 1e-5
"""Largest accepted difference between the same float32 sums in two orders."""


def counts(sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Parameters, cache bytes and output shape of the three classes at full size, as PyTorch counts them.

    They are built on the meta device, where tensors have shapes and dtypes but no memory: any size takes no time.
    """
    made = (
        ("MHA", MultiHeadAttention, ()),
        ("GQA", GroupedQueryAttention, (sizes.n_kv_heads,)),
        ("MQA", MultiQueryAttention, ()),
    )
    for name, kind, more in made:
        with torch.device("meta"):
            layer = kind(sizes.hidden_size, sizes.n_heads, sizes.head_dim, *more).bfloat16()
            cache = KVCache(
                sizes.batch, layer.n_kv_heads, sizes.context, sizes.head_dim, dtype=torch.bfloat16, device="meta"
            )
            cache.length = sizes.context - sizes.query
            x = torch.empty(sizes.batch, sizes.query, sizes.hidden_size, dtype=torch.bfloat16)
            out = layer(x, cache)
        yield {
            "what": "counts",
            "name": name,
            "class": kind.__name__,
            "n_kv_heads": layer.n_kv_heads,
            "n_parameters": sum(p.numel() for p in layer.parameters()),
            "cache_bytes": cache.nbytes,
            "output_shape": list(out.shape),
        }


@torch.no_grad()
def equalities(sizes: Sizes, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Compare GQA with n_heads K/V heads with MHA, GQA with one K/V head with MQA, and decoding with all at once."""
    torch.manual_seed(seed)
    small = (CHECK_HIDDEN, sizes.n_heads, sizes.head_dim)
    context = min(sizes.context, CHECK_CONTEXT)
    x = torch.randn(min(sizes.batch, CHECK_BATCH), context, CHECK_HIDDEN)
    for name, special, n_kv_heads in (
        ("GQA with n_heads K/V heads is MHA", MultiHeadAttention(*small), sizes.n_heads),
        ("GQA with one K/V head is MQA", MultiQueryAttention(*small), 1),
    ):
        general = GroupedQueryAttention(*small, n_kv_heads)
        general.load_state_dict(special.state_dict())
        yield _equal(name, general(x), special(x), n_kv_heads)
    layer = GroupedQueryAttention(*small, sizes.n_kv_heads)
    cache = KVCache(len(x), sizes.n_kv_heads, context, sizes.head_dim)
    steps = torch.cat([layer(x[:, i : i + 1], cache) for i in range(context)], dim=1)
    yield _equal("token by token with the cache is all at once", steps, layer(x), sizes.n_kv_heads)


def _equal(name: str, left: torch.Tensor, right: torch.Tensor, n_kv_heads: int) -> dict[str, Any]:
    difference = float((left - right).abs().max())
    return {
        "what": "equality",
        "name": name,
        "n_kv_heads": n_kv_heads,
        "largest_difference": difference,
        "tolerance": TOLERANCE,
        "equal": difference <= TOLERANCE,
        "output_shape": list(left.shape),
    }
