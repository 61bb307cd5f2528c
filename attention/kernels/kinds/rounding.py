"""Rounds new rows to a cache's format, in place in the cache: one native call for each new token, not about ten.

`rounding.cpp` is compiled once and then kept. It gives the same numbers as ``stored.store``, its specification.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from attention.kernels import cpp
from attention.kernels.kinds.stored import Plane
from attention.kernels.libraries import ROUNDING

KINDS = ("int8-token", "q8_0", "q4_0", "int4-g32")
"""Formats in the order of the source."""


class _Target(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("data", "scale", "zero")),
        *((name, ctypes.c_int64) for name in ("head", "row", "scale_head", "scale_row")),
    )


def unavailable(cache_format: str, x: Tensor) -> str | None:
    """Why rows cannot be rounded natively, or None."""
    if cache_format not in KINDS:
        return f"made for {', '.join(KINDS)}"
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return "made for float32 on processors"
    return cpp.unavailable(ROUNDING)


def store_into(plane: Plane, at: int, x: Tensor) -> None:
    """Round x and write it to a plane's positions from `at` on.

    Args:
        plane: contiguous, in a format of KINDS.
        at: the first position to write.
        x: float32 [batch, n_kv_heads, new, dim].

    Raises:
        ValueError: x has more rows than the plane has positions from `at` on, or other sizes than the plane.
        RuntimeError: the compiler failed, or its library can't be loaded.
    """
    batch, n_kv_heads, new, dim = x.shape
    data, scale, zero = plane.data, plane.scale, plane.zero
    if at + new > plane.positions or data.shape[:2] != x.shape[:2] or dim != plane.dim:
        raise ValueError(
            f"x must be [{', '.join(map(str, data.shape[:2]))}, at most {plane.positions - at}, {plane.dim}], "
            f"got {list(x.shape)}"
        )
    for part in (data, scale, zero):
        assert part is None or part.is_contiguous()
    size = 0 if scale is None else scale.element_size()
    scale_head, scale_row = (0, 0) if scale is None else (scale.stride(1) * size, scale.stride(2) * size)
    target = _Target(
        data.data_ptr() + at * data.stride(2) * data.element_size(),
        None if scale is None else scale.data_ptr() + at * scale_row,
        None if zero is None else zero.data_ptr() + at * scale_row,
        data.stride(1) * data.element_size(),
        data.stride(2) * data.element_size(),
        scale_head,
        scale_row,
    )
    x = x.contiguous()
    _function(cpp.FLAGS)(x.data_ptr(), batch * n_kv_heads, new, dim, KINDS.index(plane.format), ctypes.byref(target))


@cache
def _function(flags: str) -> Any:
    function: Any = cpp.library(ROUNDING, flags).round_rows
    number = ctypes.c_int64
    function.argtypes = [ctypes.c_void_p, number, number, number, ctypes.c_int, ctypes.c_void_p]
    function.restype = None
    return function
