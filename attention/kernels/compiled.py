"""Decode attention compiled for this processor by torch.compile: what plain PyTorch cannot say without extra passes.

Two ideas. The *blocked* cache stores keys and values so that a core reads memory strictly in order and never adds
across a vector register; one pass over a block serves all query heads of a group. The *split* context leaves the
multiplying to the matrix library, chunk by chunk, and fuses everything between its products.

The number of K/V heads, sequences and chunks is left open when compiling, so that a new context, batch or number of
layers needs no new compilation; a new group size, head size or dtype does (a few seconds, kept on disk by torch).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from attention.cases import Case
from attention.kernels.plain import CHUNK, fold

BLOCK = 256
"""Positions per block: 128 KiB of float32 keys at head_dim 128, which stay in a core's L2 between two passes."""
LANES = 16
"""float32 numbers in a 512-bit register."""
Parts = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

MAX_UNROLLED = 8
"""Query heads of a group worked on in one pass; with more of them the matrix library is faster."""


def unavailable(device: str) -> str | None:
    """Why nothing can be compiled here, or None."""
    if device != "cpu":
        return "made for processors; on CUDA the fused kernels do this"
    return _no_compiler()


@cache
def _no_compiler() -> str | None:
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        compiler = get_cpp_compiler()
    except Exception as error:  # without any compiler torch raises an error of its own
        return f"torch.compile finds no C++ compiler ({str(error).strip().splitlines()[0][:80]})"
    return None if shutil.which(compiler) else f"torch.compile needs a C++ compiler; {compiler} is not installed"


def suits_blocks(case: Case) -> str | None:
    if case.head_dim % LANES:
        return f"blocks need a head_dim divisible by {LANES}, got {case.head_dim}"
    if case.group_size > MAX_UNROLLED:
        return f"more than {MAX_UNROLLED} query heads per K/V head are a matrix product"
    return None


def blocked_layout(k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """A plain cache as blocks of BLOCK positions, and the positions that do not fill one.

    k, v [batch, n_kv_heads, context, head_dim] -> with rows = batch * n_kv_heads:
    keys [rows, blocks, BLOCK / LANES, head_dim, LANES]: LANES positions side by side, so that a register holds one
    element of LANES keys and their scores grow without adding across the register;
    values [rows, blocks, head_dim / LANES, BLOCK, LANES]: LANES elements of all the block's values, read in order;
    the last context % BLOCK keys and values as they are.
    """
    whole = k.shape[2] // BLOCK * BLOCK
    keys, values = (x[:, :, :whole].flatten(0, 1).unflatten(1, (-1, BLOCK)) for x in (k, v))
    keys = keys.unflatten(2, (-1, LANES)).mT.contiguous()
    values = values.unflatten(3, (-1, LANES)).transpose(2, 3).contiguous()
    return keys, values, k[:, :, whole:].contiguous(), v[:, :, whole:].contiguous()


def blocked(q: Tensor, keys: Tensor, values: Tensor, k_rest: Tensor, v_rest: Tensor) -> Tensor:
    """One decode step from `blocked_layout`'s cache; q [batch, n_heads, 1, head_dim], result like q."""
    rows = fold(q, k_rest.shape[1]).flatten(0, 1).float() * q.shape[-1] ** -0.5
    k_rest, v_rest = k_rest.flatten(0, 1), v_rest.flatten(0, 1)
    if keys.shape[1]:
        out, lse = _compiled(_attend_blocks)(*_open_sizes(rows, keys, values))
        out = _with_rest(out, lse, rows, k_rest, v_rest)
    else:
        out = (rows @ k_rest.float().mT).softmax(-1) @ v_rest.float()
    return out.to(q.dtype).view(q.shape)


def _attend_blocks(q: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Each block attends on its own; the blocks are combined by log-sum-exp.

    q [rows, group_size, head_dim], scaled -> out [rows, group_size, head_dim], lse [rows, group_size, 1], float32.
    """
    parts = []
    for head in range(q.shape[1]):  # unrolled by the compiler, which then loads each key and value once for all heads
        scores = (keys.float() * q[:, head, None, None, :, None]).sum(-2).flatten(2)
        top = scores.amax(-1, keepdim=True)
        weights = (scores - top).exp()
        out = (weights[:, :, None, :, None] * values.float()).sum(-2).flatten(2)
        parts.append((out, weights.sum(-1, keepdim=True), top))
    outs, sums, tops = (torch.stack(part, dim=2) for part in zip(*parts, strict=True))
    return _combine(outs, sums, tops)


def split(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`plain.split_matmul` with all between the two products fused, so that partial scores never leave a core."""
    chunk = CHUNK if k.shape[2] >= CHUNK else k.shape[2]
    whole = k.shape[2] // chunk * chunk
    rows = fold(q, k.shape[1]).flatten(0, 1)
    k, v = k.flatten(0, 1), v.flatten(0, 1)
    k_chunks, v_chunks = (x[:, :whole].unflatten(1, (-1, chunk)) for x in (k, v))
    out, lse = _compiled(_attend_chunks)(*_open_sizes(rows, k_chunks, v_chunks))
    out = _with_rest(out, lse, rows.float() * q.shape[-1] ** -0.5, k[:, whole:], v[:, whole:])
    return out.to(q.dtype).view(q.shape)


def _attend_chunks(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """q [rows, group_size, head_dim]; k, v [rows, chunks, positions, head_dim] -> like `_attend_blocks`."""
    scores = (q[:, None] @ k.mT).float() * q.shape[-1] ** -0.5
    tops = scores.amax(-1, keepdim=True)
    weights = (scores - tops).exp()
    return _combine((weights.to(v.dtype) @ v).float(), weights.sum(-1, keepdim=True), tops)


def _combine(outs: Tensor, sums: Tensor, tops: Tensor) -> tuple[Tensor, Tensor]:
    """Parts along dimension 1, not yet divided by their sums -> out [rows, group_size, head_dim], lse [.., 1]."""
    top = tops.amax(dim=1, keepdim=True)
    scale = (tops - top).exp()
    total = (sums * scale).sum(dim=1)
    return (outs * scale).sum(dim=1) / total, total.log() + top.squeeze(1)


def _with_rest(out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Adds the positions that fill no chunk: k, v [rows, positions, head_dim], q scaled, in float32."""
    if not k.shape[1]:
        return out
    scores = q @ k.float().mT
    rest_lse = scores.logsumexp(-1, keepdim=True)
    return torch.lerp(out, (scores - rest_lse).exp() @ v.float(), torch.sigmoid(rest_lse - lse))


@cache
def _compiled(function: Parts) -> Parts:
    # sizes of 1 are compiled apart from larger ones, so many shapes need more than torch's default of 8 variants
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    return torch.compile(function, fullgraph=True)


def _open_sizes(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ask the compiler to leave rows and chunks open, where they are not 1, which it always takes as fixed."""
    for x, dim in ((q, 0), (k, 0), (v, 0), (k, 1), (v, 1)):
        torch._dynamo.maybe_mark_dynamic(x, dim)
    return q, k, v
