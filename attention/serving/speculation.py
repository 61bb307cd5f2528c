"""Speculative decoding: the cache of a draft, and a step that checks several tokens at once.

A model's own draft (DeepSeek-V3's MTP, arXiv:2412.19437, section 2.2; EAGLE, arXiv:2401.15077) has one or more layers
that are as wide as the model's layers and keep their own cache. A step then checks q_len tokens of each sequence: the
newest token and the drafted ones. It reads the weights and the cache once for all of them (Leviathan et al.,
arXiv:2211.17192, section 3.4), so it does q_len times as many operations per byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from attention.floor import Floor, floor
from attention.memory.footprint import cache_of
from attention.memory.load import Load
from attention.memory.terms import remembered
from attention.serving.roofline import DecodeFloor
from attention.spec import Layer, ModelSpec, PositionState, check_size

MAX_DRAFT_TOKENS = 16
_STATED = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers", "num_mtp_modules")
_PARTS = ("text_config", "llm_config")


class Speculation(NamedTuple):
    """A load with a draft.

    Attributes:
        q_len: tokens of a sequence that one step checks.
        layers: layers of the draft; stated: whether the configuration states their number.
        cache_bytes: bytes of the draft's cache, all sequences together.
        step: floor of the step that checks the tokens.
        most: tokens per second if every drafted token is accepted, all sequences together.
    """

    q_len: int
    layers: int
    stated: bool
    cache_bytes: int
    step: Floor
    most: float


def stated_layers(config: Mapping[str, Any] | None) -> int | None:
    """The number of draft layers that a configuration states (1 to 64), None if it states none."""
    config = config or {}
    parts = [config, *(config[key] for key in _PARTS if isinstance(config.get(key), dict))]
    found = [part[name] for part in parts for name in _STATED if type(part.get(name)) is int]
    return next((n for n in found if 0 < n <= 64), None)


def draft_layer(spec: ModelSpec) -> Layer:
    """The layer whose sizes the draft's layers have.

    It is the model's first attention layer that holds every token, or its first attention layer if none does.

    Raises:
        ValueError: the model has no attention.
    """
    layers = [layer for layer in spec.layers if layer.key_value is not None]
    for layer in layers:
        if all(isinstance(state, PositionState) and state.window is None for state in layer.states):
            return layer
    if layers:
        return layers[0]
    raise ValueError("the model has no attention layer, so how wide a draft's would be is not known")


def with_draft(spec: ModelSpec, n_layers: int) -> ModelSpec:
    """The model with a draft of `n_layers` layers at its end. The draft's weights are not counted.

    Raises:
        ValueError: n_layers out of range, or the model has no attention.
    """
    check_size("draft layers", n_layers, minimum=0, maximum=64)
    if not n_layers:
        return spec
    layer = draft_layer(spec)

    def make() -> ModelSpec:
        return replace(spec, layers=spec.layers + (layer,) * n_layers)

    return remembered(spec, ("with draft", n_layers, spec.name, spec.n_parameters), make)


def checking(step: Floor, q_len: int, bytes_per_s: float, flops_per_s: float | None) -> Floor:
    """The floor of a step that checks `q_len` tokens of each sequence.

    Args:
        step: the floor for one token of each sequence.

    Raises:
        ValueError: q_len out of range.
    """
    check_size("q_len", q_len, maximum=MAX_DRAFT_TOKENS + 1)
    return floor(step.moved_bytes, step.flops * q_len, bytes_per_s, flops_per_s)


def speculation(
    spec: ModelSpec,
    load: Load,
    bound: DecodeFloor,
    draft_tokens: int,
    stated: int | None,
    bytes_per_s: float,
    flops_per_s: float | None,
) -> Speculation:
    """A load in which a draft proposes `draft_tokens` tokens of each sequence for every step.

    Args:
        bound: floor of a step with one token of each sequence, with the draft's cache.
        stated: ``stated_layers`` of the model's configuration; None: the draft has one layer.

    Raises:
        ValueError: draft_tokens out of range, or the model has no attention.
    """
    check_size("draft tokens", draft_tokens, maximum=MAX_DRAFT_TOKENS)
    layers, q_len = stated or 1, 1 + draft_tokens
    one = replace(spec, layers=(draft_layer(spec),) * layers)
    held = cache_of(one, load).state_bytes
    step = checking(bound.floor, q_len, bytes_per_s, flops_per_s)
    most = bound.batch * q_len / step.time_s
    return Speculation(q_len, layers, stated is not None, held, step, most)
