"""Predicts the lines about its cache that an engine will print when it starts."""

from __future__ import annotations

from typing import NamedTuple

from attention.engines import llama_cpp, sglang, tensorrt_llm, vllm
from attention.engines.report import gib
from attention.engines.reserved import LLAMA_TYPES
from attention.engines.rules import NAMES
from attention.spec import ModelSpec, check_size
from attention.units import counted

PREDICTED = ("vllm", "sglang", "llama.cpp", "tensorrt-llm")
"""Engines whose lines are known."""
_VLLM_FORMATS = {"bf16": "bfloat16", "fp16": "float16"}
_MEMORY = "what {} prints depends on the memory for its cache: state --memory"


class Line(NamedTuple):
    """A line as the engine prints it, and what it means."""

    text: str
    says: str


def predict(
    engine: str,
    spec: ModelSpec,
    conv_kernel: int | None,
    memory_bytes: int | None,
    context: int,
    n_sequences: int = 1,
    tp: int = 1,
    kv_dtype: str | None = None,
) -> tuple[Line, ...]:
    """The lines, in the engine's order.

    Args:
        engine: one of PREDICTED.
        conv_kernel: columns of the model's convolution, see ``rules.kernel_of``.
        memory_bytes: bytes for the cache on each rank. All engines but llama.cpp need it.
        context: vLLM's max_model_len; llama.cpp's n_ctx for each of `n_sequences`; the other engines do not use it.
        tp: ranks of tensor parallelism.
        kv_dtype: format of the cache, None for the engine's default.

    Raises:
        ValueError: a layout that is not known here, a missing memory, or settings that the engine does not have.
    """
    assert engine in PREDICTED
    if memory_bytes is not None:
        check_size("memory", memory_bytes, maximum=2**50)
    if engine == "llama.cpp":
        if tp > 1:
            raise ValueError("how llama.cpp prints a cache on several accelerators is not known here: take one")
        kind = LLAMA_TYPES.get(kv_dtype or "fp16", kv_dtype or "fp16")
        asked = llama_cpp.Settings(
            context * n_sequences, type_k=kind, type_v=kind, n_seq_max=n_sequences, conv_kernel=conv_kernel
        )
        return _llama_cpp(llama_cpp.pools(spec, asked), asked, memory_bytes)
    if memory_bytes is None:
        raise ValueError(_MEMORY.format(NAMES[engine]))
    if engine == "vllm":
        kind = _VLLM_FORMATS.get(kv_dtype or "auto", kv_dtype or "auto")
        settings = vllm.Settings(context, kv_dtype=kind, tp=tp, conv_kernel=conv_kernel)
        return _vllm(vllm.plan(spec, settings), memory_bytes, context)
    kind = kv_dtype or spec.model_dtype or "bf16"
    if engine == "sglang":
        slot = sglang.slots(spec, sglang.Settings(kind, tp=tp, conv_kernel=conv_kernel))
        return _sglang(slot, memory_bytes)
    return _tensorrt_llm(tensorrt_llm.pools(spec, kind, tp), memory_bytes)


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


def _sglang(slot: sglang.Slots, memory_bytes: int) -> tuple[Line, ...]:
    tokens, windowed = slot.tokens(memory_bytes)
    if not tokens:
        raise ValueError("the memory holds not one token, or no layer of this model keeps tokens")
    page, lines = slot.settings.page_tokens, []
    if slot.sequence_bytes:
        count = slot.states(memory_bytes)
        sizes = [gib((count + 1) * size) for size in (slot.conv, slot.state)]
        text = f"Mamba Cache is allocated. max_mamba_cache_size: {count}, conv_state size: {sizes[0]}GB, "
        says = f"{slot.sequence_bytes:,} bytes a sequence, and one more that holds nothing; GB are 2^30 bytes"
        lines.append(Line(f"{text}ssm_state size: {sizes[1]}GB", says))
    if slot.window:
        says = f"slots of windowed layers are {slot.settings.window_ratio / 1000:g} times the others'"
        lines.append(
            Line(
                f"Use sliding window memory pool. full_layer_tokens={tokens}, swa_layer_tokens={windowed}",
                f"{says}, whatever the window of {slot.window:,}",
            )
        )
        lines.append(_allocated(windowed, page, slot.window_k, slot.window_v, "windowed layers"))
    lines.append(_allocated(tokens, page, slot.k, slot.v, "layers that hold every token"))
    if slot.window:
        total = (windowed + page) * slot.window_bytes + (tokens + page) * slot.token_bytes
        text = f"SWAKVPool mem usage: {gib(total)} GB, swa size: {windowed}, full size: {tokens}"
        lines.append(Line(text, "both pools together"))
    lines.append(Line(f"max_total_num_tokens={tokens}", "tokens of all requests together"))
    return tuple(lines)


def _allocated(tokens: int, page: int, k: int, v: int, layers: str) -> Line:
    says = f"{layers}, on each rank: {k + v:,} bytes a token, and a page more than is printed; GB are 2^30 bytes"
    if not v:
        return Line(f"KV Cache is allocated. #tokens: {tokens}, KV size: {gib((tokens + page) * k)} GB", says)
    sizes = f"K size: {gib((tokens + page) * k)} GB, V size: {gib((tokens + page) * v)} GB"
    return Line(f"KV Cache is allocated. #tokens: {tokens}, {sizes}", says)


def _tensorrt_llm(pools: tensorrt_llm.Pools, memory_bytes: int) -> tuple[Line, ...]:
    blocks = pools.blocks(memory_bytes)
    [size] = pools.token_bytes.values()
    tokens = blocks * pools.block_tokens
    says = f"{size:,} bytes a token on each rank; GiB are 2^30 bytes"
    return (
        Line(f"Number of blocks in KV cache primary pool: {blocks}", "whole blocks that the memory holds"),
        Line(f"Number of tokens per block: {pools.block_tokens}.", "its default since 2025"),
        Line(f"Allocated {gib(tokens * size)} GiB for max tokens in paged KV cache ({tokens}).", says),
    )
