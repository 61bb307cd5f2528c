"""Timing attention: warmed up, checked against float64, interleaved, and set beside what the machine could do.

A case is timed like this. All implementations of a shape get the same fresh random tensors; each is run once and
checked against the float64 reference, then they take turns. Before every timed run a buffer larger than the caches is
read: that leaves the K/V cache in memory, where a decode step of a real model finds it, and its time is the bandwidth
of that very moment, from which the floor is computed. It also drives the program's own code out of the caches, which
in a model the layer before has just used. So where a layer's K/V is small enough for that to count, the implementation
first attends to another layer's, untimed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median, quantiles

import torch
from torch import Tensor

from attention import host, reference
from attention.cases import Case, Result, case_bytes, case_flops
from attention.kernels import Implementation, implementation
from attention.pace import Clock, Pace
from attention.units import binary_bytes

__all__ = ["Case", "Result", "case_bytes", "case_flops", "memory_needed", "run_cases", "tolerance"]

MIN_REPEATS, MAX_REPEATS = 5, 60
RESERVE = 0.9
"""Share of the free memory a case may use."""


def never() -> bool:
    return False


def run_cases(
    cases: Iterable[Case],
    *,
    should_stop: Callable[[], bool] = never,
    seconds_per_case: float = 0.6,
    memory_bytes: int | None = None,
    extra: Mapping[str, Implementation] | None = None,
) -> Iterator[Result]:
    """Time cases and yield each result as soon as its shape is done; the implementations of a shape take turns.

    Args:
        should_stop: asked between any two runs; once true, no further result comes.
        seconds_per_case: time to spend on a case's repeats; at least MIN_REPEATS are made.
        memory_bytes: limit instead of the free memory.
        extra: implementations beside the registered ones, by name (peers to compare with).

    Raises:
        ValueError: before anything is timed: an unknown implementation, no such device, or a case that needs more
            memory than is free.
    """
    resolved = [replace(case, device=resolve_device(case.device)) for case in cases]
    groups = {shape: list(group) for shape, group in _by_shape(resolved)}
    known = dict(extra or {})
    impls = {
        case: known.get(case.implementation) or implementation(case.implementation, case.phase) for case in resolved
    }
    for case, impl in impls.items():
        _check_memory(case, impl, memory_bytes)
    for group in groups.values():
        yield from _time_shape([_Entry(case, impls[case]) for case in group], should_stop, seconds_per_case)
        if should_stop():
            return


def resolve_device(device: str) -> str:
    """ "auto" is CUDA where there is one.

    Raises:
        ValueError: CUDA is asked for and there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: this machine has no CUDA device that torch can use")
    return device


def memory_needed(case: Case, impl: Implementation | None = None) -> int:
    """Bytes a case allocates at most: the cache, that of the layer before, the implementation's copies, the flush
    buffers, the float64 check."""
    impl = impl or implementation(case.implementation, case.phase)
    query = 1 if case.phase == "decode" else case.context
    copies = impl.copies(case.group_size)
    scores = 12 * case.batch * case.n_heads * case.context * query if impl.holds_scores else 0
    check = reference.check_bytes(case.n_heads, case.n_kv_heads, case.head_dim, case.context, query)
    outputs = case.query_bytes * 3 + 8 * (case.query_bytes // 2)
    device = case.device if case.device != "auto" else resolve_device("auto")
    layers = 2 if has_layer_before(replace(case, device=device)) else 1
    return int(case.cache_bytes * (layers + copies)) + scores + outputs + check + 2 * host.flush_bytes(device)


def has_layer_before(case: Case) -> bool:
    """Whether another layer is attended to, untimed, before each timed run; reading a larger K/V takes so long that it
    makes no difference. ``case.device`` must be resolved."""
    return case.cache_bytes < host.flush_bytes(case.device)


def tolerance(dtype: str, context: int) -> float:
    """Largest error allowed, as a share of the result's root mean square.

    Scores, weights and result are each rounded to `dtype` (unit roundoff u): about 4 u of a value, and the largest of
    some thousand values deviates by several times that. Sums over the context are kept in float32 and err like a
    random walk of `context` steps. Random inputs show a third of this; a kernel that loses one chunk of positions
    exceeds it many times.
    """
    u, u32 = torch.finfo(getattr(torch, dtype)).eps / 2, torch.finfo(torch.float32).eps / 2
    return 8 * (4 * u + u32 * context**0.5)


def relative_error(out: Tensor, expected: Tensor) -> float:
    """Largest deviation divided by the root mean square of what is expected; infinite if anything is not finite."""
    if not bool(torch.isfinite(out).all()):
        return float("inf")
    return float((out.double() - expected).abs().max() / expected.square().mean().sqrt())


def random_tensor(shape: Sequence[int], dtype: torch.dtype, device: str) -> Tensor:
    """Normal random numbers, freshly drawn and repeated with a prime period.

    The period divides no head size, so no two rows of a head are alike and a misplaced row shows; drawing every
    element of a 4 GiB cache would take longer than timing it.
    """
    block = torch.randn(1_048_573, device=device).to(dtype)
    out = torch.empty(tuple(shape), dtype=dtype, device=device)
    flat = out.view(-1)
    whole = flat.numel() // block.numel() * block.numel()
    flat[:whole].view(-1, block.numel()).copy_(block.expand(whole // block.numel(), -1))
    flat[whole:].copy_(block[: flat.numel() - whole])
    return out


Inputs = tuple[Tensor, Tensor, Tensor]
"""q, k, v of a case."""


def make_inputs(case: Case) -> Inputs:
    """Fresh random q, k, v of a case."""
    dtype = getattr(torch, case.dtype)
    query = 1 if case.phase == "decode" else case.context
    kv_shape = (case.batch, case.n_kv_heads, case.context, case.head_dim)
    q = random_tensor((case.batch, case.n_heads, query, case.head_dim), dtype, case.device)
    return q, random_tensor(kv_shape, dtype, case.device), random_tensor(kv_shape, dtype, case.device)


@dataclass
class _Entry:
    """An implementation being timed."""

    case: Case
    impl: Implementation
    run: Callable[[], Tensor] | None = None
    run_before: Callable[[], Tensor] | None = None
    error: float | None = None
    notes: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    spent: float = 0.0


def _by_shape(cases: Iterable[Case]) -> Iterator[tuple[tuple, Iterable[Case]]]:
    order = {shape: n for n, shape in enumerate(dict.fromkeys(case.shape for case in cases))}
    return itertools.groupby(sorted(cases, key=lambda case: order[case.shape]), key=lambda case: case.shape)


def _check_memory(case: Case, impl: Implementation, memory_bytes: int | None) -> None:
    limit = int(RESERVE * host.free_memory(case.device)) if memory_bytes is None else memory_bytes
    needed = memory_needed(case, impl)
    if needed > limit:
        raise ValueError(
            f"context {case.context:,} at batch {case.batch} needs {binary_bytes(needed)} for {case.implementation} "
            f"with {case.n_kv_heads} K/V heads in {case.dtype}; {binary_bytes(limit)} may be used here"
        )


@torch.inference_mode()
def _prepare(entry: _Entry, inputs: Inputs, before: Inputs | None, expected: Tensor) -> None:
    """Warm up and check one implementation; a wrong or impossible one is noted and not timed."""
    impl, case = entry.impl, entry.case
    q, k, v = inputs
    reason = impl.unavailable(case.device) or impl.unsuited(case)
    if reason:
        entry.notes.append(f"not run: {reason}")
        return
    try:
        out = impl.run(q, k, v)
        host.synchronize(case.device)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        entry.notes.append(f"not run: {str(error).strip().splitlines()[0][:160]}")
        return
    entry.error = relative_error(out, expected)
    if entry.error > tolerance(case.dtype, case.context):
        entry.notes.append("not timed: wrong beyond the tolerance")
        return
    entry.run = lambda: impl.run(q, k, v)
    if before is not None:
        entry.run_before = lambda: impl.run(*before)


@torch.inference_mode()
def _time_shape(entries: list[_Entry], should_stop: Callable[[], bool], seconds_per_case: float) -> Iterator[Result]:
    case = entries[0].case
    device = case.device
    calibration = host.calibrate(device)
    clock = Clock(device)
    inputs = make_inputs(case)
    before = make_inputs(case) if has_layer_before(case) else None
    expected = reference.attention(*inputs)
    for entry in entries:
        if should_stop():
            return
        _prepare(entry, inputs, before, expected)
    runnable = [entry for entry in entries if entry.run]
    pace = Pace(device, case.dtype, calibration)
    load = host.OtherLoad()
    for entry in runnable:
        assert entry.run
        clock.time(entry.run)
    for turn in range(MAX_REPEATS):
        waiting = [e for e in runnable if len(e.times) < MIN_REPEATS or e.spent < seconds_per_case]
        if not waiting:
            break
        pace.multiply(clock)
        # forth and back, so that none always follows the same one
        for entry in waiting if turn % 2 == 0 else reversed(waiting):
            if should_stop():
                return
            assert entry.run
            start = time.perf_counter()
            pace.read(clock)
            if entry.run_before:
                entry.run_before()
            entry.times.append(clock.time(entry.run))
            entry.spent += time.perf_counter() - start
    others = load.share()
    for entry in entries:
        if others > 0.1 and entry.times:
            entry.notes.append(f"other processes took {others:.0%} of the processor meanwhile")
        yield _result(entry, pace, calibration.cache_bytes)


def _result(entry: _Entry, pace: Pace, cache: int | None) -> Result:
    case = entry.case
    bandwidth, flops_per_s = pace.bytes_per_s, pace.flops_per_s
    memory_s, arithmetic_s = case_bytes(case) / bandwidth, case_flops(case) / flops_per_s
    floor_s = max(memory_s, arithmetic_s)
    median_s = median(entry.times) if entry.times else None
    low, _, high = quantiles(entry.times, n=4) if len(entry.times) > 1 else (0.0, 0.0, 0.0)
    if median_s is not None and cache and case.cache_bytes < cache:
        entry.notes.append(f"K/V would fit the last-level cache ({binary_bytes(cache)}): flushed before each run")
    return Result(
        implementation=case.implementation,
        n_heads=case.n_heads,
        n_kv_heads=case.n_kv_heads,
        head_dim=case.head_dim,
        context=case.context,
        batch=case.batch,
        dtype=case.dtype,
        device=case.device,
        median_s=median_s,
        iqr_s=high - low if median_s is not None else None,
        cache_bytes=case.cache_bytes,
        bytes_per_s=case_bytes(case) / median_s if median_s else None,
        error=entry.error if entry.error is not None and entry.error != float("inf") else None,
        floor_s=floor_s,
        times_floor=median_s / floor_s if median_s else None,
        note="; ".join(entry.notes),
        phase=case.phase,
        bound="memory" if memory_s >= arithmetic_s else "arithmetic",
        repeats=len(entry.times),
        tolerance=tolerance(case.dtype, case.context),
        read_bytes_per_s=bandwidth,
        flops_per_s=flops_per_s,
    )
