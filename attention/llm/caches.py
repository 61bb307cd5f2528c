"""A layer's cache of keys and values that are rounded to fewer bits when they are added. Its memory is allocated once.

``kernels.kinds.stored`` specifies the formats and the rounding. ``kernels.kinds.rounding`` rounds natively, and
``kernels.kinds.native`` reads rows in their format. Keys are stored rotated, as in engines. fp8 is e4m3 with a scale of
1, as in engines without calibrated scales. int8-token has a float32 scale per position and head. The other formats are
those of ``attention.formats``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attention.kernels.kinds import native, plain, rounding, stored
from attention.kernels.kinds.case import BLOCK
from attention.kernels.kinds.stored import BLOCK_BYTES, FP8_MAX, Plane
from attention.layers import KVCache

FLOATS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
ROUNDED = {"fp8": "fp8-head", "int8-token": "int8-token", "int4-g32": "int4-g32", "q8_0": "q8_0", "q4_0": "q4_0"}
"""Name of a format here -> its name in ``stored``."""


class RoundedCache:
    """Keys and values of the tokens so far. Keys and values may have different formats.

    Attributes:
        k, v: planes of [batch, n_kv_heads, capacity] rows; rows from `length` on are not yet written.
        length: tokens held.
        widened_bytes: the most bytes that one reading widened beside the cache.
    """

    def __init__(self, batch: int, n_kv_heads: int, capacity: int, head_dim: int, k_dtype: str, v_dtype: str) -> None:
        self.k, self.v = (_empty(batch, n_kv_heads, capacity, head_dim, name) for name in (k_dtype, v_dtype))
        self.length = self.widened_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of the rows held, scales included."""
        return sum(_held(plane, self.length) for plane in (self.k, self.v))

    def append(self, k: Tensor, v: Tensor) -> None:
        """Round and store the newest tokens, [batch, n_kv_heads, new, head_dim] each.

        Raises:
            ValueError: more tokens than the capacity.
        """
        end = self.length + k.shape[2]
        if end > self.k.positions:
            raise ValueError(f"the cache holds {self.k.positions} tokens, got {end}")
        for plane, x in ((self.k, k), (self.v, v)):
            if rounding.unavailable(plane.format, x) is None:
                rounding.store_into(plane, self.length, x)
            else:
                _put(plane, self.length, _rounded(plane, x))
        self.length = end

    def attend(self, q: Tensor, window: int) -> Tensor:
        """The newest token's step over all tokens held: q [batch, n_heads, 1, head_dim] -> the same shape.

        Args:
            window: tokens that the newest one sees, itself included; 0 for all.
        """
        k, v = _front(self.k, self.length), _front(self.v, self.length)
        cache = stored.Cache(k, v, q.shape[-1], q.shape[-1] ** -0.5, self.length, window)
        # of a plane that is not rounded, the kernel reads the queries' dtype only
        floats = [plane.data.dtype for plane in (k, v) if plane.format == "dtype"] or [q.dtype]
        if len({*floats}) == 1 and native.unavailable(q.device.type) is None:
            return native.attend(q.to(floats[0]), cache).to(q.dtype)
        self._note(sum(2 * plane.data.shape[1] * plane.positions * plane.dim for plane in (k, v)))
        return plain.attend(q, cache)

    def widened(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """All keys and values held, each [batch, n_kv_heads, length, head_dim], for many queries at once."""
        k, v = (stored.read(_front(plane, self.length), dtype) for plane in (self.k, self.v))
        self._note(sum(x.nbytes for x, plane in ((k, self.k), (v, self.v)) if x.data_ptr() != plane.data.data_ptr()))
        return k, v

    def _note(self, n_bytes: int) -> None:
        self.widened_bytes = max(self.widened_bytes, n_bytes)


Cache = KVCache | RoundedCache


def empty(batch: int, n_kv_heads: int, capacity: int, head_dim: int, k_dtype: str, v_dtype: str) -> Cache:
    """An empty cache with keys and values in these formats, of ``plan.CACHE_DTYPES``.

    Raises:
        ValueError: head_dim is not a multiple of a format's group.
    """
    if k_dtype == v_dtype and k_dtype in FLOATS:
        return KVCache(batch, n_kv_heads, capacity, head_dim, FLOATS[k_dtype])
    return RoundedCache(batch, n_kv_heads, capacity, head_dim, k_dtype, v_dtype)


def held_bytes(cache: Cache) -> int:
    """Bytes of keys and values held, measured from the tensors. Memory that is not yet written does not count."""
    if isinstance(cache, RoundedCache):
        return cache.held_bytes
    return sum(part[:, :, : cache.length].nbytes for part in (cache.k, cache.v))


def _empty(batch: int, n_kv_heads: int, capacity: int, dim: int, name: str) -> Plane:
    rows = (batch, n_kv_heads, capacity)
    if name in FLOATS:
        return Plane("dtype", dim, torch.empty(*rows, dim, dtype=FLOATS[name]))
    cache_format = ROUNDED[name]
    if cache_format in (*BLOCK_BYTES, "int4-g32") and dim % BLOCK:
        raise ValueError(f"kv_dtype {name} needs a head_dim that is a multiple of {BLOCK}, got {dim}")
    if cache_format == "fp8-head":
        return Plane(cache_format, dim, torch.empty(*rows, dim, dtype=torch.float8_e4m3fn), torch.ones(n_kv_heads))
    if cache_format == "int8-token":
        return Plane(cache_format, dim, torch.empty(*rows, dim, dtype=torch.int8), torch.empty(rows))
    if cache_format == "int4-g32":
        scale, zero = (torch.empty(*rows, dim // BLOCK, dtype=torch.float16) for _ in range(2))
        return Plane(cache_format, dim, torch.empty(*rows, dim // 2, dtype=torch.uint8), scale, zero)
    return Plane(cache_format, dim, torch.empty(*rows, dim // BLOCK * BLOCK_BYTES[cache_format], dtype=torch.uint8))


def _rounded(plane: Plane, x: Tensor) -> Plane:
    if plane.format == "fp8-head":
        # without the clamp, numbers above the largest would become NaN; engines saturate
        return Plane(plane.format, plane.dim, x.clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn))
    return stored.store(x, plane.format)


def _put(plane: Plane, at: int, rows: Plane) -> None:
    """Write rounded rows into a plane from position `at` on."""
    end = at + rows.positions
    plane.data[:, :, at:end] = rows.data
    for own, new in ((plane.scale, rows.scale), (plane.zero, rows.zero)):
        if own is not None and new is not None:
            own[:, :, at:end] = new


def _front(plane: Plane, n: int) -> Plane:
    """The plane of the first `n` positions."""
    by_row = plane.format != "fp8-head"
    return plane._replace(
        data=plane.data[:, :, :n],
        scale=plane.scale[:, :, :n] if by_row and plane.scale is not None else plane.scale,
        zero=None if plane.zero is None else plane.zero[:, :, :n],
    )


def _held(plane: Plane, n: int) -> int:
    front = _front(plane, n)
    # fp8's scales are all 1 and do not grow with the context
    parts = (front.data, None if plane.format == "fp8-head" else front.scale, front.zero)
    return sum(part.nbytes for part in parts if part is not None)
