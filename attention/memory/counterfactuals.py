"""The bytes of a model's cache beside those of the same model with other numbers of K/V heads."""

from __future__ import annotations

from typing import NamedTuple

from attention import sharing
from attention.formats import CacheFormat, cache_format
from attention.memory.footprint import CacheBytes, cache_of
from attention.memory.load import Load
from attention.memory.terms import remembered, shared_bytes, shared_total
from attention.spec import Kind, ModelSpec


class Variant(NamedTuple):
    """A model with some number of K/V heads.

    Attributes:
        state_bytes: bytes that its cache needs for the whole batch.
        is_model: whether this is the model's own number of K/V heads.
    """

    label: str
    n_kv_heads: int
    state_bytes: int
    is_model: bool


def kept_name(spec: ModelSpec) -> str:
    """The usual name of what the model keeps between steps: "KV cache", or "State" without attention."""
    return "KV cache" if sharing.has_attention(spec) else "State"


def ends(spec: ModelSpec, load: Load, *, n_kv_heads: int | None = None) -> tuple[Variant, ...]:
    """MHA, the model itself and MQA, each once; the model alone if it has no heads to share.

    Args:
        n_kv_heads: one more number of K/V heads to include, None for none.

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
    """The model as MHA, as GQA with some numbers of K/V heads, and as MQA, in falling order of K/V heads.

    The model itself is one of them; a latent (MLA) model comes last, after the ordinary attention that its query heads
    would need. A model without an attention cache, or whose layers differ in their query heads, has only the
    counterfactuals that exist.

    Args:
        cache: the model's own cache, whose load applies to all variants.
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
    """Divisors of the query heads to show: all if there are at most five, else those nearest to 1, 4, 8, a quarter of
    the heads, and all heads."""
    every = sharing.divisors(n_heads)
    if len(every) <= 5:
        return every
    wanted = {min(every, key=lambda d: (abs(d - p), d)) for p in (1, 4, 8, n_heads // 4 or 1, n_heads)}
    return tuple(sorted(wanted))


def _counterfactual(spec: ModelSpec, n: int, context: int, fmt: CacheFormat) -> int | None:
    try:
        return shared_total(spec, None if n == spec.n_heads else n, fmt).at(context)
    except ValueError:
        return None  # n does not divide some layer's query heads: the counterfactual does not exist
