"""A decoder layer's work before and after its attention in a decode step: two native calls in place of about fifteen.

Before the attention come norm, products of queries, keys and values, and rotation. After it come output product, norm
and MLP; both results are added to the residual stream. `layer.h` is part of the library of ``kernels.matvec``.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from attention.kernels import matvec
from attention.kernels.weights import Q4Blocks, Q8Blocks

KINDS = ("float32", "bfloat16", "float16", "q4_0", "q4_1", "q8_0")
"""Kinds of weights in the order of layer.h."""


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("stride", ctypes.c_int64),
        ("kind", ctypes.c_int64),
    )


Held = Tensor | Q4Blocks | Q8Blocks
"""A matrix as it is stored."""


def _matrix(weight: Held) -> _Matrix:
    stored = weight if isinstance(weight, Tensor) else weight.data
    assert stored.device.type == "cpu"
    assert stored.stride(1) == 1
    kind = str(weight.dtype).removeprefix("torch.") if isinstance(weight, Tensor) else weight.kind
    rows, columns = weight.shape
    stride = stored.stride(0) * stored.element_size()
    return _Matrix(stored.data_ptr(), rows, columns, stride, KINDS.index(kind))


class NativeLayer:
    """The weights of a pre-norm layer with SwiGLU and no biases, and the two calls.

    Args:
        q, o, down: the matrices of queries, of the output and of the MLP's second product.
        kv: rows of keys, then of values.
        gate_up: rows of gate, then of up.
        norms: the weights before the attention and before the MLP, float32 [hidden] each.
        epsilon: what the norms add to the mean square.
    """

    def __init__(
        self, q: Held, kv: Held, o: Held, gate_up: Held, down: Held, norms: tuple[Tensor, Tensor], epsilon: float
    ) -> None:
        self._kept = q, kv, o, gate_up, down, *norms  # keeps alive what the pointers below point to
        self._q, self._kv, *after = (_matrix(one) for one in (q, kv, o, gate_up, down))
        self._before = ctypes.byref(self._q), ctypes.byref(self._kv), norms[0].data_ptr(), epsilon
        self._after = *(ctypes.byref(one) for one in after), norms[1].data_ptr(), epsilon

    def before(self, x: Tensor, turn: tuple[Tensor, Tensor] | None, head_dim: int) -> tuple[Tensor, Tensor]:
        """The newest position's queries, keys and values.

        Args:
            x: float32 [batch, hidden], at most ``matvec.MOST`` sequences.
            turn: cosine and sine, float32 [head_dim / 2], of the position's angles; None rotates nothing.

        Returns:
            float32 [batch, n_heads * head_dim] and [batch, 2 * n_kv_heads * head_dim], keys first.
        """
        batch = x.shape[0]
        q, kv = torch.empty(batch, self._q.rows), torch.empty(batch, self._kv.rows)
        cos, sin = (None, None) if turn is None else (turn[0].data_ptr(), turn[1].data_ptr())
        _functions()[0](
            *self._before, x.data_ptr(), cos, sin, head_dim, batch, q.data_ptr(), kv.data_ptr(), torch.get_num_threads()
        )
        return q, kv

    def after(self, heads: Tensor, x: Tensor) -> None:
        """Add the attention's output product and then the MLP's result to x, in place.

        Args:
            heads: the attention's result, float32 [batch, n_heads * head_dim].
            x: the residual stream, float32 [batch, hidden].
        """
        _functions()[1](*self._after, heads.data_ptr(), x.data_ptr(), x.shape[0], torch.get_num_threads())


@cache
def _functions() -> tuple[Any, Any]:
    library = matvec.native_library()
    before: Any = library.before_attention
    after: Any = library.after_attention
    pointer, number = ctypes.c_void_p, ctypes.c_int
    before.argtypes = [*[pointer] * 3, ctypes.c_float, *[pointer] * 3, number, number, pointer, pointer, number]
    after.argtypes = [*[pointer] * 4, ctypes.c_float, pointer, pointer, number, number]
    before.restype = after.restype = None
    return before, after
