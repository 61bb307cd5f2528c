"""Attention of other libraries behind our interface: it takes the same tensors and gives the same result."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from attention.kernels.registry import Implementation


def peers(phase: str) -> dict[str, Implementation]:
    """The installed peers by name, for a phase ("decode" or "prefill")."""
    found = _transformers(phase)
    try:
        found += _x_transformers(phase)
    except ImportError:
        print("x-transformers is not installed: left out")
    return {peer.name: peer for peer in found}


def _peer(name: str, label: str, attend: Any, phase: str) -> Implementation:
    return Implementation(name, label, "", attend, copies=lambda group_size: float(group_size), phase=phase)


def _transformers(phase: str) -> list[Implementation]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.models.llama.modeling_llama import eager_attention_forward

    def call(function: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        # these functions read these attributes of the attention module that calls them
        module = SimpleNamespace(
            num_key_value_groups=q.shape[1] // k.shape[1], is_causal=phase == "prefill", training=False, layer_idx=0
        )
        out: Tensor = function(module, q, k, v, mask, scaling=q.shape[-1] ** -0.5)[0]
        return out.transpose(1, 2)

    def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return call(sdpa_attention_forward, q, k, v, None)

    def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = None
        if phase == "prefill":
            size = q.shape[2], k.shape[2]
            mask = torch.full(size, torch.finfo(q.dtype).min, dtype=q.dtype, device=q.device).triu(1)
        return call(eager_attention_forward, q, k, v, mask)

    return [
        _peer("transformers_sdpa", "transformers, sdpa", sdpa, phase),
        _peer("transformers_eager", "transformers, eager", eager, phase),
    ]


def _x_transformers(phase: str) -> list[Implementation]:
    from x_transformers.attend import Attend

    attends = {flash: Attend(causal=phase == "prefill", flash=flash) for flash in (False, True)}

    def make(flash: bool) -> Any:
        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            # there query heads go to K/V heads in turn; here each K/V head has consecutive query heads
            n_kv_heads = k.shape[1]
            dealt = q.unflatten(1, (n_kv_heads, -1)).transpose(1, 2).flatten(1, 2)
            out: Tensor = attends[flash](dealt, k, v)[0]
            return out.unflatten(1, (-1, n_kv_heads)).transpose(1, 2).flatten(1, 2)

        return attend

    return [
        _peer("x_transformers", "x-transformers", make(False), phase),
        _peer("x_transformers_flash", "x-transformers, flash=True", make(True), phase),
    ]
