"""K and V in memory: a plane of rows for each, in a format of ``case.CACHE_FORMATS``.

A plane may be the front part of a longer cache: only the elements of one row must be side by side.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from attention.kernels.kinds.case import BLOCK

BLOCK_BYTES = {"q8_0": 34, "q4_0": 18}
"""Bytes of a block: a float16 scale, then 32 elements (ggml's block_q8_0, block_q4_0)."""
FP8_MAX = 448.0
"""The largest e4m3 number."""


class Plane(NamedTuple):
    """K or V of one layer.

    Attributes:
        format: one of ``case.CACHE_FORMATS``.
        dim: elements of a row.
        data: [batch, n_kv_heads, positions, stored]. "dtype": `dim` elements. int8-token: int8. fp8-head:
            float8_e4m3fn. q8_0, q4_0: uint8, blocks of 34 and 18 bytes. int4-g32: uint8, where byte i holds element 2i
            in its low half and element 2i + 1 in its high half.
        scale: int8-token: float32 [batch, n_kv_heads, positions]; fp8-head: float32 [n_kv_heads]; int4-g32: float16
            [batch, n_kv_heads, positions, dim / 32]; else None.
        zero: int4-g32: the number that code 0 stands for, with the scale's shape and dtype; else None.
    """

    format: str
    dim: int
    data: Tensor
    scale: Tensor | None = None
    zero: Tensor | None = None

    @property
    def positions(self) -> int:
        return self.data.shape[2]


def store(x: Tensor, cache_format: str) -> Plane:
    """Round x [batch, n_kv_heads, positions, dim] to a format; "dtype" keeps it as it is.

    Raises:
        ValueError: a dim that the format's groups do not divide, or an unknown format.
    """
    dim = x.shape[-1]
    if cache_format == "dtype":
        return Plane(cache_format, dim, x)
    x = x.float()
    if cache_format == "int8-token":
        scale = x.abs().amax(-1).clamp(min=1e-12) / 127
        return Plane(cache_format, dim, (x / scale[..., None]).round().to(torch.int8), scale)
    if cache_format == "fp8-head":
        scale = x.abs().amax(dim=(0, 2, 3)).clamp(min=1e-12) / FP8_MAX
        return Plane(cache_format, dim, (x / scale[:, None, None]).to(torch.float8_e4m3fn), scale)
    if cache_format not in ("q8_0", "q4_0", "int4-g32"):
        raise ValueError(f"cache_format must be a known one, got {cache_format!r}")
    if dim % BLOCK:
        raise ValueError(f"dim must be divisible by {BLOCK} in {cache_format}, got {dim}")
    blocks = x.unflatten(-1, (-1, BLOCK))
    if cache_format == "int4-g32":
        low, high = blocks.aminmax(dim=-1)
        scale, zero = ((high - low) / 15).half(), low.half()
        steps = ((blocks - zero.float()[..., None]) / scale.float().clamp(min=1e-8)[..., None]).round().clamp(0, 15)
        codes = steps.to(torch.uint8).flatten(-2)
        return Plane(cache_format, dim, codes[..., ::2] | codes[..., 1::2] << 4, scale, zero)
    if cache_format == "q8_0":
        scale = (blocks.abs().amax(-1, keepdim=True) / 127).half()
        codes = (blocks / scale.float().clamp(min=1e-8)).round().clamp(-128, 127).to(torch.int8).view(torch.uint8)
    else:
        # ggml scales by the largest element, which becomes -8
        largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
        scale = (largest / -8).half()
        divisor = torch.where(scale == 0, torch.ones_like(scale), scale).float()
        codes = ((blocks / divisor).round() + 8).clamp(0, 15).to(torch.uint8)
        codes = codes[..., :16] | codes[..., 16:] << 4
    return Plane(cache_format, dim, torch.cat((scale.view(torch.uint8), codes), dim=-1).flatten(-2))


def read(plane: Plane, dtype: torch.dtype = torch.float32) -> Tensor:
    """The numbers that a plane holds, [batch, n_kv_heads, positions, dim]; exact in float64."""
    data, scale, zero = plane.data, plane.scale, plane.zero
    if plane.format == "dtype":
        return data.to(dtype)
    if plane.format == "int8-token":
        assert scale is not None
        return data.to(dtype) * scale.to(dtype)[..., None]
    if plane.format == "fp8-head":
        assert scale is not None
        return data.float().to(dtype) * scale.to(dtype)[:, None, None]
    if plane.format == "int4-g32":
        assert scale is not None
        assert zero is not None
        codes = torch.stack((data & 15, data >> 4), dim=-1).flatten(-2).unflatten(-1, (-1, BLOCK))
        return (codes.to(dtype) * scale.to(dtype)[..., None] + zero.to(dtype)[..., None]).flatten(-2)
    blocks = data.unflatten(-1, (-1, BLOCK_BYTES[plane.format]))
    block_scale = blocks[..., :2].contiguous().view(torch.float16).to(dtype)
    if plane.format == "q8_0":
        return (blocks[..., 2:].contiguous().view(torch.int8).to(dtype) * block_scale).flatten(-2)
    codes = torch.cat((blocks[..., 2:] & 15, blocks[..., 2:] >> 4), dim=-1)
    return ((codes.to(dtype) - 8) * block_scale).flatten(-2)


class Cache(NamedTuple):
    """What a layer keeps, and what a step must know about it.

    Attributes:
        k, v: planes; v is None where the first `value_dim` elements of the key are the value.
        value_dim: elements of a head's value and of its result.
        scale: the factor of the scores.
        context: tokens so far, the new ones included; with a `window` they may be more than the positions held.
        window: positions a token sees; 0 sees all. Position p is in slot p mod the number of slots.
        index_k, index_q: in a sparse cache, the indexer's keys [batch, context, index_dim] and its queries
            [batch, q_len, index_heads, index_dim]; else None.
        index_weights: float32 [batch, q_len, index_heads] in a sparse cache, else None.
        top_k: positions that the indexer picks; 0 in a cache that is not sparse.
    """

    k: Plane
    v: Plane | None
    value_dim: int
    scale: float
    context: int
    window: int = 0
    index_k: Tensor | None = None
    index_q: Tensor | None = None
    index_weights: Tensor | None = None
    top_k: int = 0

    @property
    def n_kv_heads(self) -> int:
        return self.k.data.shape[1]


def slot_positions(cache: Cache) -> Tensor:
    """The position that each slot holds: [slots]."""
    slots = torch.arange(cache.k.positions, device=cache.k.data.device)
    return cache.context - 1 - (cache.context - 1 - slots) % cache.k.positions


def seen(cache: Cache, q_len: int) -> Tensor:
    """Which slots each new token sees: bool [q_len, slots]. Token i is at position context - q_len + i."""
    positions = slot_positions(cache)
    last = torch.arange(cache.context - q_len, cache.context, device=positions.device)[:, None]
    visible = positions <= last
    return visible & (positions > last - cache.window) if cache.window else visible


def first(plane: Plane, n: int) -> Plane:
    """The plane of the first `n` sequences."""
    scale = plane.scale if plane.format == "fp8-head" or plane.scale is None else plane.scale[:n]
    return plane._replace(data=plane.data[:n], scale=scale, zero=None if plane.zero is None else plane.zero[:n])
