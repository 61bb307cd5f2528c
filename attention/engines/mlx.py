"""mlx-lm's caches: one buffer per layer that grows in steps, and a ring for windowed layers.

The rules and their sources are in ``rules.RULES``. Models with latent vectors, recurrent states or indexers are
refused, because no rules for them are known here.
"""

from __future__ import annotations

from collections import Counter

from attention.engines.rules import refuse_roles
from attention.errors import shown
from attention.formats import CacheFormat, cache_format
from attention.memory.terms import remembered
from attention.spec import ModelSpec, PositionState, Role

STEP = 256
"""Positions by which a buffer grows."""
PLAIN = ("bf16", "fp16", "fp32")
QUANTISED = ("int4-g32", "int4-g64", "int4-g128")
"""Formats with a scale and a bias of 16 bit for each group of a head's elements. The 8-bit formats of ``formats`` have
no bias, so they are not among them."""


def request_bytes(spec: ModelSpec, length: int, kv_dtype: str) -> int:
    """Bytes of the buffers of all layers after one sequence of `length` tokens has decoded a token.

    Raises:
        ValueError: a state or a format whose layout is not known here.
    """
    sizes = remembered(spec, ("mlx", kv_dtype), lambda: _sizes(spec, kv_dtype))
    return sum(positions(window, length) * size for window, size in sizes.items())


def _sizes(spec: ModelSpec, kv_dtype: str) -> dict[int | None, int]:
    """Bytes of a position in all layers with the same window, by window."""
    if kv_dtype not in (*PLAIN, *QUANTISED):
        raise ValueError(f"MLX's cache format must be one of {', '.join((*PLAIN, *QUANTISED))}, got {shown(kv_dtype)}")
    refuse_roles("MLX", spec, (Role.KEY_VALUE,))
    fmt, sizes = cache_format(kv_dtype), Counter[int | None]()
    for layer, n in spec.groups:
        for state in layer.states:
            assert isinstance(state, PositionState), "other roles are refused"
            if state.window is not None and kv_dtype in QUANTISED:
                raise ValueError("MLX does not quantise the ring of a windowed layer")
            sizes[state.window] += n * state.n_kv_heads * _head(state, fmt)
    return dict(sizes)


def positions(window: int | None, length: int) -> int:
    """Positions of a layer's buffer for `length` tokens; `window` None: the layer holds every token."""
    held = -(-length // STEP) * STEP
    return held if window is None else min(held, window)


def _head(state: PositionState, fmt: CacheFormat) -> int:
    """Bytes of one position of one head. No group has elements of two heads."""
    if fmt.group_size and (state.k_head_dim % fmt.group_size or state.v_head_dim % fmt.group_size):
        raise ValueError(f"MLX quantises groups of {fmt.group_size}, and a head of this model is no multiple of it")
    return fmt.row_bytes(state.k_head_dim) + fmt.row_bytes(state.v_head_dim)
