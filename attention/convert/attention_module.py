"""Reads an attention module of transformers as heads, and writes merged heads as tensors of the new module."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from attention.convert.layouts import Layout
from attention.convert.merging import Merged
from attention.convert.moments import Heads, Rotation

INTERLEAVED = frozenset({"cohere", "cohere2", "ernie4_5", "glm", "glm4", "helium"})
"""Families whose rotary pairs are neighbours; all others pair the halves of a head."""


def rotation_of(family: str, module: nn.Module, n_rotated: int) -> Rotation:
    """The rotation of one layer, as in the family's code in transformers.

    Args:
        family: the config's model_type.
        module: the layer's attention.
        n_rotated: dimensions that the model's rotary embedding rotates.
    """
    windowed = getattr(module, "sliding_window", None) is not None
    without = (
        (family == "smollm3" and not module.use_rope)
        or (family == "cohere2" and not windowed)
        or (family == "exaone4" and windowed and not module.is_sliding)
    )
    return Rotation(0 if without else n_rotated, "interleaved" if family in INTERLEAVED else "half")


def is_normed(module: nn.Module) -> bool:
    """Whether queries and keys pass through a norm after their projection."""
    return any(
        "norm" in name for name, child in module.named_children() if any(True for _ in child.parameters()) or child
    )


def find_layers(model: nn.Module, layout: Layout) -> nn.ModuleList:
    """The list of decoder layers of a transformers model.

    Raises:
        ValueError: the model has no such list, or several.
    """
    found = [
        m
        for name, m in model.named_modules()
        if name.rsplit(".", 1)[-1] == layout.layers and isinstance(m, nn.ModuleList)
    ]
    if len(found) != 1:
        raise ValueError(f"the model has {len(found)} lists named {layout.layers}, one was expected")
    return found[0]


def attention_of(layer: nn.Module, layout: Layout) -> nn.Module:
    """The attention module of a decoder layer."""
    return layer.get_submodule(layout.attention)


def with_fewer_heads(module: nn.Module, config: Any, layout: Layout, n_kv_heads: int, layer: int) -> nn.Module:
    """A new module of the same class with `n_kv_heads` K/V heads, on the same device and in the same dtype."""
    first = next(module.parameters())
    with first.device:
        new = type(module)(config_with(config, layout, n_kv_heads), layer)
    return new.to(dtype=first.dtype).train(module.training)


def config_with(config: Any, layout: Layout, n_kv_heads: int) -> Any:
    """A copy of a transformers config with another number of K/V heads."""
    new = deepcopy(config)
    owner = new
    for key in layout.kv_heads_field[:-1]:
        owner = getattr(owner, key)
    setattr(owner, layout.kv_heads_field[-1], n_kv_heads)
    return new


def read_heads(state: Mapping[str, Tensor], layout: Layout, n_heads: int, n_kv_heads: int) -> Heads:
    """The projections of an attention module, from `state`: name inside the module -> tensor."""
    rows = {}
    if layout.fused:
        whole = _with_bias(state, layout.fused)
        head_dim = len(whole) // (n_heads + 2 * n_kv_heads)
        sizes = [n * head_dim for n in (n_heads, n_kv_heads, n_kv_heads)]
        rows = dict(zip("qkv", whole.split(sizes), strict=True))
    else:
        rows = {n: _with_bias(state, p) for n, p in zip("qkv", (layout.query, *layout.separate), strict=True)}
    q, k, v = (
        rows[n].unflatten(0, (count, -1)) for n, count in zip("qkv", (n_heads, n_kv_heads, n_kv_heads), strict=True)
    )
    return Heads(q, k, v, state[f"{layout.out}.weight"].unflatten(1, (n_heads, -1)))


def _with_bias(state: Mapping[str, Tensor], name: str) -> Tensor:
    weight = state[f"{name}.weight"]
    bias = state.get(f"{name}.bias")
    # without a bias there is no column for it, so the merged projection has no bias either
    return weight if bias is None else torch.cat([weight, bias[:, None]], 1)


def merged_state(state: Mapping[str, Tensor], merged: Merged, layout: Layout) -> dict[str, Tensor]:
    """The tensors of the new module: name inside the module -> tensor.

    Norms and sinks of single query heads are reordered with the heads. Norms of K heads are averaged over the group.
    """
    heads = merged.heads
    order = list(merged.query_order)
    n_heads, head_dim = heads.q.shape[:2]
    n_kv = sum(len(g) for g in merged.groups)
    rows = {"q": heads.q.flatten(0, 1), "k": heads.k.flatten(0, 1), "v": heads.v.flatten(0, 1)}
    places = (
        {layout.fused: torch.cat(list(rows.values()))}
        if layout.fused
        else dict(zip((layout.query, *layout.separate), rows.values(), strict=True))
    )
    new: dict[str, Tensor] = {f"{layout.out}.weight": heads.o.flatten(1)}
    for name, tensor in state.items():
        module, _, last = name.rpartition(".")
        parts = module.split(".")
        if name in new:
            continue
        if module in places:
            new[name] = (
                places[module][:, -1].clone() if last == "bias" else places[module][:, : tensor.shape[1]].clone()
            )
        elif name == "sinks":
            new[name] = tensor[order]
        elif parts[-1].isdigit():  # one norm per head
            is_query, head = parts[0].startswith("q"), int(parts[-1])
            stem = ".".join(parts[:-1])
            if is_query:
                new[name] = state[f"{stem}.{order[head]}.{last}"]
            elif head < len(merged.groups):
                new[name] = torch.stack([state[f"{stem}.{h}.{last}"] for h in merged.groups[head]]).mean(0)
        elif "norm" in module and tensor.numel() == n_heads * head_dim and parts[-1].startswith("q"):
            new[name] = tensor.reshape(n_heads, head_dim)[order].reshape(tensor.shape)
        elif "norm" in module and tensor.numel() == n_kv * head_dim and parts[-1].startswith("k") and n_kv > 1:
            grouped = torch.stack([tensor.reshape(n_kv, head_dim)[list(g)].mean(0) for g in merged.groups])
            new[name] = grouped.reshape(-1, *tensor.shape[1:])
        else:
            new[name] = tensor
    return new
