"""What a model does before its layers and after them, without running the layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@torch.no_grad()
def embed(model: Any, layers: nn.ModuleList, tokens: Tensor) -> tuple[Tensor, list[dict[str, Any]]]:
    """(embedded text [windows, length, hidden], the keyword arguments of each layer for one window).

    Args:
        model: the causal language model, with or without its head; nothing after its layers is used.
        layers: the model's decoder layers.
        tokens: int64 [windows, length].
    """
    given: list[dict[str, Any]] = [{} for _ in layers]
    hidden: list[Tensor] = []

    def forward(index: int, states: Tensor, keywords: dict[str, Any]) -> Tensor:
        given[index] = keywords
        if index == 0:
            hidden.append(states)
        return states

    with _in_place_of(layers, forward):
        for window in tokens.split(1):
            model(window, use_cache=False)
    return torch.cat(hidden), given


@torch.no_grad()
def mean_loss(model: Any, layers: nn.ModuleList, tokens: Tensor, final: Tensor) -> float:
    """Mean loss of `tokens` [windows, length], in nats per token, from the last layer's output `final`
    [windows, length, hidden]."""
    last = len(layers) - 1
    total = 0.0
    for window, states in zip(tokens.split(1), final.split(1), strict=True):

        def forward(index: int, x: Tensor, keywords: dict[str, Any], states: Tensor = states) -> Tensor:
            return states if index == last else x

        with _in_place_of(layers, forward):
            logits = model(window, use_cache=False).logits
        total += float(functional.cross_entropy(logits[0, :-1].float(), window[0, 1:]))
    return total / len(tokens)


@contextmanager
def _in_place_of(layers: nn.ModuleList, forward: Callable[[int, Tensor, dict[str, Any]], Tensor]) -> Iterator[None]:
    def stand_in(index: int) -> Callable[..., Tensor]:
        def run(hidden_states: Tensor, *args: Any, **keywords: Any) -> Tensor:
            if args:
                raise ValueError("this family's layers take more than the hidden states by position")
            return forward(index, hidden_states, keywords)

        return run

    try:
        for index, layer in enumerate(layers):
            layer.forward = stand_in(index)
        yield
    finally:
        for layer in layers:
            del layer.forward
