"""What a case needs before it can be timed: its device, memory, and random tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from attention.kernels.case import Case, check_bytes
from attention.kernels.implementation import Implementation
from attention.kernels.registry import implementation
from attention.timing import speed

RESERVE = 0.9
"""Share of the free memory a case may use."""
LACKS = {
    "mps": "it has no float64 for the check, and no graph of recorded calls",
    "xpu": "its clock, its free memory and its caches are not read here",
}
"""Accelerators of torch -> why they are not timed. None of them was at hand to try."""


def resolve_device(device: str) -> str:
    """The device to use, "cpu" or "cuda": "auto" is CUDA where torch has a CUDA device, else the processor, also
    where torch has another accelerator.

    Raises:
        ValueError: `device` is "cuda", and there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device cuda: this machine has no CUDA device that torch can use{untimed_accelerator()}")
    return device


def untimed_accelerator() -> str:
    """A clause about an accelerator that torch has here and that is not timed; "" if there is none."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None or found.type == "cuda":
        return ""
    lacks = LACKS.get(found.type, "nothing here was written for it")
    return f"; its {found.type} device is not timed ({lacks}): use cpu"


def memory_needed(case: Case, impl: Implementation | None = None) -> int:
    """Most bytes that a case allocates: its cache, the cache of the layer before, the implementation's copies and
    scores, the flush buffers, the float64 check."""
    impl = impl or implementation(case.implementation, case.phase)
    query = 1 if case.phase == "decode" else case.context
    copies = impl.copies(case.group_size)
    scores = 12 * case.batch * case.n_heads * case.context * query if impl.holds_scores else 0
    check = check_bytes(case.n_heads, case.n_kv_heads, case.head_dim, case.context, query)
    outputs = case.query_bytes * 3 + 8 * (case.query_bytes // 2)
    device = case.device if case.device != "auto" else resolve_device("auto")
    layers = 2 if has_layer_before(replace(case, device=device)) else 1
    return int(case.cache_bytes * (layers + copies)) + scores + outputs + check + 2 * speed.flush_bytes(device)


def has_layer_before(case: Case) -> bool:
    """Whether each timed run follows an untimed run on another layer. With a large K/V cache it would change nothing,
    because reading the cache takes so long. ``case.device`` must be resolved."""
    return case.cache_bytes < speed.flush_bytes(case.device)


def random_tensor(shape: Sequence[int], dtype: torch.dtype, device: str) -> Tensor:
    """Normal random numbers, freshly drawn and repeated with a prime period.

    The period is no multiple of a head size, so the rows of a head differ and a misplaced row shows. To draw every
    element of a 4 GiB cache would take longer than to time it.
    """
    block = torch.randn(1_048_573, device=device).to(dtype)
    out = torch.empty(tuple(shape), dtype=dtype, device=device)
    flat = out.view(-1)
    whole = flat.numel() // block.numel() * block.numel()
    flat[:whole].view(-1, block.numel()).copy_(block.expand(whole // block.numel(), -1))
    flat[whole:].copy_(block[: flat.numel() - whole])
    return out


Inputs = tuple[Tensor, Tensor, Tensor]
"""q, k, v of a case."""


def make_inputs(case: Case) -> Inputs:
    """Fresh random q, k, v of a case: q [batch, n_heads, query, head_dim], k, v [batch, n_kv_heads, context, head_dim].

    `query` is 1 for decode and `context` for prefill. ``case.device`` must be resolved.
    """
    dtype = getattr(torch, case.dtype)
    query = 1 if case.phase == "decode" else case.context
    kv_shape = (case.batch, case.n_kv_heads, case.context, case.head_dim)
    q = random_tensor((case.batch, case.n_heads, query, case.head_dim), dtype, case.device)
    return q, random_tensor(kv_shape, dtype, case.device), random_tensor(kv_shape, dtype, case.device)
