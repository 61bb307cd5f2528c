"""Steps that are timed, with the sizes of published models: free of torch. `other` are fields of ``KindCase``."""

from __future__ import annotations

from typing import Any

from attention.kernels.kinds.case import CACHE_FORMATS, KindCase


def full(n_kv_heads: int = 8, head_dim: int = 128, value_dim: int = 0, **other: Any) -> KindCase:
    """Llama 3.1 8B's: 32 query heads of 128, 8 K/V heads."""
    return KindCase("full", "", 32, n_kv_heads, head_dim, value_dim or head_dim, **other)


def latent(n_heads: int = 128, **other: Any) -> KindCase:
    """DeepSeek-V3's, absorbed."""
    return KindCase("latent", "", n_heads, 1, 576, 512, **other)


def expanded(**other: Any) -> KindCase:
    """DeepSeek-V3's, with the keys and values of all heads kept."""
    return KindCase("expanded", "", 128, 128, 192, 128, **other)


def sparse(top_k: int = 2048, **other: Any) -> KindCase:
    """DeepSeek-V3.2's: the best positions (2,048 there) by an indexer of 64 heads of 128."""
    return KindCase("sparse", "", 128, 1, 576, 512, top_k=top_k, index_heads=64, index_dim=128, **other)


def window(size: int, **other: Any) -> KindCase:
    """The same, with the last `size` positions alone."""
    return KindCase("window", "", 32, 8, 128, 128, window=size, **other)


def shared(**other: Any) -> KindCase:
    """K = V, four heads of 512 as in Gemma 4's full layers."""
    return KindCase("shared", "", 32, 4, 512, 512, **other)


def quantised(n_kv_heads: int = 8, **other: Any) -> list[KindCase]:
    """Each format for K and V alike, then int8 keys with int4 values."""
    alike = [full(n_kv_heads, k_format=name, v_format=name, **other) for name in CACHE_FORMATS]
    return [*alike, full(n_kv_heads, k_format="int8-token", v_format="int4-g32", **other)]
