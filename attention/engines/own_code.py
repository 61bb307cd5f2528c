"""The size of transformers' dynamic cache, which the model's own code keeps, computed without building the model.

``oracle.verify`` runs the code itself, for one context at a time and with torch. This module has the rules by which
that cache differs from the least that the states need (``oracle.differences``). A test compares them with every
recorded result.
"""

from __future__ import annotations

from collections import Counter

from attention.engines.rules import refuse_roles
from attention.errors import shown
from attention.memory.terms import remembered
from attention.spec import DTYPE_BYTES, FixedState, ModelSpec, PositionState, Role

PLAIN = ("bf16", "fp16", "fp32")
BROADCAST = ("falcon", "RefinedWeb", "RefinedWebModel")
"""Types whose code copies K and V for every query head before it caches them, unless there is one K/V head."""
_KNOWN = (Role.KEY_VALUE, Role.LATENT, Role.INDEXER, Role.CROSS, Role.CONVOLUTION, Role.RECURRENT, Role.BUFFER)


def request_bytes(spec: ModelSpec, length: int, kv_dtype: str) -> int:
    """Bytes of the cache of one sequence of `length` tokens.

    Raises:
        ValueError: a state or a format whose rule is not known here.
    """
    fixed, sizes = remembered(spec, ("own code", kv_dtype), lambda: _sizes(spec, kv_dtype))
    return fixed + sum(n_bytes * _positions(window, length) for window, n_bytes in sizes.items())


def _sizes(spec: ModelSpec, kv_dtype: str) -> tuple[int, dict[int | None, int]]:
    """(bytes of states of fixed size, bytes of a position by the most positions that a layer keeps, None for all)."""
    if kv_dtype not in PLAIN:
        raise ValueError(f"transformers' dynamic cache is of {', '.join(PLAIN)}, got {shown(kv_dtype)}")
    refuse_roles("transformers", spec, _KNOWN)
    fixed, sizes = 0, Counter[int | None]()
    for layer, n in spec.groups:
        for state in layer.states:
            size = DTYPE_BYTES[state.dtype or kv_dtype]
            if isinstance(state, FixedState):
                fixed += n * state.elements * size
                continue
            if state.stride != 1:
                raise ValueError("what transformers keeps of a compressed cache is counted at one context only")
            elements = state.elements_per_position
            if spec.model_type in BROADCAST and state.role is Role.KEY_VALUE and state.n_kv_heads > 1:
                elements = layer.n_heads * (state.k_head_dim + state.v_head_dim)
            sizes[_kept(state)] += n * elements * size
    return fixed, dict(sizes)


def _kept(state: PositionState) -> int | None:
    """The most positions that are kept: a window without its newest position. A window of 1 is cut to [-0:], which is
    all positions (None)."""
    if state.window is None or state.role not in (Role.KEY_VALUE, Role.LATENT):
        return state.window
    return None if state.window == 1 else state.window - 1


def _positions(kept: int | None, length: int) -> int:
    return length if kept is None else min(kept, length)
