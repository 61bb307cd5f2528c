"""Decode attention in C++ for the processor: `native.cpp`, compiled once for each head size and then kept.

It does in one pass what plain PyTorch cannot. It reads each key and value once, in memory's order, for all query heads
of the group. It prefetches the next ones while these are multiplied. Where the processor has the instruction, it
multiplies pairs of bfloat16. Every core gets an equal piece of the cache, even with one K/V head and one sequence.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from attention.kernels import cpp, libraries
from attention.kernels.case import Case

HEAD_DIM_STEP = 16
"""float32 numbers in the widest register. A head must fill whole registers."""
FLAGS = cpp.FLAGS


def unavailable(device: str) -> str | None:
    """Why the kernel can't run on that type of device, or None."""
    if device != "cpu":
        return "made for processors; on CUDA the fused kernels do this"
    reasons = [cpp.unavailable(libraries.decode(head_dim)) for head_dim in libraries.HEAD_DIMS]
    return None if None in reasons else reasons[0]


def unsuited(case: Case) -> str | None:
    """Why the kernel is not meant for the case, or None."""
    return why_not(case.head_dim)


@cache
def why_not(head_dim: int) -> str | None:
    """Why the kernel can't run here with this head size, or None. Without a compiler it has the sizes built ahead."""
    if head_dim % HEAD_DIM_STEP:
        return f"needs a head_dim divisible by {HEAD_DIM_STEP}, got {head_dim}"
    if (why := cpp.unavailable(libraries.decode(head_dim))) is None:
        return None
    ahead = [str(size) for size in libraries.HEAD_DIMS if cpp.unavailable(libraries.decode(size)) is None]
    return f"without a C++ compiler needs a head_dim of {', '.join(ahead)}, got {head_dim}" if ahead else why


def decode(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One decode step: q [batch, n_heads, 1, head_dim]; k, v [batch, n_kv_heads, context, head_dim] -> like q.

    Keys and values may be the front part of a longer cache. They are copied only where the positions of one head are
    not contiguous.

    Raises:
        ValueError: a batch or context of 0.
        RuntimeError: the compiler failed, or its library can't be loaded.
    """
    batch, n_kv_heads, context, head_dim = k.shape
    if not batch or not context:
        raise ValueError(f"batch and context must be at least 1, got {batch} and {context}")
    q = q.contiguous()
    out = torch.empty_like(q)
    k_strides, v_strides = k.stride(), v.stride()
    if (*k_strides[2:], *v_strides[2:]) != (head_dim, 1, head_dim, 1):
        k, v = k.contiguous(), v.contiguous()
        k_strides, v_strides = k.stride(), v.stride()
    _function(head_dim, q.dtype, FLAGS)(
        q.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        out.data_ptr(),
        batch * n_kv_heads,
        n_kv_heads,
        q.shape[1] // n_kv_heads,
        context,
        *k_strides[:2],
        *v_strides[:2],
        head_dim**-0.5,
        torch.get_num_threads(),
    )
    return out


@cache
def _function(head_dim: int, dtype: torch.dtype, flags: str) -> Any:
    library = cpp.library(libraries.decode(head_dim), flags)
    function: Any = getattr(library, f"decode_{str(dtype).removeprefix('torch.')}")
    pointer, long = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [*[pointer] * 4, long, long, ctypes.c_int, *[long] * 5, ctypes.c_float, ctypes.c_int]
    function.restype = None
    return function
