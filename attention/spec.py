"""A model as a list of layers. Each layer names the states that it keeps (``states.py``).

This module also exports the names of ``states.py``, so that one import gives everything that describes a model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from attention.errors import check_choice
from attention.parameters import Parameters
from attention.states import (
    DTYPE_BYTES,
    MAX_HEADS,
    MAX_SIZE,
    FixedState,
    Kind,
    Layer,
    PositionState,
    Role,
    State,
    attention_layer,
    check_divides,
    check_size,
    latent_layer,
)

__all__ = [
    "DTYPE_BYTES",
    "MAX_HEADS",
    "MAX_SIZE",
    "FixedState",
    "Kind",
    "Layer",
    "ModelSpec",
    "PositionState",
    "Role",
    "State",
    "attention_layer",
    "check_divides",
    "check_size",
    "latent_layer",
    "uniform_spec",
]

MAX_STRIDES = 64
"""Most different strides in a model: each costs a division at every context. Published models have at most three."""


@dataclass(frozen=True)
class ModelSpec:
    """A model as a list of layers.

    Attributes:
        name: the name that the user gave the model.
        layers: all layers, in order.
        model_dtype: dtype of weights and activations ("bf16", …), None where the source does not state it.
        hidden_size, max_context, n_parameters, n_active_parameters, model_type: None where not known.
        weights: the parameters by what a decode step does with them, where more than their number is known.
        notes: what a reader must know to trust the numbers, e.g. fields that came from a class default.

    Raises:
        ValueError: no layers or too many, a size out of range, or a layer that shares the cache of no earlier layer.
    """

    name: str
    layers: tuple[Layer, ...]
    model_dtype: str | None = None
    hidden_size: int | None = None
    max_context: int | None = None
    n_parameters: int | None = None
    n_active_parameters: int | None = None
    model_type: str | None = None
    notes: tuple[str, ...] = ()
    weights: Parameters | None = None

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("a model must have at least one layer, got none")
        if len(self.layers) > 10_000:
            raise ValueError(f"n_layers must be at most 10,000, got {len(self.layers):,}")
        if self.model_dtype is not None:
            check_choice("model_dtype", self.model_dtype, DTYPE_BYTES)
        for name in ("hidden_size", "max_context", "n_parameters", "n_active_parameters"):
            value = getattr(self, name)
            if value is not None:
                check_size(name, value, maximum=2**50)
        strides = {s.stride for layer, _ in self.groups for s in layer.states if isinstance(s, PositionState)}
        if len(strides) > MAX_STRIDES:
            raise ValueError(f"a model may compress at most {MAX_STRIDES} different ways, got {len(strides)}")
        for index, layer in enumerate(self.layers):
            if layer.shares is not None and not (
                0 <= layer.shares < index and self.layers[layer.shares].kind is not Kind.SHARED
            ):
                raise ValueError(
                    f"layer {index} shares the cache of layer {layer.shares}, which is not an earlier layer "
                    "with a cache"
                )

    @property
    def parameters(self) -> Parameters | None:
        """The parameters as a decode step uses them; None where their number is not known.

        Where only totals are known, all active parameters count as read.
        """
        if self.n_parameters is None:
            return None
        if self.weights is not None and self.weights.total == self.n_parameters:
            return self.weights
        active = self.n_active_parameters or self.n_parameters
        return Parameters(self.n_parameters, idle=self.n_parameters - active)

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @cached_property
    def memo(self) -> dict[tuple[object, ...], Any]:
        """Results that depend only on the layers and the dtype; see ``terms.remembered``."""
        return {}

    def with_parameters(self, n_parameters: int) -> ModelSpec:
        """The same model with a stated number of parameters. It keeps the cached results about the layers."""
        other = replace(self, n_parameters=n_parameters, n_active_parameters=None, weights=None)
        other.__dict__.update(groups=self.groups, memo=self.memo)
        return other

    @property
    def as_read(self) -> ModelSpec:
        """A model whose layers hold only the entries that a step reads. It is this model unless an indexer picks some
        entries."""
        if ("as read",) not in self.memo:
            self.memo["as read",] = self._as_read()
        return self.memo["as read",] or self

    def _as_read(self) -> ModelSpec | None:
        if not any(isinstance(s, PositionState) and s.reads for layer, _ in self.groups for s in layer.states):
            return None
        read = {layer: layer.as_read for layer, _ in self.groups}
        return replace(self, layers=tuple(read[layer] for layer in self.layers))

    @cached_property
    def groups(self) -> tuple[tuple[Layer, int], ...]:
        """Distinct layers with how often each occurs, in order of first appearance."""
        return tuple(Counter(self.layers).items())

    @cached_property
    def attention_layer(self) -> Layer | None:
        """The layer that represents the model in pictures: its most frequent layer with an attention cache."""
        with_cache = [(layer, n) for layer, n in self.groups if layer.n_kv_heads]
        return max(with_cache, key=lambda pair: pair[1])[0] if with_cache else None

    @property
    def n_heads(self) -> int:
        """Query heads of the layer that represents the model (0: no attention)."""
        return self.attention_layer.n_heads if self.attention_layer else 0

    @property
    def n_kv_heads(self) -> int:
        """K/V heads of the layer that represents the model (0: no attention cache)."""
        return self.attention_layer.n_kv_heads if self.attention_layer else 0

    @property
    def head_dim(self) -> int:
        """Elements of a query/key head of the layer that represents the model (0: no attention)."""
        return self.attention_layer.k_head_dim if self.attention_layer else 0


def uniform_spec(
    n_layers: int,
    n_heads: int,
    n_kv_heads: int,
    head_dim: int,
    window: int | None = None,
    *,
    name: str = "typed sizes",
    model_dtype: str | None = None,
) -> ModelSpec:
    """A model of `n_layers` equal layers, from typed sizes.

    Args:
        head_dim: elements of a head; window: positions that a layer keeps, None keeps all.

    Raises:
        ValueError: a size out of range, or n_kv_heads does not divide n_heads.
    """
    check_size("n_layers", n_layers, maximum=10_000)
    layer = attention_layer(n_heads, n_kv_heads, head_dim, window)
    return ModelSpec(name, (layer,) * n_layers, model_dtype)
