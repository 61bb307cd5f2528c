"""Compares the figures of an SGLang log with SGLang's slots (``sglang``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attention.engines.log import SGLANG_DTYPES, UNKNOWN, Log
from attention.engines.report import Change, Finding, Part, Report, gib, rounded
from attention.engines.sglang import Settings, Slots, slots
from attention.errors import check_choice
from attention.memory.allocation import tp_choices
from attention.spec import ModelSpec
from attention.units import counted

_HELD = ("slots", "dummy page", "GB")


def settings_of(
    log: Log, spec: ModelSpec, conv_kernel: int | None = None, tp: int | None = None, kv_dtype: str | None = None
) -> Settings:
    """The settings that a log states, with SGLang's defaults for the others.

    Args:
        tp, kv_dtype: settings that a user states; None for what the log states.

    Raises:
        ValueError: a setting for which no rule is known here.
    """
    said = log.settings
    if "dp_attention" in said:
        raise ValueError("data parallel attention is not known here, and this log has it on")
    kind = kv_dtype or said.get("kv_dtype", "auto")
    if kind == UNKNOWN:
        raise ValueError("the kv_cache_dtype of this log is not known here")
    check_choice("kv_cache_dtype", kind, SGLANG_DTYPES)
    chosen = SGLANG_DTYPES[kind] or SGLANG_DTYPES.get(said.get("dtype", "auto")) or spec.model_dtype
    if chosen is None:
        raise ValueError("neither the log nor the model states a dtype, so the cache's is not known: state --kv-dtype")
    ranks = tp or int(said.get("tp") or said.get("ranks") or 1)
    page = int(said.get("page", Settings.page_tokens))
    return Settings(chosen, page_tokens=page, tp=ranks, conv_kernel=conv_kernel)


def explain(log: Log, spec: ModelSpec, settings: Settings) -> Report:
    """The report on every figure of the log.

    Raises:
        ValueError: the model's layout is not known here.
    """
    pool = slots(spec, settings)
    findings = [_kv(values, pool, spec) for values in log.distinct("kv")]
    findings += [_latent(values, pool) for values in log.distinct("latent")]
    findings += [_pools(values, pool) for values in log.distinct("pools")]
    findings += [_pool_tokens(values, pool) for values in log.distinct("pool tokens")]
    findings += [_states(values, pool) for values in log.distinct("states")]
    findings += [_tokens(values[0] or "", log) for values in log.distinct("tokens")]
    said = {name: getattr(settings, name) for name in ("kv_dtype", "page_tokens", "tp")}
    notes = [f"several values of {name} are in the log; the last is taken" for name in log.conflicting]
    if "ranks" in log.settings and "tp" not in log.settings:
        notes.append(f"the log does not state tp_size; {log.settings['ranks']} ranks wrote lines, and are taken")
    return Report("sglang", log.version, spec.name, said, tuple(findings), _changes(log, pool, spec), tuple(notes))


def _kv(values: tuple[str | None, ...], pool: Slots, spec: ModelSpec) -> Finding:
    tokens, k, v = (value or "" for value in values)
    line = f"KV Cache is allocated. #tokens: {tokens}, K size: {k} GB, V size: {v} GB"
    rows = int(tokens) + pool.settings.page_tokens
    for name, of_k, of_v in _pairs(pool):
        if (gib(rows * of_k), gib(rows * of_v)) == (k, v):
            says = f"{name}: {of_k + of_v:,} bytes a token on each rank, and a page more than is printed"
            rules = (*_HELD, "windowed pool") if pool.window else _HELD
            return Finding(line, "reproduced", says, (Part("K", rows * of_k), Part("V", rows * of_v)), rules)
    printed = rounded(k).middle + rounded(v).middle
    for tp in tp_choices(spec):
        other = slots(spec, replace(pool.settings, tp=tp))
        for name, of_k, of_v in _pairs(other):
            if (gib(rows * of_k), gib(rows * of_v)) == (k, v):
                says = f"reproduced on one of {counted(tp, 'rank')}, not of {pool.settings.tp}: {name}"
                why = f"{of_k + of_v:,} bytes a token; state --tp {tp}"
                return Finding(line, "split", says, (Part("one rank of several", rows * (of_k + of_v), why),), _HELD)
    needed = rows * pool.token_bytes
    says = f"by these rules {gib(rows * pool.k)} and {gib(rows * pool.v)} GB"
    return Finding(line, "unexplained", says, (Part("cannot be explained", abs(printed - needed)),))


def _pairs(pool: Slots) -> list[tuple[str, int, int]]:
    """(layers of the pool, bytes of a token's K, bytes of its V) for each pool."""
    pairs = [("layers that hold every token", pool.k, pool.v)]
    return [*pairs, ("windowed layers", pool.window_k, pool.window_v)] if pool.window else pairs


def _latent(values: tuple[str | None, ...], pool: Slots) -> Finding:
    tokens, size = (value or "" for value in values)
    line = f"KV Cache is allocated. #tokens: {tokens}, KV size: {size} GB"
    # the indexer's keys have separate buffers, which older lines leave out
    return _total(line, int(tokens) + pool.settings.page_tokens, size, pool.token_bytes, "a token on every rank")


def _total(line: str, rows: int, size: str, row_bytes: int, what: str) -> Finding:
    total = rows * row_bytes
    if gib(total) == size:
        return Finding(line, "reproduced", f"{row_bytes:,} bytes {what}", (Part("slots", total),), _HELD)
    says = f"by these rules {gib(total)} GB"
    parts = (Part("slots", total), Part("cannot be explained", abs(rounded(size).middle - total)))
    return Finding(line, "unexplained", says, parts)


def _pools(values: tuple[str | None, ...], pool: Slots) -> Finding:
    size, windowed, full = (value or "" for value in values)
    line = f"SWAKVPool mem usage: {size} GB, swa size: {windowed}, full size: {full}"
    page = pool.settings.page_tokens
    parts = (
        Part("windowed layers", (int(windowed) + page) * pool.window_bytes, f"{pool.window_bytes:,} bytes a token"),
        Part("other layers", (int(full) + page) * pool.token_bytes, f"{pool.token_bytes:,} bytes a token"),
    )
    total = sum(part.n_bytes for part in parts)
    if gib(total) == size and pool.window:
        return Finding(line, "reproduced", "both pools together", parts, (*_HELD, "windowed pool", "shared layers"))
    rest = Part("cannot be explained", abs(rounded(size).middle - total))
    return Finding(line, "unexplained", f"by these rules {gib(total)} GB", (*parts, rest))


def _pool_tokens(values: tuple[str | None, ...], pool: Slots) -> Finding:
    full, windowed = (int(value or 0) for value in values)
    line = f"full_layer_tokens={full}, swa_layer_tokens={windowed}"
    page = pool.settings.page_tokens
    expected = full * pool.settings.window_ratio // 1000 // page * page
    # the engine rounds the full pool to pages after it has applied the ratio
    if abs(windowed - expected) <= page:
        says = f"{pool.settings.window_ratio / 1000:g} times the other layers' slots, whatever the window"
        return Finding(line, "reproduced", says, (), ("windowed pool",))
    says = f"the ratio of the two is {windowed / full:.3f}" if full else "no layer holds every token"
    return Finding(line, "split", f"{says}: --swa-full-tokens-ratio was set", (), ("windowed pool",))


def _states(values: tuple[str | None, ...], pool: Slots) -> Finding:
    count, conv, state = (value or "" for value in values)
    line = f"max_mamba_cache_size: {count}, conv_state size: {conv}GB, ssm_state size: {state}GB"
    rows = int(count) + 1
    sizes = ((rows * pool.conv, conv), (rows * pool.state, state))
    parts = tuple(Part(name, size) for name, (size, _) in zip(("convolution", "state"), sizes, strict=True))
    if all(gib(size) == said for size, said in sizes):
        says = f"{pool.sequence_bytes:,} bytes a sequence, and a slot more than is printed"
        return Finding(line, "reproduced", says, parts, ("state slots",))
    missing = sum(abs(rounded(said).middle - size) for size, said in sizes)
    says = f"by these rules {gib(sizes[0][0])} and {gib(sizes[1][0])} GB"
    return Finding(line, "unexplained", says, (*parts, Part("cannot be explained", missing)))


def _tokens(tokens: str, log: Log) -> Finding:
    line = f"max_total_num_tokens={tokens}"
    held = {values[0] for kind in ("kv", "latent") for values in log.seen(kind)}
    held |= {values[2] for values in log.seen("pools")} | {values[0] for values in log.seen("pool tokens")}
    if tokens in held:
        return Finding(line, "reproduced", "slots of layers that hold every token, of all requests together")
    if not held:
        return Finding(line, "given", "tokens of all requests together; the log does not print the memory")
    return Finding(line, "given", "fewer or more than the pool holds: --max-total-tokens was set, or a draft shares it")


def _changes(log: Log, pool: Slots, spec: ModelSpec) -> tuple[Change, ...]:
    """Changes that give more tokens in the memory that the slots take now, the largest number first."""
    found = [int(values[0] or 0) for kind in ("kv", "latent") for values in log.seen(kind)]
    pairs = [(int(values[2] or 0), int(values[1] or 0)) for values in log.seen("pools")]
    pairs += [(int(values[0] or 0), int(values[1] or 0)) for values in log.seen("pool tokens")]
    before, windowed = pairs[0] if pairs else (max(found, default=0), 0)
    if not before or not pool.token_bytes:
        return ()
    room = before * pool.token_bytes + windowed * pool.window_bytes
    if pool.sequence_bytes:
        # states have their own pool, which does not change
        pool = pool._replace(conv=0, state=0)
    tried: list[tuple[str, dict[str, Any]]] = []
    if pool.settings.kv_dtype in ("bf16", "fp16"):
        tried.append(("--kv-cache-dtype fp8_e4m3", {"kv_dtype": "fp8"}))
    if pool.window and pool.settings.window_ratio > 200:
        tried.append(("--swa-full-tokens-ratio 0.2: fewer requests with full windows", {"window_ratio": 200}))
    if pool.settings.tp * 2 in tp_choices(spec):
        doubled = pool.settings.tp * 2
        tried.append((f"--tp {doubled}, with the same memory on each rank", {"tp": doubled}))
    changes = []
    for what, changed in tried:
        other = slots(spec, replace(pool.settings, **changed))._replace(conv=0, state=0)
        after, _ = other.tokens(room)
        changes += [Change(what, before, after)] if after > before else []
    return tuple(sorted(changes, key=lambda change: -change.after))
