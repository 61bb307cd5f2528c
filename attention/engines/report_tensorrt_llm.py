"""Compares the figures of a TensorRT-LLM log with TensorRT-LLM's blocks (``tensorrt_llm``)."""

from __future__ import annotations

from typing import NamedTuple

from attention.engines.log import SGLANG_DTYPES, UNKNOWN, Log
from attention.engines.report import Change, Finding, Part, Report, gib, rounded
from attention.engines.tensorrt_llm import BLOCK_TOKENS, KV_BYTES, pools
from attention.errors import shown
from attention.memory.allocation import tp_choices
from attention.spec import ModelSpec, check_size
from attention.units import counted


class Settings(NamedTuple):
    """The settings with which TensorRT-LLM was started.

    Attributes:
        kv_dtype: a key of ``tensorrt_llm.KV_BYTES``; tp: ranks of tensor parallelism.
        block_tokens: tokens of a block.
    """

    kv_dtype: str
    tp: int = 1
    block_tokens: int = BLOCK_TOKENS


def settings_of(log: Log, spec: ModelSpec, tp: int | None = None, kv_dtype: str | None = None) -> Settings:
    """The settings that a log states, with TensorRT-LLM's defaults for the others.

    Args:
        tp, kv_dtype: settings that a user states; None for what the log states.

    Raises:
        ValueError: a cache dtype that is not known here, no dtype at all, or blocks of a size out of range.
    """
    said = log.settings
    kind = kv_dtype or said.get("kv_dtype", "auto")
    if kind == UNKNOWN or kind not in {*SGLANG_DTYPES, *KV_BYTES}:
        raise ValueError(f"the cache dtype must be auto or one of {', '.join(KV_BYTES)}, got {shown(kind)}")
    chosen = SGLANG_DTYPES.get(kind, kind) or spec.model_dtype
    if chosen is None:
        raise ValueError("neither the log nor the model states a dtype, so the cache's is not known: state --kv-dtype")
    block = check_size("tokens per block", int(said.get("block_tokens", BLOCK_TOKENS)), maximum=2**20)
    return Settings(chosen, tp or int(said.get("tp") or 1), block)


def explain(log: Log, spec: ModelSpec, settings: Settings) -> Report:
    """The report on every figure of the log.

    Raises:
        ValueError: the model's layout is not known here.
    """
    size = _token_bytes(spec, settings)
    tokens = [int(values[1] or 0) for values in log.seen("allocated")]
    findings = [_allocated(values, size, spec, settings) for values in log.distinct("allocated")]
    findings += [_blocks(int(values[0] or 0), tokens, size, settings) for values in log.distinct("blocks")]
    findings += [_bytes(values, size) for values in log.distinct("bytes")]
    findings += [_token(int(values[0] or 0), size) for values in log.distinct("token")]
    findings += [_available(values) for values in log.distinct("available")]
    notes = [f"several values of {name} are in the log; the last is taken" for name in log.conflicting]
    if len({w for layer, _ in spec.groups for s in layer.states if (w := getattr(s, "window", None))}):
        notes.append(
            "windows are counted at full length: one pool is printed, and its windows reach the longest request"
        )
    return Report(
        "tensorrt-llm",
        log.version,
        spec.name,
        settings._asdict(),
        tuple(findings),
        _changes(max(tokens, default=0), size, spec, settings),
        tuple(notes),
    )


def _token_bytes(spec: ModelSpec, settings: Settings) -> int:
    """Bytes of a token on one rank, in all pools together."""
    return sum(pools(spec, settings.kv_dtype, settings.tp, settings.block_tokens).token_bytes.values())


def _allocated(values: tuple[str | None, ...], size: int, spec: ModelSpec, settings: Settings) -> Finding:
    printed, tokens = values[0] or "", int(values[1] or 0)
    line = f"Allocated {printed} GiB for max tokens in paged KV cache ({tokens})."
    if gib(tokens * size) == printed:
        blocks = counted(tokens // settings.block_tokens, "block")
        says = f"{size:,} bytes a token on each rank, {blocks} of {settings.block_tokens} tokens; GiB are 2^30 bytes"
        return Finding(line, "reproduced", says, (Part("blocks", tokens * size),), ("blocks",))
    others = [settings._replace(kv_dtype=kind, tp=tp) for tp in tp_choices(spec) for kind in ("fp8", settings.kv_dtype)]
    if matching := [other for other in others if gib(tokens * _token_bytes(spec, other)) == printed]:
        ways = [f"in {other.kv_dtype} on one of {counted(other.tp, 'rank')}" for other in dict.fromkeys(matching)]
        held = tokens * _token_bytes(spec, matching[0])
        says = f"reproduced {', or '.join(ways)}: state --kv-dtype and --tp"
        return Finding(line, "split", says, (Part("blocks", held, "by the first of them"),), ("blocks",))
    missing = abs(rounded(printed).middle - tokens * size)
    says = f"by these rules {gib(tokens * size)} GiB"
    return Finding(line, "unexplained", says, (Part("blocks", tokens * size), Part("cannot be explained", missing)))


def _blocks(blocks: int, tokens: list[int], size: int, settings: Settings) -> Finding:
    line = f"Number of blocks in KV cache primary pool: {blocks}"
    held = blocks * settings.block_tokens
    part = Part("blocks", held * size, f"of {settings.block_tokens} tokens, {size:,} bytes each")
    if held in tokens:
        return Finding(line, "reproduced", f"{held:,} tokens, as many as were allocated", (part,), ("blocks",))
    return Finding(line, "given", f"{held:,} tokens in blocks of {settings.block_tokens}", (part,), ("blocks",))


def _bytes(values: tuple[str | None, ...], size: int) -> Finding:
    n_bytes, tokens = (int(value or 0) for value in values)
    line = f"Allocate {n_bytes} bytes for k/v cache. Using {tokens} tokens in paged KV cache."
    if n_bytes == tokens * size:
        return Finding(line, "reproduced", f"{size:,} bytes a token", (Part("blocks", n_bytes),), ("blocks",))
    missing = Part("cannot be explained", abs(n_bytes - tokens * size))
    return Finding(line, "unexplained", f"by these rules {tokens * size:,} bytes", (missing,))


def _token(printed: int, size: int) -> Finding:
    line = f"kv size is {printed}"
    if printed == size:
        return Finding(line, "reproduced", "bytes of a token in all layers of a rank", (Part("a token", size),))
    missing = Part("cannot be explained", abs(printed - size))
    return Finding(line, "unexplained", f"by these rules {size:,} bytes a token", (missing,))


def _available(values: tuple[str | None, ...]) -> Finding:
    total, left = values
    line = f"Memory usage when calculating max tokens in paged kv cache: total: {total} GiB, available: {left} GiB"
    return Finding(line, "given", "measured; free_gpu_memory_fraction (0.9 by default) of what is available is taken")


def _changes(tokens: int, size: int, spec: ModelSpec, settings: Settings) -> tuple[Change, ...]:
    """Changes that give more tokens in the same memory, the largest number first."""
    tried = []
    if KV_BYTES[settings.kv_dtype] > 1:
        tried.append(("kv_cache_config.dtype: fp8", settings._replace(kv_dtype="fp8")))
    if settings.tp * 2 in tp_choices(spec):
        what = f"tensor_parallel_size: {settings.tp * 2}, with the same memory on each rank"
        tried.append((what, settings._replace(tp=settings.tp * 2)))
    block, changes = settings.block_tokens, []
    for what, changed in tried:
        after = tokens * size // (_token_bytes(spec, changed) * block) * block
        changes += [Change(what, tokens, after)] if after > tokens else []
    return tuple(sorted(changes, key=lambda change: -change.after))
