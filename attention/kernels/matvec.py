"""Weights times one to eight vectors, as in a decode step. The memory is the limit: weights are read at its rate.

`matvec.cpp` is compiled once and then kept. It reads each weight once, in order, on all cores, widens it in a register
and adds up in float32. PyTorch's own products at batch 1 read bfloat16 at about half the memory's rate here. Where
there is neither a library built ahead nor a compiler, PyTorch computes the products.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from attention.kernels import cpp
from attention.kernels.libraries import MATVEC
from attention.kernels.weights import Int8Rows, Q4Blocks, Q8Blocks

__all__ = ["Int8Rows", "Q4Blocks", "Q8Blocks", "Weight", "matvec", "plain", "unavailable", "widened"]

Weight = Tensor | Int8Rows | Q4Blocks | Q8Blocks
"""A matrix [rows, columns]: float32, bfloat16 or float16, or one of `attention.kernels.weights`."""

FLAGS = cpp.FLAGS
MOST = 8
"""Most vectors at once. With more vectors a matrix library is at least as fast."""
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def unavailable(device: str) -> str | None:
    """Why the native products can't run on that type of device, or None."""
    if device != "cpu":
        return "made for processors"
    return cpp.unavailable(MATVEC)


def matvec(weight: Weight, x: Tensor) -> Tensor:
    """weight [rows, columns] times x [..., columns] of at most eight vectors -> [..., rows], in x's dtype.

    Sums are float32. For four-bit blocks, each 32 numbers of x may be rounded to 16 bits, scaled by the largest of
    them. There is no gradient.

    Raises:
        ValueError: a device, dtype, shape, stride or number of vectors that is not accepted; the message names it.
        RuntimeError: the compiler failed, or its library can't be loaded.
    """
    stored, scale, kind = _parts(weight)
    rows, columns = weight.shape
    if stored.device.type != "cpu" or x.device.type != "cpu":
        raise ValueError(f"weight and x must be on the CPU, got {stored.device} and {x.device}")
    if x.dtype not in _FLOATS:
        raise ValueError(f"x must be float32, bfloat16 or float16, got {_name(x.dtype)}")
    if not x.ndim or x.shape[-1] != columns:
        raise ValueError(f"x must end in {columns} columns as the weight has them, got {list(x.shape)}")
    if stored.stride(1) != 1 and stored.shape[1] > 1:
        raise ValueError(f"weight must have a row's columns side by side (stride 1), got stride {stored.stride(1)}")
    vectors = x.numel() // columns if columns else 0
    if vectors > MOST:
        raise ValueError(f"x must be at most {MOST} vectors, got {vectors}")
    if not columns or not rows or not vectors:
        return x.new_zeros((*x.shape[:-1], rows))
    if unavailable("cpu"):
        return plain(weight, x)
    # bfloat16 weights multiply bfloat16 vectors directly; all other weights multiply float32 vectors
    taken = x.dtype if kind == "bfloat16" and x.dtype == torch.bfloat16 else torch.float32
    given = x.to(taken).contiguous()
    y = torch.empty((*x.shape[:-1], rows), dtype=taken)
    _function(f"{kind}_{_name(taken)}", FLAGS)(
        stored.data_ptr(),
        None if scale is None else scale.contiguous().data_ptr(),
        given.data_ptr(),
        y.data_ptr(),
        rows,
        columns,
        stored.stride(0) * stored.element_size(),
        vectors,
        torch.get_num_threads(),
    )
    return y.to(x.dtype)


def plain(weight: Weight, x: Tensor) -> Tensor:
    """The same product in plain PyTorch; shapes as in :func:`matvec`. int8 and blocks are widened at every call."""
    if isinstance(weight, Tensor) and weight.dtype == x.dtype:
        return torch.nn.functional.linear(x, weight)
    wide = weight.float() if isinstance(weight, Tensor) else weight.widened()
    return torch.nn.functional.linear(x.float(), wide).to(x.dtype)


def widened(weight: Q4Blocks | Q8Blocks) -> Tensor:
    """Blocks as float32 [rows, columns], for products of many vectors."""
    rows, columns = weight.shape
    if unavailable(weight.data.device.type) or not weight.data.numel():
        return weight.widened()
    data = weight.data if weight.data.stride(1) == 1 else weight.data.contiguous()
    out = torch.empty(rows, columns)
    _widening(weight.kind, FLAGS)(
        data.data_ptr(), out.data_ptr(), rows, columns, data.stride(0), torch.get_num_threads()
    )
    return out


def _parts(weight: Weight) -> tuple[Tensor, Tensor | None, str]:
    if isinstance(weight, Int8Rows):
        return weight.values, weight.scale, "int8"
    if isinstance(weight, (Q4Blocks, Q8Blocks)):
        return weight.data, None, weight.kind
    if weight.ndim != 2 or weight.dtype not in _FLOATS:
        raise ValueError(
            "weight must be [rows, columns] of float32, bfloat16 or float16, Int8Rows, Q4Blocks or Q8Blocks, "
            f"got {_name(weight.dtype)} {list(weight.shape)}"
        )
    return weight, None, _name(weight.dtype)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@cache
def _function(name: str, flags: str) -> Any:
    function: Any = getattr(_library(flags), name)
    pointer, long = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [*[pointer] * 4, long, long, long, ctypes.c_int, ctypes.c_int]
    function.restype = None
    return function


@cache
def _widening(kind: str, flags: str) -> Any:
    function: Any = getattr(_library(flags), f"{kind}_widen")
    pointer, long = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, pointer, long, long, long, ctypes.c_int]
    function.restype = None
    return function


def native_library() -> ctypes.CDLL:
    """The library of the compiled products, which also holds the functions of ``kernels.layer``."""
    return _library(FLAGS)


@cache
def _library(flags: str) -> ctypes.CDLL:
    return cpp.library(MATVEC, flags)
