"""Compares the figures of a vLLM log with vLLM's planner (``vllm``)."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import Any, NamedTuple

from attention.engines.log import MAX_EXPLAINED, UNKNOWN, Log
from attention.engines.report import GIB, Change, Finding, Part, Report, Rounded, gib, rounded
from attention.engines.report_vllm_parts import parts_of, request_parts, rules_of
from attention.engines.vllm import Plan, plan
from attention.engines.vllm_layers import IN_FLIGHT, Settings
from attention.errors import shown
from attention.formats import FORMAT_NAMES
from attention.memory.allocation import tp_choices
from attention.spec import ModelSpec
from attention.units import counted

TOKEN_RULES = ("tokens by concurrency", "tokens by groups")
FIRST_BY_CONCURRENCY = (0, 21)
MOST_BLOCKS = 2**50
HALF_DIGIT = 5 * 10**6
"""Half a unit of the last digit of a memory printed in decimal GB with two digits, in bytes."""
MOST_RANK_SHARE = 10
"""A lack of at most 1 / this of the memory can be explained by another rank that has less memory."""


def settings_of(log: Log, conv_kernel: int | None = None) -> Settings:
    """The settings that a log states, with vLLM's defaults for the others.

    Raises:
        ValueError: a setting for which no rule is known here.
    """
    said = log.settings
    if said.get("pp", "1") != "1":
        raise ValueError(
            f"pipeline parallelism is not known here, and this log has {shown(int(said['pp']))} ranks of it"
        )
    if said.get("kv_dtype") == UNKNOWN:
        raise ValueError("the kv_cache_dtype of this log is not known here")
    printed = [length for length, _ in log.seen("concurrency")] + [values[0] for values in log.seen("needed")]
    length = _number(printed[-1]) if printed and printed[-1] else _optional(said, "max_model_len")
    return Settings(
        max_model_len=length,
        block_tokens=_optional(said, "block_tokens"),
        kv_dtype=said.get("kv_dtype", "auto"),
        tp=_optional(said, "tp") or 1,
        dcp=_optional(said, "dcp") or 1,
        in_flight=_optional(said, "in_flight") or IN_FLIGHT,
        hybrid_manager="no_hybrid" not in said,
        state_pages=2 if "align" in said else 1,
        dtype=FORMAT_NAMES[said["dtype"]] if "dtype" in said else None,
        conv_kernel=conv_kernel,
    )


def explain(log: Log, spec: ModelSpec, settings: Settings) -> Report:
    """The report on every figure of the log.

    Raises:
        ValueError: the model's layout is not known here.
    """
    pool = plan(spec, settings)
    ranks = [rounded(values[0] or "") for values in log.seen("memory")]
    blocks = _blocks(log)
    findings: list[Finding] = []
    if ranks:
        findings.append(_memory(ranks, settings))
    least = min(ranks, default=None)
    base, rule = pool, _token_rules(pool, log.version)[0]
    for tokens, memory in _paired(sorted(_number(values[0]) for values in log.seen("tokens")), sorted(ranks)):
        finding, found = _tokens(tokens, memory, len(ranks), base, spec, log)
        findings.append(finding)
        if blocks is None and found is not None:
            blocks, pool, rule = found
    if blocks is None and least is not None:
        blocks = range(pool.blocks(least.low), pool.blocks(least.high) + 1)
    for length, ratio in log.distinct("concurrency"):
        findings.append(_concurrency(_number(length), ratio or "", blocks, pool))
    findings += [_needed(values, pool) for values in log.distinct("needed")]
    changes = _changes(blocks[0] * pool.block_bytes, pool, spec, rule) if blocks else ()
    return Report(
        "vllm", log.version, spec.name, _settings(settings), tuple(findings), changes, _notes(log, spec, settings)
    )


def _paired(tokens: list[int], ranks: list[Rounded]) -> list[tuple[int, Rounded | None]]:
    """Each number of tokens with the memory for which it was printed: the memory of its rank if every rank prints its
    own number, else the smallest memory."""
    if len(set(tokens)) > 1 and len(tokens) == len(ranks):
        pairs: list[tuple[int, Rounded | None]] = list(dict.fromkeys(zip(tokens, ranks, strict=True)))
        return pairs[:MAX_EXPLAINED]
    least = min(ranks, default=None)
    return [(n, least) for n in list(dict.fromkeys(tokens))[:MAX_EXPLAINED]]


def _number(text: str | None) -> int:
    return int((text or "0").replace(",", ""))


def _optional(said: dict[str, str], name: str) -> int | None:
    return int(said[name]) if name in said else None


def _blocks(log: Log) -> range | None:
    printed = [_number(values[0]) for values in log.seen("blocks")]
    return range(min(printed), min(printed) + 1) if printed else None


def _memory(ranks: list[Rounded], settings: Settings) -> Finding:
    line = "Available KV cache memory: " + ", ".join(f"{rank.shown} GiB" for rank in ranks[:64])
    if len(ranks) > 1:
        least = min(ranks)
        says = f"what vLLM measured as left on each rank; the pool is the smallest, {least.shown} GiB, on every rank"
        parts = (Part("left unused on other ranks", sum(rank.low - least.low for rank in ranks)),)
        return Finding(line, "given", says, parts, ("smallest rank",))
    of = f", here of one of {settings.tp}" if settings.tp > 1 else ""
    return Finding(
        line, "given", f"what vLLM measured as left on each rank{of}; GiB are 2^30 bytes", (), ("smallest rank",)
    )


def _token_rules(pool: Plan, version: str | None) -> tuple[str, ...]:
    """The rules by which the tokens may have been printed, the most likely first."""
    if not pool.settings.max_model_len:
        return TOKEN_RULES[1:]
    older = version is not None and tuple(map(int, version.split(".")[:2])) < FIRST_BY_CONCURRENCY
    return TOKEN_RULES[::-1] if older else TOKEN_RULES


class _Found(NamedTuple):
    """How a figure was reproduced.

    Attributes:
        blocks: the numbers of blocks for which it can stand; pool: the pool that has them.
        rule: the rule by which the tokens were printed.
    """

    blocks: range
    pool: Plan
    rule: str


def _tokens(
    tokens: int, memory: Rounded | None, n_ranks: int, pool: Plan, spec: ModelSpec, log: Log
) -> tuple[Finding, _Found | None]:
    """The finding for "GPU KV cache size", and how the figure was reproduced (None if it was not)."""
    line = f"GPU KV cache size: {tokens:,} tokens"
    if memory is None:
        return _without_memory(line, tokens, pool, log.version), None
    for rule in _token_rules(pool, log.version):
        if found := _matching(tokens, memory, pool, rule):
            says = f"{counted(found[0], 'block')} of {pool.block_bytes:,} bytes, from {memory.shown} GiB on each rank"
            finding = Finding(line, "reproduced", says, parts_of(found[0], pool, rule), rules_of(pool, rule))
            return finding, _Found(found, pool, rule)
    settings = pool.settings
    if any(group.kind in ("window", "chunk") for group in pool.groups) and TOKEN_RULES[0] in _token_rules(
        pool, log.version
    ):
        two = plan(spec, replace(settings, in_flight=2 * settings.in_flight))
        if found := _matching(tokens, memory, two, TOKEN_RULES[0]):
            says = f"with {2 * settings.in_flight:,} tokens in flight: two batches, as asynchronous scheduling has"
            finding = Finding(
                line, "reproduced", says, parts_of(found[0], two, TOKEN_RULES[0]), rules_of(two, TOKEN_RULES[0])
            )
            return finding, _Found(found, two, TOKEN_RULES[0])
    if settings.hybrid_manager and len(pool.groups) > 1 and all(group.kind != "state" for group in pool.groups):
        whole = plan(spec, replace(settings, hybrid_manager=False))
        if found := _matching(tokens, memory, whole, "tokens by groups"):
            says = f"every layer holds all tokens, {whole.block_bytes:,} bytes a block: the hybrid manager was off"
            why = f"{whole.token_bytes:,} bytes a token on each rank, windowed layers included"
            part = Part("blocks", found[0] * whole.block_bytes, why)
            finding = Finding(line, "reproduced", says, (part,), ("blocks", "windows at full length"))
            return finding, _Found(found, whole, "tokens by groups")
    for extra in range(1, 5) if "speculative" in log.settings else ():
        drafted = plan(spec, replace(settings, extra_layers=extra))
        for rule in _token_rules(drafted, log.version):
            if found := _matching(tokens, memory, drafted, rule):
                taken = found[0] * (drafted.block_bytes - pool.block_bytes)
                part = Part("draft layers", taken, f"{counted(extra, 'layer')} more than the configuration states")
                finding = Finding(line, "split", "the draft keeps a cache of its own", (part,), ("blocks",))
                return finding, _Found(found, drafted, rule)
    return _difference(line, tokens, memory, n_ranks, pool, log.version)


def _matching(tokens: int, memory: Rounded, pool: Plan, rule: str) -> range | None:
    """The numbers of blocks that fit the printed memory and print as `tokens`; None if there are none."""
    low, high = pool.blocks(memory.low), pool.blocks(memory.high)
    first = _first(tokens, low, high + 1, pool, rule)
    last = _first(tokens + 1, low, high + 1, pool, rule)
    return range(first, last) if first < last else None


def _first(tokens: int, low: int, high: int, pool: Plan, rule: str) -> int:
    """The fewest blocks in [low, high) that print as `tokens` or more; `high` if there are none."""
    return low + bisect_left(range(low, high), tokens, key=lambda blocks: pool.tokens(blocks, rule))


def _without_memory(line: str, tokens: int, pool: Plan, version: str | None) -> Finding:
    """The finding for a number of tokens where the log does not state the memory: the memory follows from it."""
    rule = _token_rules(pool, version)[0]
    blocks = _first(tokens, 0, MOST_BLOCKS, pool, rule)
    if pool.tokens(blocks, rule) == tokens:
        says = f"the log does not print the memory; these tokens need {gib(blocks * pool.block_bytes)} GiB on each rank"
        return Finding(line, "split", says, parts_of(blocks, pool, rule), rules_of(pool, rule))
    missing = blocks * pool.block_bytes
    says = f"no whole number of blocks prints as {tokens:,}, and the log does not print the memory"
    return Finding(line, "unexplained", says, (Part("cannot be explained", missing),))


def _difference(
    line: str, tokens: int, memory: Rounded, n_ranks: int, pool: Plan, version: str | None
) -> tuple[Finding, _Found | None]:
    """The finding for tokens that no memory with the printed digits gives.

    The memory may be in decimal GB, or another rank may have less of it; else the figure is unexplained.
    """
    candidates = []
    for order, rule in enumerate(_token_rules(pool, version)):
        blocks = _first(tokens, 0, MOST_BLOCKS, pool, rule)
        exact = pool.tokens(blocks, rule) == tokens
        candidates.append((not exact, abs(blocks * pool.block_bytes - memory.low), order, blocks, rule))
    inexact, _, _, blocks, rule = min(candidates)
    needed, printed, decimal = blocks * pool.block_bytes, memory.middle, memory.middle * 10**9 // GIB
    found, rules = _Found(range(blocks, blocks + 1), pool, rule), rules_of(pool, rule)
    if not inexact and -HALF_DIGIT <= decimal - needed < pool.block_bytes + HALF_DIGIT:
        part = Part("GB against GiB", printed - decimal, "the memory printed counts 10^9 bytes")
        parts = (part, *parts_of(blocks, pool, rule))
        return Finding(line, "split", "reproduced if the memory is in GB", parts, rules), found
    lacking = memory.low - needed
    if not inexact and n_ranks < pool.settings.tp and 0 < lacking <= memory.low // MOST_RANK_SHARE:
        seen = "one rank's memory is" if n_ranks == 1 else f"the memory of {n_ranks} ranks is"
        why = (
            f"{seen} printed here, and the pool is the smallest of {pool.settings.tp}: "
            f"on that rank {gib(needed)} GiB were left"
        )
        says = f"{counted(blocks, 'block')} of {pool.block_bytes:,} bytes on each rank"
        parts = (*parts_of(blocks, pool, rule), Part("one rank of several", printed - needed, why))
        return Finding(line, "split", says, parts, (*rules, "smallest rank")), found
    here = pool.tokens(pool.blocks(printed), rule)
    says = f"from {memory.shown} GiB these rules print {here:,} tokens; the figure would need {gib(needed)} GiB"
    return Finding(line, "unexplained", says, (Part("cannot be explained", abs(printed - needed)),)), None


def _concurrency(length: int, ratio: str, blocks: range | None, pool: Plan) -> Finding:
    line = f"Maximum concurrency for {length:,} tokens per request: {ratio}x"
    request = pool.request_blocks(length)
    says = f"a request of {length:,} tokens takes {counted(request, 'block')}"
    parts = request_parts(length, pool) if len(pool.groups) > 1 else (Part("request", request * pool.block_bytes),)
    if blocks and any(f"{n / request:.2f}" == ratio for n in {blocks[0], blocks[-1]}):
        return Finding(line, "reproduced", f"{counted(blocks[0], 'block')}; {says}", parts, ("blocks",))
    if not blocks:
        return Finding(line, "split", f"{says}; the log does not print the memory", parts, ("blocks",))
    other = abs(round(float(ratio) * request) - blocks[0]) * pool.block_bytes
    says += f", and {counted(blocks[0], 'block')} hold {blocks[0] / request:.2f} of it"
    return Finding(line, "unexplained", says, (Part("cannot be explained", other),))


def _needed(values: tuple[str | None, ...], pool: Plan) -> Finding:
    length, needed, left, longest = values
    line = f"max seq len ({length}): {needed} GiB KV cache is needed, {left} GiB available"
    exact = pool.request_blocks(_number(length)) * pool.block_bytes
    memory = rounded(left or "0.0")
    # with and without the one block that newer versions keep free
    estimates = range(pool.longest(memory.low - pool.block_bytes), pool.longest(memory.high) + 1)
    part = Part("request", exact, f"of {_number(length):,} tokens, in whole blocks")
    if gib(exact) == needed and (longest is None or _number(longest) in estimates):
        says = f"{estimates[0]:,} to {estimates[-1]:,} tokens fit, by the digits of the memory printed"
        return Finding(line, "reproduced", says, (part,), ("blocks", "null block"))
    missing = abs(rounded(needed or "0.0").middle - exact)
    says = f"by these rules {gib(exact)} GiB are needed, and {estimates[-1]:,} tokens fit"
    return Finding(line, "unexplained", says, (part, Part("cannot be explained", missing)))


def _changes(memory: int, pool: Plan, spec: ModelSpec, rule: str) -> tuple[Change, ...]:
    """Changes that give more tokens in the same memory, the largest number first."""
    settings = pool.settings
    before = pool.tokens(pool.blocks(memory), rule)
    tried: list[tuple[str, Settings, int]] = [
        ("--gpu-memory-utilization: 1 GiB more on each rank", settings, memory + GIB)
    ]
    if settings.kv_dtype in ("auto", "bfloat16", "bf16", "float16", "fp16", "half"):
        tried.append(("--kv-cache-dtype fp8", replace(settings, kv_dtype="fp8"), memory))
    if not settings.hybrid_manager:
        tried.append(("hybrid KV cache manager on", replace(settings, hybrid_manager=True), memory))
    if rule == "tokens by concurrency" and settings.in_flight > 2048:
        tried.append(("--max-num-batched-tokens 2048", replace(settings, in_flight=2048), memory))
    if settings.tp * 2 in tp_choices(spec):
        what = f"--tensor-parallel-size {settings.tp * 2}, with the same memory on each rank"
        tried.append((what, replace(settings, tp=settings.tp * 2), memory))
    changes = []
    for what, changed, room in tried:
        other = plan(spec, changed)
        after = other.tokens(other.blocks(room), rule)
        changes += [Change(what, before, after)] if after > before else []
    return tuple(sorted(changes, key=lambda change: -change.after))


def _settings(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ("max_model_len", "block_tokens", "kv_dtype", "tp", "in_flight")}


def _notes(log: Log, spec: ModelSpec, settings: Settings) -> tuple[str, ...]:
    notes = [f"several values of {name} are in the log; the last is taken" for name in log.conflicting]
    if settings.max_model_len is None:
        notes.append("the log does not state max_model_len, on which newer versions' tokens depend")
    windows = any(getattr(state, "window", None) for layer, _ in spec.groups for state in layer.states)
    if windows and "in_flight" not in log.settings:
        notes.append(
            f"the log does not state max_num_batched_tokens; {settings.in_flight:,} is taken, and windows depend on it"
        )
    return tuple(notes)
