"""The lines about its cache that an engine will print, before it is started."""

from __future__ import annotations

from typing import NamedTuple

from attention.engines import llama_cpp, vllm
from attention.engines.report import gib
from attention.engines.rules import ENGINES, kernel_of
from attention.spec import ModelSpec, check_size
from attention.units import counted

_LLAMA_TYPES = {"fp32": "f32", "fp16": "f16"}
"""Our names of formats that llama.cpp calls otherwise."""


class Line(NamedTuple):
    """A line as printed, and what it means."""

    text: str
    says: str


def predict(
    engine: str,
    spec: ModelSpec,
    source: str,
    memory_bytes: int | None,
    context: int,
    n_sequences: int = 1,
    tp: int = 1,
    kv_dtype: str | None = None,
) -> tuple[Line, ...]:
    """The lines, in the engine's order.

    Args:
        source: what named the model: the kernel of its convolution stands in its configuration.
        memory_bytes: left for the cache on each rank; vLLM's lines depend on it.
        context: vLLM's max_model_len; llama.cpp's n_ctx for each of `n_sequences`.
        kv_dtype: None for the engine's default.

    Raises:
        ValueError: a layout that is not known here, or settings that the engine does not have.
    """
    assert engine in ENGINES
    if memory_bytes is not None:
        check_size("memory", memory_bytes, maximum=2**50)
    kernel = kernel_of(spec, source)
    if engine == "vllm":
        if memory_bytes is None:
            raise ValueError("what vLLM prints depends on the memory for its cache: state --memory")
        settings = vllm.Settings(context, kv_dtype=kv_dtype or "auto", tp=tp, conv_kernel=kernel)
        return _vllm(vllm.plan(spec, settings), memory_bytes, context)
    if tp > 1:
        raise ValueError("how llama.cpp prints a cache on several accelerators is not known here: leave out --count")
    kind = _LLAMA_TYPES.get(kv_dtype or "fp16", kv_dtype or "fp16")
    asked = llama_cpp.Settings(
        context * n_sequences, type_k=kind, type_v=kind, n_seq_max=n_sequences, conv_kernel=kernel
    )
    return _llama_cpp(llama_cpp.pools(spec, asked), asked, memory_bytes)


def _vllm(pool: vllm.Plan, memory_bytes: int, length: int) -> tuple[Line, ...]:
    blocks = pool.blocks(memory_bytes)
    tokens, ratio = pool.tokens(blocks, "tokens by concurrency"), pool.concurrency(blocks)
    request = pool.request_blocks(length)
    groups = counted(len(pool.groups), "group")
    lines = [Line(f"Available KV cache memory: {gib(memory_bytes)} GiB", "on each rank; GiB are 2^30 bytes")]
    if request > blocks:
        needed = request * pool.block_bytes
        text = f"{gib(needed)} GiB KV cache is needed, which is larger than the available KV cache memory"
        fit = pool.longest(memory_bytes)
        return (*lines, Line(text, f"vLLM stops: {fit:,} tokens fit, one block fewer in newer versions"))
    says = (
        f"{counted(blocks, 'block')} of {pool.block_bytes:,} bytes, {groups}; a request of {length:,} tokens takes "
        f"{request:,}; the tokens are the concurrency times its length"
    )
    concurrency = f"Maximum concurrency for {length:,} tokens per request: {ratio:.2f}x"
    return (*lines, Line(f"GPU KV cache size: {tokens:,} tokens, {concurrency}", says))


def _llama_cpp(
    found: tuple[llama_cpp.Pool, ...], settings: llama_cpp.Settings, memory_bytes: int | None
) -> tuple[Line, ...]:
    mib = llama_cpp.mib
    lines = []
    for pool in found:
        counts = f"({pool.cells:6} cells, {pool.n_layers:3} layers, {settings.n_seq_max:2}"
        size = f"size = {mib(pool.total_bytes):>7} MiB"
        if pool.name == "recurrent":
            parts = f"R (f32): {mib(pool.k_bytes):>7} MiB, S (f32): {mib(pool.v_bytes):>7} MiB"
            says = "states of constant size, a row for each sequence"
            lines.append(Line(f"llama_memory_recurrent: {size} {counts} seqs), {parts}", says))
            continue
        parts = f"K ({settings.type_k}): {mib(pool.k_bytes):>7} MiB, V ({settings.type_v}): {mib(pool.v_bytes):>7} MiB"
        says = "window and n_ubatch, padded to 256" if pool.name == "SWA" else "the context, padded to 256"
        lines.append(
            Line(f"llama_kv_cache: {size} {counts}/{pool.streams} seqs), {parts}", f"{says}; MiB are 2^20 bytes")
        )
    total = sum(pool.total_bytes for pool in found)
    if memory_bytes is not None:
        left = memory_bytes - total
        says = f"{left:,} bytes of the memory are left" if left >= 0 else f"{-left:,} bytes more than the memory"
        lines.append(Line(f"(together {mib(total)} MiB)", says))
    return tuple(lines)
