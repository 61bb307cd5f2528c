"""Headshare as a library: KV cache sizes of models, exact to the byte, and attention with shared K/V heads.

    from attention import cache_bytes, resolve

    cache_bytes(resolve("meta-llama/Llama-3.1-8B"), context=131_072).state_bytes

Names are loaded when they are first used, so the calculator never imports torch.
"""

from __future__ import annotations

import lazy_loader

TYPE_CHECKING = False  # type checkers read it as True; importing typing would take longer than all the rest
if TYPE_CHECKING:
    from attention.catalog.published import (
        Accelerator,
        ModelRow,
        accelerator,
        accelerators,
        model,
        models,
    )
    from attention.catalog.sources import resolve
    from attention.configs.reader import load_config, spec_from_config
    from attention.layers import GroupedQueryAttention, KVCache, MultiHeadAttention, MultiQueryAttention
    from attention.memory.allocation import Allocation, allocate
    from attention.memory.footprint import CacheBytes, cache_bytes
    from attention.serving.fit import Setup, largest_batch, largest_context
    from attention.serving.roofline import decode_floor
    from attention.sharing import with_n_kv_heads
    from attention.spec import ModelSpec, uniform_spec
    from attention.states import Kind, Layer, attention_layer, latent_layer

_HOME = {
    "memory.allocation": ("Allocation", "allocate"),
    "catalog.published": ("Accelerator", "ModelRow", "accelerator", "accelerators", "model", "models"),
    "configs.reader": ("load_config", "spec_from_config"),
    "serving.fit": ("Setup", "largest_batch", "largest_context"),
    "layers": ("GroupedQueryAttention", "KVCache", "MultiHeadAttention", "MultiQueryAttention"),
    "memory.footprint": ("CacheBytes", "cache_bytes"),
    "serving.roofline": ("decode_floor",),
    "catalog.sources": ("resolve",),
    "sharing": ("with_n_kv_heads",),
    "spec": ("ModelSpec", "uniform_spec"),
    "states": ("Kind", "Layer", "attention_layer", "latent_layer"),
}
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs=_HOME)

__all__ = [  # noqa: RUF022 in the order of what one asks
    "resolve", "spec_from_config", "load_config", "model", "models", "ModelRow",
    "ModelSpec", "Layer", "Kind", "attention_layer", "latent_layer", "uniform_spec",
    "cache_bytes", "CacheBytes", "with_n_kv_heads", "allocate", "Allocation",
    "accelerator", "accelerators", "Accelerator", "Setup", "largest_context", "largest_batch", "decode_floor",
    "MultiHeadAttention", "MultiQueryAttention", "GroupedQueryAttention", "KVCache",
]  # fmt: skip
