"""Random tensors of a case: queries, and a cache in its format."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attention.kernels.kinds.case import ONE_PLANE, KindCase
from attention.kernels.kinds.stored import Cache, Plane, store

PERIOD = 8191
"""Random rows that are drawn; after them they repeat. It is a prime, so that a misplaced row shows. To draw and round
every row of a cache of gigabytes would take longer than to time it."""


def make(case: KindCase) -> tuple[Tensor, Cache]:
    """Fresh random q [batch, n_heads, q_len, head_dim] and cache. The case's device must be resolved."""
    dtype = getattr(torch, case.dtype)
    q = torch.randn(case.batch, case.n_heads, case.q_len, case.head_dim, device=case.device)
    # scores have unit variance in every kind, whatever they are divided by
    q = (q * (case.score_dim / case.head_dim) ** 0.5).to(dtype)
    shape = (case.batch, case.n_kv_heads, case.slots)
    k = _plane(shape, case.head_dim, case.k_format, dtype, case.device)
    v = None if case.kind in ONE_PLANE else _plane(shape, case.value_dim, case.v_format, dtype, case.device)
    cache = Cache(k, v, case.value_dim, case.score_dim**-0.5, case.context, case.window)
    if case.top_k:
        rows = (case.batch, case.q_len, case.index_heads)
        cache = cache._replace(
            index_k=_rows((case.batch, case.context), case.index_dim, dtype, case.device),
            index_q=torch.randn(*rows, case.index_dim, device=case.device).to(dtype),
            index_weights=torch.rand(rows, device=case.device) / (case.index_heads * case.index_dim**0.5),
            top_k=case.top_k,
        )
    return q, cache


def _rows(shape: Sequence[int], dim: int, dtype: torch.dtype, device: str) -> Tensor:
    return _repeated(torch.randn(PERIOD, dim, device=device).to(dtype), shape)


def _plane(shape: Sequence[int], dim: int, cache_format: str, dtype: torch.dtype, device: str) -> Plane:
    if cache_format == "dtype":
        return Plane(cache_format, dim, _rows(shape, dim, dtype, device))
    drawn = store(torch.randn(1, 1, PERIOD, dim, device=device), cache_format)
    data = _repeated(drawn.data[0, 0], shape)
    if cache_format == "fp8-head":
        assert drawn.scale is not None
        # each head has another scale, so that a mixed-up scale shows
        return Plane(
            cache_format, dim, data, drawn.scale * torch.linspace(0.5, 1, shape[1], device=device).expand(shape[1])
        )
    scale, zero = (
        None if x is None else _repeated(x[0, 0].reshape(PERIOD, -1), shape) for x in (drawn.scale, drawn.zero)
    )
    return Plane(
        cache_format, dim, data, scale[..., 0] if cache_format == "int8-token" and scale is not None else scale, zero
    )


def _repeated(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """[PERIOD, n] -> [*shape, n], the rows repeated in order."""
    if rows.element_size() == 1:
        # fp8 and other one-byte elements are copied as plain bytes
        return _copied(rows.view(torch.uint8), shape).view(rows.dtype)
    return _copied(rows, shape)


def _copied(rows: Tensor, shape: Sequence[int]) -> Tensor:
    out = torch.empty(*shape, rows.shape[-1], dtype=rows.dtype, device=rows.device)
    flat = out.view(-1, rows.shape[-1])
    whole = flat.shape[0] // PERIOD * PERIOD
    flat[:whole].view(-1, *rows.shape).copy_(rows.expand(whole // PERIOD, *rows.shape))
    flat[whole:].copy_(rows[: flat.shape[0] - whole])
    return out
