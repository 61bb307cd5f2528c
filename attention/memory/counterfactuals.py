"""A model beside what it would be with other numbers of K/V heads, in bytes."""

from __future__ import annotations

from typing import NamedTuple

from attention import sharing
from attention.formats import CacheFormat, cache_format
from attention.memory.footprint import CacheBytes, cache_of
from attention.memory.load import Load
from attention.memory.terms import remembered, shared_bytes, shared_total
from attention.spec import Kind, ModelSpec


class Variant(NamedTuple):
    """A model with some number of K/V heads, and what its cache needs, the whole batch; `is_model`: its own number."""

    label: str
    n_kv_heads: int
    state_bytes: int
    is_model: bool


def kept_name(spec: ModelSpec) -> str:
    """What the model keeps between steps, as people call it."""
    return "KV cache" if sharing.has_attention(spec) else "State"


def ends(spec: ModelSpec, load: Load, *, n_kv_heads: int | None = None) -> tuple[Variant, ...]:
    """MHA, the model itself and MQA, each once, and with `n_kv_heads` what it would be with so many; the model alone if
    it has no heads to share.

    Raises:
        ValueError: recurrent states of unknown dtype, or n_kv_heads does not divide some layer's query heads.
    """
    own = cache_of(spec, load).state_bytes
    layer = spec.attention_layer
    if layer is None or not layer.n_heads:
        return (Variant("State", 0, own, True),)
    mine = Variant(sharing.of_layer(layer), layer.n_kv_heads, own, True)
    found = {mine.label: mine}
    for n in dict.fromkeys((layer.n_heads, n_kv_heads or 1, 1)):
        label = sharing.name(layer.n_heads, n)
        if label not in found:
            asked = None if n == layer.n_heads else n
            size = load.batch * shared_bytes(spec, asked, load.context, cache_format(load.kv_dtype))
            found[label] = Variant(label, n, size, False)

    def rank(row: Variant) -> tuple[bool, bool, int]:
        return row.label != "MHA", row.label == "MQA", -row.n_kv_heads

    return tuple(sorted(found.values(), key=rank))


def variants(spec: ModelSpec, cache: CacheBytes) -> tuple[Variant, ...]:
    """MHA, some GQA steps and MQA of the same model, the model itself in its place, largest sharing last.

    A latent (MLA) model stands beside the ordinary attention its query heads would need. A model without
    attention cache, or whose layers differ in their query heads, has only the counterfactuals that exist.

    Args:
        cache: the model's own, for the load that all of them are under.
    """
    load, own = cache.load, cache.state_bytes
    fmt = cache_format(load.kv_dtype)
    n_heads, n_kv_heads = spec.n_heads, spec.n_kv_heads
    latent = remembered(spec, ("latent",), lambda: any(layer.kind is Kind.LATENT for layer, _ in spec.groups))
    if not n_heads:
        return (Variant(spec.name, 0, own, True),)
    own_name = "MLA" if latent else sharing.name(n_heads, n_kv_heads)
    rows = [] if latent else [Variant(own_name, n_kv_heads, own, True)]
    for n in _steps(n_heads):
        if latent or n != n_kv_heads:
            bytes_ = _counterfactual(spec, n, load.context, fmt)
            if bytes_ is not None:
                rows.append(Variant(sharing.name(n_heads, n), n, load.batch * bytes_, False))
    rows.sort(key=lambda row: -row.n_kv_heads)
    if latent:
        rows.append(Variant(own_name, n_kv_heads, own, True))
    return tuple(rows)


def _steps(n_heads: int) -> tuple[int, ...]:
    """All of a few divisors; of many, those nearest to powers of four, ends included."""
    every = sharing.divisors(n_heads)
    if len(every) <= 5:
        return every
    wanted = {min(every, key=lambda d: (abs(d - p), d)) for p in (1, 4, 8, n_heads // 4 or 1, n_heads)}
    return tuple(sorted(wanted))


def _counterfactual(spec: ModelSpec, n: int, context: int, fmt: CacheFormat) -> int | None:
    try:
        return shared_total(spec, None if n == spec.n_heads else n, fmt).at(context)
    except ValueError:
        return None  # some layer's query heads cannot be shared so: the counterfactual does not exist
