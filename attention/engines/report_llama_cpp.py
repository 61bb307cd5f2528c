"""Compares the figures of a llama.cpp log with llama.cpp's cells and types (``llama_cpp``)."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import Any

from attention.engines.llama_cpp import PAD, TYPES, Pool, Settings, mib, padded, pools
from attention.engines.log import UNKNOWN, Log
from attention.engines.report import Change, Finding, Part, Report
from attention.memory.load import MAX_CONTEXT
from attention.spec import ModelSpec, Role, uniform_spec
from attention.units import counted

MIB = 2**20


def settings_of(log: Log, conv_kernel: int | None = None) -> Settings:
    """The settings that a log states, with llama.cpp's defaults for the others.

    Where the log does not state n_ctx, it follows from the cells that a line states.

    Raises:
        ValueError: neither n_ctx nor a number of cells is in the log, or a type of K or V that is not known here.
    """
    said, lines = log.settings, [values for values in log.seen("kv") if values[1]]
    types = [(values[5], values[7]) for values in log.seen("kv")][:1]
    type_k, type_v = types[0] if types else (said.get("type_k", "f16"), said.get("type_v", "f16"))
    if UNKNOWN in (type_k, type_v):
        raise ValueError("this log's type of K or V is not known here")
    sequences = int(said.get("n_seq_max") or (lines[0][3] if lines else None) or 1)
    streams = int(lines[0][4] or 1) if lines else 0
    cells = max((int(values[1] or 0) for values in lines), default=0)
    n_ctx = int(said["n_ctx"]) if "n_ctx" in said else cells * max(1, streams)
    if not n_ctx:
        raise ValueError("neither n_ctx nor a number of cells is in this log")
    return Settings(
        n_ctx,
        n_ubatch=int(said.get("n_ubatch", Settings.n_ubatch)),
        type_k=str(type_k),
        type_v=str(type_v),
        n_seq_max=sequences,
        # versions that print no streams have one pool
        unified=(streams == 1 and sequences > 1) if lines else said.get("unified") == "true",
        swa_full="swa_full" in said,
        conv_kernel=conv_kernel,
    )


def shape_of(log: Log) -> ModelSpec | None:
    """A model with the sizes that a log states; None where sizes are missing or the layers do not follow from them."""
    said = log.settings
    names = ("n_layer", "n_head", "n_head_kv", "k_head_dim")
    plain = said.get("arch") in ("llama", "qwen2", "qwen3", "qwen3moe", "mistral", "mistral3")
    if not plain or any(name not in said for name in names) or any(int(said.get(n, 0)) for n in ("n_swa", "d_state")):
        return None
    if said.get("v_head_dim", said["k_head_dim"]) != said["k_head_dim"]:
        return None
    n_layers, n_heads, n_kv_heads, head_dim = (int(said[name]) for name in names)
    return uniform_spec(n_layers, n_heads, n_kv_heads, head_dim, name="the sizes that the log states")


def explain(log: Log, spec: ModelSpec, settings: Settings) -> Report:
    """The report on every figure of the log.

    Raises:
        ValueError: the model's layout is not known here.
    """
    expected = pools(spec, settings)
    findings = [_cells(settings)] if "n_ctx" in log.settings else []
    for kind, name in (("cells", "KV"), ("window cells", "SWA")):
        for (printed,) in log.distinct(kind):
            pool = next((pool for pool in expected if pool.name == name), None)
            findings.append(_pool_cells(int(printed or 0), name, pool, settings))
    found = [_kv(values, expected, spec, settings) for values in log.distinct("kv")]
    found += [_recurrent(values, expected) for values in log.distinct("recurrent")]
    found += [_self(values[0] or "", spec, settings) for values in log.distinct("self")]
    buffers = [values[0] or "0" for values in log.seen("buffer") if float(values[0] or 0)]
    findings += found
    if buffers:
        findings.append(_buffers(buffers, [pool for pool in expected if pool.name != "recurrent"]))
    shown = {
        name: getattr(settings, name) for name in ("n_ctx", "n_ubatch", "type_k", "type_v", "n_seq_max", "unified")
    }
    shown |= {"swa_full": settings.swa_full, "flash_attn": log.settings.get("flash_attn")}
    notes = [f"several values of {name} are in the log; the last is taken" for name in log.conflicting]
    changes = _changes(spec, settings, log)
    return Report("llama.cpp", log.version, spec.name, shown, tuple(findings), changes, tuple(notes))


def _cells(settings: Settings) -> Finding:
    asked = settings.n_ctx if settings.unified else settings.n_ctx // settings.n_seq_max
    says = f"{counted(settings.cells, 'cell')} for {'all sequences' if settings.unified else 'each sequence'}"
    parts = (
        (Part("cells of padding", settings.cells - asked, f"cells, to a multiple of {PAD}"),)
        if settings.cells - asked
        else ()
    )
    return Finding(f"n_ctx = {settings.n_ctx}", "given", says, parts, ("cells",))


def _pool_cells(printed: int, name: str, pool: Pool | None, settings: Settings) -> Finding:
    line = f"{'non-SWA' if name == 'KV' else 'SWA'} KV cache, size = {printed} cells"
    rules = ("cells",) if name == "KV" else ("window",)
    if pool is None or pool.cells != printed:
        says = "the model has no such layers" if pool is None else f"by these rules {counted(pool.cells, 'cell')}"
        return Finding(line, "unexplained", says, (), rules)
    window = f"window and n_ubatch {settings.n_ubatch}, padded" if not settings.swa_full else "at full length"
    return Finding(line, "reproduced", window if name == "SWA" else "cells of layers that hold every token", (), rules)


def _kv(values: tuple[str | None, ...], expected: tuple[Pool, ...], spec: ModelSpec, settings: Settings) -> Finding:
    total, cells, n_layers, _, _, type_k, k, type_v, v = (value or "" for value in values)
    where = f" ({cells} cells, {n_layers} layers)" if cells else ""
    line = f"size = {total} MiB{where}, K ({type_k}): {k} MiB, V ({type_v}): {v} MiB"
    if UNKNOWN in (type_k, type_v):
        return Finding(
            line, "unexplained", "a type that is not known here", (Part("cannot be explained", _bytes(total)),)
        )
    changed = replace(settings, type_k=type_k, type_v=type_v)
    for variant, rules in ((changed, ("size",)), (replace(changed, latent_v=True), ("size", "latent as K and V"))):
        for pool in _resized(pools(spec, variant), cells, n_layers):
            if (mib(pool.total_bytes), mib(pool.k_bytes), mib(pool.v_bytes)) == (total, k, v):
                says = _says(pool) + _otherwise(pool, expected)
                return Finding(line, "reproduced", says, _parts(pool), (*rules, *_latent(spec, variant)))
    return _wrong(line, _bytes(total), _closest(_resized(pools(spec, changed), cells, ""), n_layers, _bytes(total)))


def _resized(found: tuple[Pool, ...], cells: str, n_layers: str) -> list[Pool]:
    """The pools of keys and values with the number of cells that a line states, if it states one."""
    kept = [pool for pool in found if pool.name != "recurrent" and (not n_layers or pool.n_layers == int(n_layers))]
    if not cells:
        return kept
    rows = int(cells)
    return [
        p._replace(cells=rows, k_bytes=p.k_bytes // p.cells * rows, v_bytes=p.v_bytes // p.cells * rows) for p in kept
    ]


def _closest(found: list[Pool], n_layers: str, total: int) -> Pool | None:
    return min(found, key=lambda pool: abs(pool.total_bytes - total), default=None)


def _wrong(line: str, total: int, pool: Pool | None) -> Finding:
    if pool is None:
        return Finding(line, "unexplained", "the model has no such layers", (Part("cannot be explained", total),))
    missing = abs(total - pool.total_bytes)
    says = f"by these rules {mib(pool.total_bytes)} MiB: {_cells_of(pool)}"
    layer = pool.total_bytes // pool.n_layers
    if total > pool.total_bytes and not missing % layer and missing // layer <= 4:
        extra = counted(missing // layer, "layer")
        part = Part("more layers", missing, f"{extra} more than the configuration states, as an MTP layer would be")
        return Finding(line, "split", says, (*_parts(pool), part), ("size",))
    return Finding(line, "unexplained", says, (*_parts(pool), Part("cannot be explained", missing)))


def _cells_of(pool: Pool) -> str:
    streams = f" × {pool.streams} streams" if pool.streams > 1 else ""
    return f"{counted(pool.n_layers, 'layer')} × {counted(pool.cells, 'cell')}{streams}"


def _says(pool: Pool) -> str:
    row = pool.total_bytes // (pool.cells * pool.streams)
    return f"{_cells_of(pool)}, {row:,} bytes a cell; MiB are 2^20 bytes"


def _otherwise(pool: Pool, expected: tuple[Pool, ...]) -> str:
    """Words for a line whose number of cells differs from that of the settings; "" where it is equal."""
    cells = next(other.cells for other in expected if other.name == pool.name)
    return "" if cells == pool.cells else f"; the settings would give {counted(cells, 'cell')}"


def _latent(spec: ModelSpec, settings: Settings) -> tuple[str, ...]:
    latent = any(state.role is Role.LATENT for layer, _ in spec.groups for state in layer.states)
    return ("latent",) if latent and not settings.latent_v else ()


def _parts(pool: Pool) -> tuple[Part, ...]:
    names = ("R", "S") if pool.name == "recurrent" else ("K", "V")
    return (Part(names[0], pool.k_bytes), Part(names[1], pool.v_bytes))


def _recurrent(values: tuple[str | None, ...], expected: tuple[Pool, ...]) -> Finding:
    total, cells, _, _, kept, r, s = (value or "" for value in values)
    line = f"size = {total} MiB ({cells} cells), R (f32): {r} MiB, S (f32): {s} MiB"
    pool = next((pool for pool in expected if pool.name == "recurrent"), None)
    if pool is not None:
        rows = int(cells) * (1 + int(kept or 0))
        pool = pool._replace(
            k_bytes=pool.k_bytes // pool.cells * rows, v_bytes=pool.v_bytes // pool.cells * rows, cells=rows
        )
        if (mib(pool.k_bytes), mib(pool.v_bytes)) == (r, s):
            rules = ("recurrent", "kept states") if int(kept or 0) else ("recurrent",)
            return Finding(line, "reproduced", f"{_cells_of(pool)}, fp32", _parts(pool), rules)
    return _wrong(line, _bytes(total), pool)


def _self(total: str, spec: ModelSpec, settings: Settings) -> Finding:
    """The finding for the line of versions from 2023, which states no type and has no padding of cells."""
    line = f"kv self size = {total} MB"
    for name in ("f16", "f32"):
        found = pools(spec, replace(settings, type_k=name, type_v=name))
        [*some] = _resized(found, str(settings.n_ctx), "")
        if len(some) == 1 and mib(some[0].total_bytes) == total:
            return Finding(line, "reproduced", f"in {name}; {_cells_of(some[0])}", _parts(some[0]), ("size", "MB"))
    return _wrong(line, _bytes(total), pools(spec, settings)[0])


def _buffers(printed: list[str], expected: list[Pool]) -> Finding:
    line = "KV buffer size = " + ", ".join(f"{size} MiB" for size in printed[:64])
    total, needed = sum(_bytes(size) for size in printed), sum(pool.total_bytes for pool in expected)
    if abs(total - needed) <= len(printed) * MIB // 200 + 1:
        says = f"{counted(len(printed), 'buffer')} together hold the cache"
        return Finding(line, "reproduced", says, tuple(part for pool in expected for part in _parts(pool)), ("size",))
    return Finding(
        line, "unexplained", f"the cache takes {mib(needed)} MiB", (Part("cannot be explained", abs(total - needed)),)
    )


def _bytes(shown: str) -> int:
    """Bytes of a printed number of MiB, rounded down."""
    whole, _, digits = shown.partition(".")
    return int(whole + digits) * MIB // 10 ** len(digits)


def _changes(spec: ModelSpec, settings: Settings, log: Log) -> tuple[Change, ...]:
    """Changes that give more tokens in the bytes that the cache takes now, the largest number first."""
    room = sum(pool.total_bytes for pool in pools(spec, settings))
    tried: list[tuple[str, dict[str, Any]]] = []
    for name in ("q8_0", "q4_0"):
        if TYPES[settings.type_k].bits > TYPES[name].bits:
            both = {"type_k": name, "type_v": name}
            tried += [(f"--cache-type-k {name} --cache-type-v {name} (V needs flash attention)", both)]
    if settings.swa_full:
        tried.append(("without --swa-full", {"swa_full": False}))
    if settings.n_ubatch > 256:
        tried.append(("--ubatch-size 256", {"n_ubatch": 256}))
    if settings.n_seq_max > 1:
        tried.append(("--parallel 1: tokens of one sequence", {"n_seq_max": 1}))
    before = settings.cells
    found = []
    for what, changed in tried:
        try:
            after = _most_cells(spec, replace(settings, **changed), room)
        except ValueError:  # a head of the model is not whole blocks of the type
            continue
        found += [Change(what, before, after)] if after > before else []
    return tuple(sorted(found, key=lambda change: -change.after))


def _most_cells(spec: ModelSpec, settings: Settings, room: int) -> int:
    """The most cells of one stream with which all pools fit into `room` bytes."""
    share = 1 if settings.unified else settings.n_seq_max

    def needed(n: int) -> int:
        return sum(pool.total_bytes for pool in pools(spec, replace(settings, n_ctx=padded(n * PAD) * share)))

    return PAD * bisect_right(range(1, MAX_CONTEXT // PAD // share + 1), room, key=needed)
