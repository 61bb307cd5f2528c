"""Counts a model's parameters in its own code on meta tensors. The model is built and not run, which takes seconds.

Use it in the worker process, like ``verify.py``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attention.oracle.built import LOCK, meta_built, prepared
from attention.parameters import Parameters, Routed

CHOSEN = (
    *("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_k", "moe_topk", "num_selected_experts"),
    *("moe_top_k", "top_k"),
)
"""The names in configurations of the number of experts that a token passes through."""

SIZES = (
    *("vocab_size", "intermediate_size", "d_ff", "ffn_dim", "moe_intermediate_size", "shared_expert_intermediate_size"),
    *("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "n_shared_experts"),
    *("intermediate_size_mlp", "shared_intermediate_size", "moe_shared_expert_intermediate_size"),
)
"""Sizes that decide the number of parameters and are not needed for a cache."""

_EXPERT = re.compile(r"(?:^|\.)(?:experts|feed_forward\.experts)\.(?:(\d+)\.)?")
_LAYER = re.compile(r"\.(\d+)\.")
_CROSS = re.compile(r"(?:EncDecAttention|encoder_attn)\.(?:k|v|k_proj|v_proj)\.")


def count(config: Mapping[str, Any]) -> Parameters:
    """The parameters of a configuration's decoder as its own code builds it (without a vision tower).

    Raises:
        ValueError: the configuration is refused, or the decoder cannot be built.
    """
    model_type, fields, prefix, tied = prepared(config)
    with LOCK:
        model, settings, has_head = meta_built(model_type, fields, prefix)
    found = _counted(model, settings, has_head, tied)
    return replace(found, assumed=_assumed(settings, fields, bool(found.routed)))


def _assumed(settings: Any, fields: Mapping[str, Any], has_experts: bool) -> tuple[str, ...]:
    """Sizes that the file does not state under any name, so that the class's defaults were built."""
    other = getattr(settings, "attribute_map", {})
    built = settings.to_dict()
    return tuple(
        f"{name} = {built[name]:,}"
        for name in SIZES
        if isinstance(built.get(name), int)
        and (has_experts or not ("expert" in name or "moe" in name))
        and all(fields.get(n) is None for n in (name, *(alias for alias, own in other.items() if own == name)))
    )


def _counted(model: Any, settings: Any, has_head: bool, tied: bool) -> Parameters:
    import torch

    sizes = dict(model.named_parameters())  # a tied parameter occurs once
    total = sum(p.numel() for p in sizes.values())
    head = model.get_output_embeddings() if has_head else None
    if not has_head and not tied:
        total += settings.vocab_size * settings.hidden_size
    looked_up = rows = 0
    seen: set[int] = set()
    for module in model.modules():
        if not isinstance(module, torch.nn.Embedding) or id(module.weight) in seen:
            continue
        seen.add(id(module.weight))
        is_input = module is model.get_input_embeddings()
        is_head = (head is not None and head.weight is module.weight) or (is_input and not has_head and tied)
        if is_head and not tied:  # the file states a separate projection, which this class does not build (T5)
            total += module.weight.numel()
            is_head = False
        if not is_head:
            looked_up += module.weight.numel()
            rows += module.weight.shape[1]
    idle = 0
    if settings.is_encoder_decoder:
        tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
        idle = sum(
            p.numel()
            for name, p in sizes.items()
            if id(p) not in tables and (name.startswith(("encoder.", "model.encoder.")) or _CROSS.search(name))
        )
    return Parameters(total, looked_up, rows, idle, _routed(sizes, settings), "own code")


def _routed(sizes: Mapping[str, Any], settings: Any) -> tuple[Routed, ...]:
    """The experts of the layers. Their modules are numbered, or their matrices are stacked along the first axis.

    Raises:
        ValueError: the configuration does not state how many experts a token passes through.
    """
    of_layer: dict[int, int] = {}
    experts: dict[int, int] = {}
    for name, parameter in sizes.items():
        match, layer = _EXPERT.search(name), _LAYER.search(name)
        if match is None or layer is None or ".shared_experts." in name:
            continue
        index = int(layer[1])
        of_layer[index] = of_layer.get(index, 0) + parameter.numel()
        n = int(match[1]) + 1 if match[1] is not None else int(parameter.shape[0])
        experts[index] = max(n, experts.get(index, 0))
    if not of_layer:
        return ()
    chosen = next((v for name in CHOSEN if isinstance(v := getattr(settings, name, None), int) and v > 0), None)
    if chosen is None:
        raise ValueError(f"how many experts a token passes through is not stated; looked for {', '.join(CHOSEN)}")
    equal = Counter((experts[i], size // experts[i]) for i, size in of_layer.items())
    return tuple(Routed(layers, n, chosen, each) for (n, each), layers in sorted(equal.items()))
