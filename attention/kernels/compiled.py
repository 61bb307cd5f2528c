"""Decode attention compiled by torch.compile.

The context is split into chunks. The matrix library multiplies chunk by chunk; everything between the two products is
fused.

The compiled code is for any number of K/V heads, sequences and chunks, so a new context or batch needs no new
compilation. A new group size, head size or dtype needs one: a few seconds, and torch keeps the result on disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from attention.kernels.plain import CHUNK, fold

Parts = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def unavailable(device: str) -> str | None:
    """Why nothing can be compiled here, or None."""
    if device != "cpu":
        return "made for processors; on CUDA the fused kernels do this"
    return no_compiler()


@cache
def no_compiler() -> str | None:
    """Why torch.compile finds no C++ compiler, or None."""
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        compiler = get_cpp_compiler()
    except Exception as error:  # without any compiler torch raises an error of its own
        return f"torch.compile finds no C++ compiler ({str(error).strip().splitlines()[0][:80]})"
    return None if shutil.which(compiler) else f"torch.compile needs a C++ compiler; {compiler} is not installed"


def split(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`plain.split_matmul`, with everything between the two products fused: partial scores never leave a core.

    Shapes as in ``attention.kernels.plain``.
    """
    chunk = CHUNK if k.shape[2] >= CHUNK else k.shape[2]
    whole = k.shape[2] // chunk * chunk
    rows = fold(q, k.shape[1]).flatten(0, 1)
    k, v = k.flatten(0, 1), v.flatten(0, 1)
    k_chunks, v_chunks = (x[:, :whole].unflatten(1, (-1, chunk)) for x in (k, v))
    out, lse = compile_parts(_attend_chunks)(*_open_sizes(rows, k_chunks, v_chunks))
    out = _with_rest(out, lse, rows.float() * q.shape[-1] ** -0.5, k[:, whole:], v[:, whole:])
    return out.to(q.dtype).view(q.shape)


def _attend_chunks(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """q [rows, group_size, head_dim]; k, v [rows, chunks, positions, head_dim] ->
    out [rows, group_size, head_dim], lse [rows, group_size, 1], float32."""
    scores = (q[:, None] @ k.mT).float() * q.shape[-1] ** -0.5
    tops = scores.amax(-1, keepdim=True)
    weights = (scores - tops).exp()
    return _combine((weights.to(v.dtype) @ v).float(), weights.sum(-1, keepdim=True), tops)


def _combine(outs: Tensor, sums: Tensor, tops: Tensor) -> tuple[Tensor, Tensor]:
    """Put together parts along dimension 1 that are not yet divided by their sums.

    Returns out [rows, group_size, head_dim] and lse [rows, group_size, 1].
    """
    top = tops.amax(dim=1, keepdim=True)
    scale = (tops - top).exp()
    total = (sums * scale).sum(dim=1)
    return (outs * scale).sum(dim=1) / total, total.log() + top.squeeze(1)


def _with_rest(out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Add the positions after the last whole chunk: k, v [rows, positions, head_dim]; q is scaled and float32."""
    if not k.shape[1]:
        return out
    scores = q @ k.float().mT
    rest_lse = scores.logsumexp(-1, keepdim=True)
    return torch.lerp(out, (scores - rest_lse).exp() @ v.float(), torch.sigmoid(rest_lse - lse))


@cache
def compile_parts(function: Parts) -> Parts:
    """`function`, compiled whole."""
    # torch compiles a size of 1 apart from larger ones, so many shapes need more than its default of 8 variants
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    return torch.compile(function, fullgraph=True)


def _open_sizes(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ask the compiler for code that takes any number of rows and chunks. A size of 1 it always takes as fixed."""
    for x, dim in ((q, 0), (k, 0), (v, 0), (k, 1), (v, 1)):
        torch._dynamo.maybe_mark_dynamic(x, dim)
    return q, k, v
