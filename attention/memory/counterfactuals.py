"""A model beside what it would be with no sharing (MHA) and with one K/V head (MQA), in bytes."""

from __future__ import annotations

from typing import NamedTuple

from attention import sharing
from attention.formats import cache_format
from attention.memory.footprint import cache_bytes
from attention.memory.terms import shared_bytes
from attention.spec import ModelSpec


class Way(NamedTuple):
    """One way to share and what its cache needs."""

    label: str
    n_kv_heads: int
    state_bytes: int
    is_model: bool


def kept_name(spec: ModelSpec) -> str:
    """What the model keeps between steps, as people call it."""
    return "KV cache" if sharing.has_attention(spec) else "State"


def ways(spec: ModelSpec, context: int, batch: int = 1, kv_dtype: str = "bf16") -> tuple[Way, ...]:
    """MHA, the model itself and MQA, each once; the model alone if it has no heads to share.

    Raises:
        ValueError: see ``footprint.cache_bytes``.
    """
    own = cache_bytes(spec, context, batch, kv_dtype).state_bytes
    layer = spec.attention_layer
    if layer is None or not layer.n_heads:
        return (Way("State", 0, own, True),)
    mine = Way(sharing.of_layer(layer), layer.n_kv_heads, own, True)
    found = []
    for n, label in ((None, "MHA"), (1, "MQA")):
        if label == mine.label:
            continue
        size = batch * shared_bytes(spec, n, context, cache_format(kv_dtype))
        found.append(Way(label, n or layer.n_heads, size, False))
    return tuple(sorted((mine, *found), key=lambda way: (way.label != "MHA", way.label == "MQA")))
