"""The same model with another number of K/V heads: with more by copying heads, with fewer by merging their rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from attention.llm.model import Model
from attention.llm.products import Dense, Product

Merge = Callable[[Tensor], Tensor]
"""Merges the rows of some K/V heads into one head's: [heads, head_dim, ...] -> [head_dim, ...]."""


def mean(heads: Tensor) -> Tensor:
    """The mean of the heads' rows (Ainslie et al. 2023, arXiv:2305.13245, section 2.1)."""
    return heads.mean(dim=0)


def with_n_kv_heads(model: Model, n_kv_heads: int, merge: Merge = mean) -> Model:
    """The same model with another number of K/V heads.

    For more heads each head is copied, which changes no result. For fewer heads neighbours are merged by `merge`.

    Raises:
        ValueError: n_kv_heads does not divide n_heads, or is neither a multiple nor a divisor of the model's own.
    """
    a = model.architecture
    have = a.n_kv_heads
    if n_kv_heads < 1 or a.n_heads % n_kv_heads or max(have, n_kv_heads) % min(have, n_kv_heads):
        raise ValueError(
            f"n_kv_heads must divide n_heads = {a.n_heads}, and be a multiple or a divisor of the model's "
            f"{have}; got {n_kv_heads}"
        )
    if n_kv_heads == have:
        return model

    if n_kv_heads > have:
        # the rows of each head of keys and of values are repeated; blocks stay blocks
        copied = torch.arange(2 * have * a.head_dim).unflatten(0, (2 * have, a.head_dim))
        at = copied.repeat_interleave(n_kv_heads // have, dim=0).flatten()
        layers = [replace(layer, kv=layer.kv.picked(at)) for layer in model.layers]
    else:
        layers = [replace(layer, kv=_merged(layer.kv, have, n_kv_heads, a.head_dim, merge)) for layer in model.layers]
    return replace(model, architecture=replace(a, n_kv_heads=n_kv_heads), layers=layers)


def _merged(kv: Product, have: int, n_kv_heads: int, head_dim: int, merge: Merge) -> Dense:
    def regrouped(rows: Tensor) -> Tensor:
        heads = rows.unflatten(0, (have, head_dim))
        return torch.cat([merge(group) for group in heads.split(have // n_kv_heads)])

    both = [torch.cat([regrouped(part) for part in rows.chunk(2)]) for rows in kv.dense() if rows is not None]
    return Dense(*both)
