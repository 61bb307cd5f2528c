"""TensorRT-LLM's pools: one for each window, each of whole blocks of tokens.

The rules and their sources are in ``rules.RULES``. Models with recurrent states, indexers, compressed caches or
cross-attention are refused, because no rules for them are known here.
"""

from __future__ import annotations

from typing import NamedTuple

from attention.engines.rules import refuse_roles
from attention.errors import check_choice
from attention.memory.allocation import check_tp
from attention.spec import ModelSpec, PositionState, Role

KV_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp8": 1, "int8": 1}
BLOCK_TOKENS = 32
_KNOWN = (Role.KEY_VALUE, Role.LATENT)


class Pools(NamedTuple):
    """One rank's pools.

    Attributes:
        token_bytes: bytes of a token in all layers with the same window (None: layers that hold every token).
        block_tokens: tokens of a block.
    """

    token_bytes: dict[int | None, int]
    block_tokens: int

    def request_bytes(self, length: int) -> int:
        """Bytes of the blocks of one request of `length` tokens that hold tokens which some layer still needs."""
        block, total = self.block_tokens, 0
        for window, size in self.token_bytes.items():
            begin = 0 if window is None else max(0, length - window) // block
            total += (-(-length // block) - begin) * block * size
        return total

    def blocks(self, memory_bytes: int) -> int:
        """Blocks of the pool in `memory_bytes`.

        Raises:
            ValueError: there are several pools; how memory is divided among them is not known here.
        """
        if len(self.token_bytes) > 1:
            raise ValueError("how TensorRT-LLM divides the memory among pools of several windows is not known here")
        [size] = self.token_bytes.values()
        return max(0, memory_bytes) // (size * self.block_tokens)


def pools(spec: ModelSpec, kv_dtype: str, tp: int = 1, block_tokens: int = BLOCK_TOKENS) -> Pools:
    """One rank's pools.

    Raises:
        ValueError: a state or a format whose layout is not known here, or heads that `tp` ranks cannot share evenly.
    """
    check_choice("TensorRT-LLM's cache dtype", kv_dtype, KV_BYTES)
    refuse_roles("TensorRT-LLM", spec, _KNOWN)
    check_tp(spec, tp)
    sizes: dict[int | None, int] = {}
    for layer, n in spec.groups:
        for state in layer.states:
            assert isinstance(state, PositionState), "other roles are refused"
            if state.stride != 1:
                raise ValueError("how TensorRT-LLM lays out a compressed cache is not known here")
            heads = 1 if state.role is Role.LATENT else -(-state.n_kv_heads // tp)
            width = heads * (state.k_head_dim + state.v_head_dim) * KV_BYTES[kv_dtype]
            sizes[state.window] = sizes.get(state.window, 0) + n * width
    if not sizes:
        raise ValueError("no layer of this model keeps a cache of its own")
    return Pools(sizes, block_tokens)
