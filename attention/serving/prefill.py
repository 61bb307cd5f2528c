"""The floor of prefill: the least time in which a prompt can pass through a model, before its first new token.

All tokens of the prompt pass at once, so each weight is read once for all of them and arithmetic takes longer than
memory from a few hundred tokens on (Pope et al. 2023, arXiv:2211.05102, section 2.1). Counted are two operations per
multiply-add of the weights that one token passes through, and each token's attention over itself and what stands before
it. Left out, so that the bound stays one: recurrent updates, a sparse indexer's own products, communication, launches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from attention.catalog.published import Accelerator
from attention.floor import Floor, floor
from attention.formats import weight_bytes
from attention.memory.footprint import sequence_bytes
from attention.memory.load import check_context
from attention.memory.terms import remembered
from attention.serving.roofline import compute_peak, known_parameters
from attention.spec import MAX_SIZE, Kind, Layer, ModelSpec, PositionState, Role, check_size


class Prefill(NamedTuple):
    """Floor of one prompt.

    Attributes:
        floor: on each accelerator; prompt: its tokens.
        weight_flops, attention_flops: the two parts of what all accelerators compute together.
    """

    floor: Floor
    prompt: int
    weight_flops: int
    attention_flops: int

    @property
    def tokens_per_s(self) -> float:
        """Tokens of the prompt, at most."""
        return self.prompt / self.floor.time_s


def seen_positions(state: PositionState, prompt: int) -> int:
    """Entries of one state that all tokens of a prompt together attend to: the sum of ``state.positions(t)`` over
    t = 1 … prompt."""
    # entry j is there from token j · stride on, and the window's first entries stand for all later ones
    n = state.positions(prompt)
    return n * (prompt + 1) - state.stride * n * (n + 1) // 2


def attention_flops(spec: ModelSpec, prompt: int) -> int:
    """Operations of all layers' attention over a prompt of one sequence, masked: no token looks ahead.

    A latent layer unfolds its vectors into heads here, which takes fewer operations than attending to them as they are
    (DeepSeek-V2, arXiv:2405.04434, section 2.1); the unfolding itself is among the weights.
    """

    def make() -> tuple[tuple[PositionState, int], ...]:
        weights: dict[PositionState, int] = {}
        for layer, n in spec.as_read.groups:
            for state in _attended(spec.as_read, layer):
                per_entry = 2 * n * layer.n_heads * _multiply_adds(layer, state)
                # what heads there are changes nothing for what positions are seen
                key = replace(state, n_kv_heads=1, k_head_dim=1, v_head_dim=1, dtype=None)
                weights[key] = weights.get(key, 0) + per_entry
        return tuple(weights.items())

    return sum(weight * seen_positions(state, prompt) for state, weight in remembered(spec, ("prefill",), make))


def _attended(spec: ModelSpec, layer: Layer) -> tuple[PositionState, ...]:
    states = spec.layers[layer.shares].states if layer.shares is not None else layer.states
    apart = (Role.INDEXER, Role.BUFFER)
    return tuple(state for state in states if isinstance(state, PositionState) and state.role not in apart)


def _multiply_adds(layer: Layer, state: PositionState) -> int:
    if layer.kind is Kind.LATENT:
        return layer.k_head_dim + layer.v_head_dim
    return state.k_head_dim + (state.v_head_dim or state.k_head_dim)


def prefill_floor(
    spec: ModelSpec,
    accelerator: Accelerator,
    prompt: int,
    *,
    count: int = 1,
    weight_dtype: str = "bf16",
    kv_dtype: str = "bf16",
    vocabulary: int = 0,
) -> Prefill:
    """Floor of one prompt of `prompt` tokens on `count` accelerators: weights read once, the cache written once.

    Args:
        vocabulary: rows of the output projection, which a prompt needs for its last token alone; with 0 it counts for
            every token, which is more than the least.

    Raises:
        ValueError: the parameter count is not known, an argument is out of range, or the model has an encoder, through
            which the prompt passes instead.
    """
    check_context(prompt)
    check_size("count", count)
    check_size("vocabulary", vocabulary, minimum=0)
    weights = known_parameters(spec, "to estimate a prefill")
    if any(layer.kind is Kind.CROSS for layer, _ in spec.groups):
        raise ValueError(f"the prompt of {spec.name} passes through its encoder, whose operations are not counted")
    multiplied = weights.read - weights.rows
    head = min(vocabulary * (spec.hidden_size or 0), multiplied)
    weight_flops = 2 * ((multiplied - head) * prompt + head)
    attention = attention_flops(spec, prompt)
    moved = weight_bytes(weights.read, weight_dtype) + sequence_bytes(spec, prompt, kv_dtype)
    peak = compute_peak(accelerator.flops_per_s, weight_dtype)
    bound = floor(-(-moved // count), (weight_flops + attention) // count, accelerator.bytes_per_s, peak)
    return Prefill(bound, prompt, weight_flops, attention)


def vocabulary_of(config: Mapping[str, Any] | None) -> int:
    """``vocab_size`` of a configuration, or of its text part; 0 where it is not stated or is no size."""
    config = config or {}
    parts = (config, config.get("text_config"))
    for part in parts:
        size = part.get("vocab_size") if isinstance(part, Mapping) else None
        if isinstance(size, int) and not isinstance(size, bool) and 0 < size <= MAX_SIZE:
            return size
    return 0
