"""Cases of steps that are timed, with the sizes of published models. Free of torch.

`other` are further fields of ``KindCase``; `implementation` is left empty.
"""

from __future__ import annotations

from typing import Any

from attention.kernels.kinds.case import CACHE_FORMATS, KindCase


def full(n_kv_heads: int = 8, head_dim: int = 128, value_dim: int = 0, **other: Any) -> KindCase:
    """K and V of every position, by default as in Llama 3.1 8B: 32 query heads, 8 K/V heads of 128."""
    return KindCase("full", "", 32, n_kv_heads, head_dim, value_dim or head_dim, **other)


def latent(n_heads: int = 128, **other: Any) -> KindCase:
    """MLA absorbed, as in DeepSeek-V3: one latent of 576, of which 512 are the value."""
    return KindCase("latent", "", n_heads, 1, 576, 512, **other)


def expanded(**other: Any) -> KindCase:
    """MLA expanded, as in DeepSeek-V3: keys of 192 and values of 128 are kept for all 128 heads."""
    return KindCase("expanded", "", 128, 128, 192, 128, **other)


def sparse(top_k: int = 2048, **other: Any) -> KindCase:
    """Sparse attention as in DeepSeek-V3.2: an indexer of 64 heads of 128 picks the best positions (2,048 there)."""
    return KindCase("sparse", "", 128, 1, 576, 512, top_k=top_k, index_heads=64, index_dim=128, **other)


def window(size: int, **other: Any) -> KindCase:
    """A window of the last `size` positions, with the heads of Llama 3.1 8B."""
    return KindCase("window", "", 32, 8, 128, 128, window=size, **other)


def shared(**other: Any) -> KindCase:
    """K = V, with 4 K/V heads of 512 as in Gemma 4's full layers."""
    return KindCase("shared", "", 32, 4, 512, 512, **other)


def quantised(n_kv_heads: int = 8, **other: Any) -> list[KindCase]:
    """The case of :func:`full` in each format, the same for K and V, then with int8 keys and int4 values."""
    alike = [full(n_kv_heads, k_format=name, v_format=name, **other) for name in CACHE_FORMATS]
    return [*alike, full(n_kv_heads, k_format="int8-token", v_format="int4-g32", **other)]
