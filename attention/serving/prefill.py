"""The floor of prefill: the least time in which a prompt can pass through a model, before the first new token.

All tokens of the prompt pass at once, so each weight is read once for all of them. From a few hundred tokens on,
arithmetic takes longer than memory (Pope et al. 2023, arXiv:2211.05102, section 2.1). The operations counted are two
per multiply-add, for the weights that one token passes through and for each token's attention over itself and the
tokens before it. Recurrent updates, a sparse indexer's own products, communication and launch times are not counted;
they only add to the floor.
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
    """The floor of one prompt.

    Attributes:
        floor: the bound, for each accelerator; prompt: tokens of the prompt.
        weight_flops, attention_flops: the two parts of the operations of all accelerators together.
    """

    floor: Floor
    prompt: int
    weight_flops: int
    attention_flops: int

    @property
    def tokens_per_s(self) -> float:
        """Most tokens of the prompt per second."""
        return self.prompt / self.floor.time_s


def seen_positions(state: PositionState, prompt: int) -> int:
    """Entries of one state to which all tokens of a prompt together attend: the sum of ``state.positions(t)`` over
    t = 1 … prompt."""
    # entry j is seen from token j · stride on; a window of n entries counts as its first n entries
    n = state.positions(prompt)
    return n * (prompt + 1) - state.stride * n * (n + 1) // 2


def attention_flops(spec: ModelSpec, prompt: int) -> int:
    """Operations of the causal attention of all layers over a prompt of one sequence.

    A latent layer here expands its vectors into heads, which takes fewer operations than attention in the latent space
    (DeepSeek-V2, arXiv:2405.04434, section 2.1). The operations of the expansion itself are counted with the weights.
    """

    def make() -> tuple[tuple[PositionState, int], ...]:
        weights: dict[PositionState, int] = {}
        for layer, n in spec.as_read.groups:
            for state in _attended(spec.as_read, layer):
                per_entry = 2 * n * layer.n_heads * _multiply_adds(layer, state)
                # the heads do not change which positions are seen
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
    """Floor of one prompt of `prompt` tokens on `count` accelerators, which read the weights once and write the cache
    once.

    Args:
        vocabulary: rows of the output projection, which only the prompt's last token needs. With 0 the projection
            counts for every token, which is more than the least.

    Raises:
        ValueError: the number of parameters is not known, an argument is out of range, or the model has an encoder,
            through which the prompt passes instead.
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
    """``vocab_size`` of a configuration or of its text_config; 0 where it is not stated or is not a valid size."""
    config = config or {}
    parts = (config, config.get("text_config"))
    for part in parts:
        size = part.get("vocab_size") if isinstance(part, Mapping) else None
        if isinstance(size, int) and not isinstance(size, bool) and 0 < size <= MAX_SIZE:
            return size
    return 0
