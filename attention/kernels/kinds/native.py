"""One pass over each kind of cache on the processor: `native.cpp`, compiled once and then kept.

Each row is read once, in its format, for all query heads of its group and all new tokens. Quantised rows are widened in
the core. For bfloat16, tiles compute both products where the processor has them (AMX). Elsewhere, and for float32 and
float16, the products are summed as float32 in registers.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attention.kernels import compiled, cpp
from attention.kernels.kinds import plain
from attention.kernels.kinds.case import BLOCK
from attention.kernels.kinds.stored import BLOCK_BYTES, Cache, Plane

HERE = Path(__file__).parent
SOURCES = (
    *(HERE / f"native{rest}" for rest in (".cpp", "_buffers.h", "_products.h", "_rows.h")),
    HERE.parent / "registers.h",
)
FLAGS = cpp.FLAGS
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
FORMATS = {"int8-token": 3, "fp8-head": 4, "q8_0": 5, "q4_0": 6, "int4-g32": 7}
"""The numbers of a plane's formats in the source. A plane in "dtype" has the number of its dtype in DTYPES."""


def unavailable(device: str) -> str | None:
    """Why the kernel can't run on that type of device, or None."""
    if device != "cpu":
        return "made for processors; on CUDA the Triton kernel does this"
    return compiled.no_compiler()


class _Plane(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("data", "scale", "zero")),
        *((name, ctypes.c_int64) for name in ("sequence", "head", "row")),
        *((name, ctypes.c_int64) for name in ("scale_sequence", "scale_head", "scale_row")),
        *((name, ctypes.c_int64) for name in ("format", "dim", "bytes")),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "out")),
        *((name, _Plane) for name in ("k", "v")),
        ("chosen", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("sequences", "kv_heads", "rows", "q_len", "slots", "context", "window")),
        *((name, ctypes.c_int64) for name in ("value_dim", "one_plane", "threads", "tokens")),
        ("scale", ctypes.c_double),
    )


def attend(q: Tensor, cache: Cache, chosen: Tensor | None = None) -> Tensor:
    """One step: q [batch, n_heads, q_len, head_dim] -> [batch, n_heads, q_len, value_dim].

    Args:
        chosen: positions to attend to in a sparse cache, [batch, q_len, top_k], -1 for none; None attends to all.

    Raises:
        ValueError: a batch or context of 0, a dtype of q that is not in DTYPES, a plane that is not on the CPU or has
            another dtype than q, rows that are too short or whose elements are not side by side, or a dim that a
            format's groups do not divide.
        RuntimeError: the compiler failed, or its library can't be loaded.
    """
    batch, n_heads, q_len, head_dim = q.shape
    slots = cache.k.positions
    if not batch or not slots:
        raise ValueError(f"batch and context must be at least 1, got {batch} and {slots}")
    if q.dtype not in DTYPES:
        raise ValueError(f"q must be float32, bfloat16 or float16, got {str(q.dtype).removeprefix('torch.')}")
    tokens = 1
    if chosen is not None:
        # each new token has picked its own positions, so the source takes it as a sequence of its own
        q, slots, tokens = q.transpose(1, 2), chosen.shape[-1], q_len
        chosen = chosen.to(torch.int64).contiguous()
    q = q.contiguous()
    out = torch.empty(*q.shape[:3], cache.value_dim, dtype=q.dtype)
    k, v = cache.k, cache.v or cache.k
    step = _Step(
        q.data_ptr(), out.data_ptr(), _as_struct(k, "k", q, head_dim), _as_struct(v, "v", q, cache.value_dim),
        None if chosen is None else chosen.data_ptr(),
        batch * tokens, cache.n_kv_heads, n_heads // cache.n_kv_heads * q_len // tokens, q_len // tokens,
        slots, cache.context if chosen is None else slots, cache.window,
        cache.value_dim, cache.v is None, torch.get_num_threads(), tokens, cache.scale * math.log2(math.e),
    )  # fmt: skip
    _function(q.dtype, FLAGS)(ctypes.byref(step))
    return out if chosen is None else out.transpose(1, 2)


def attend_sparse(q: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
    """Attention to the positions that ``plain.pick`` picks; the products of the indexer are PyTorch's.

    Returns:
        The result, as in :func:`attend`, and the positions, as in ``plain.pick``.
    """
    chosen = plain.pick(cache)
    return attend(q, cache, chosen), chosen


def _as_struct(plane: Plane, name: str, q: Tensor, dim: int) -> _Plane:
    """A plane as the source takes it. Each row must have at least `dim` elements."""
    data, scale, zero = plane.data, plane.scale, plane.zero
    if plane.format == "dtype" and data.dtype != q.dtype:
        raise ValueError(f"{name} must have the queries' dtype {q.dtype}, got {data.dtype}")
    for what, x in ((name, data), (f"{name}'s scale", scale), (f"{name}'s zero", zero)):
        if x is not None and x.device.type != "cpu":
            raise ValueError(f"{what} must be on the CPU, got {x.device}")
    if data.shape[-1] > 1 and data.stride(-1) != 1:
        raise ValueError(f"a row's elements must lie side by side, got a stride of {data.stride(-1)} in {name}")
    if dim > plane.dim:
        raise ValueError(f"{name} must have rows of at least {dim} elements, got {plane.dim}")
    if plane.format in (*BLOCK_BYTES, "int4-g32") and plane.dim % BLOCK:
        raise ValueError(f"dim must be divisible by {BLOCK} in {plane.format}, got {plane.dim}")
    if scale is not None and plane.format == "int4-g32":
        if zero is None or zero.stride() != scale.stride():
            raise ValueError(f"scale and zero must lie alike, got {scale.stride()} and {zero and zero.stride()}")
        if scale.shape[-1] > 1 and scale.stride(-1) != 1:
            raise ValueError(f"a row's scales must lie side by side, got a stride of {scale.stride(-1)} in {name}")
    strides: tuple[int, ...] = (0, 0, 0)
    if scale is not None:
        by_head = plane.format == "fp8-head"
        strides = (0, scale.stride(0), 0) if by_head else tuple(scale.stride()[:3])
    size = 0 if scale is None else scale.element_size()
    return _Plane(
        data.data_ptr(),
        None if scale is None else scale.data_ptr(),
        None if zero is None else zero.data_ptr(),
        *(stride * data.element_size() for stride in data.stride()[:3]),
        *(stride * size for stride in strides),
        DTYPES[q.dtype] if plane.format == "dtype" else FORMATS[plane.format],
        plane.dim,
        data.shape[-1] * data.element_size(),
    )


@cache
def _function(dtype: torch.dtype, flags: str) -> Any:
    function: Any = getattr(_library(flags), f"attend_{str(dtype).removeprefix('torch.')}")
    function.argtypes = [ctypes.c_void_p]
    function.restype = ctypes.c_int
    return function


@cache
def _library(flags: str) -> ctypes.CDLL:
    return cpp.library("kernel over kinds of cache", "kinds", SOURCES, flags)
