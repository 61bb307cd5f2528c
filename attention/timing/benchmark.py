"""Times attention: warmed up, checked against float64, in turn, and compared with what the machine can do.

A case is timed like this. All implementations of a shape get the same fresh random tensors; each runs once and is
checked against the float64 reference. Then all cases that may be compared, every implementation and every number of
K/V heads, take turns. So whatever else the machine does disturbs all of them, and each round gives a ratio
(``attention/timing/rounds.py``, ``attention/timing/steadiness.py``).

Before every timed run a buffer larger than the processor's caches is read. After it the K/V cache is in memory only,
where a decode step of a real model finds it. The time of that reading gives the bandwidth of this moment, and the
bandwidth gives the floor. The reading also drives the program's own code out of the processor's caches; in a model the
layer before has just used that code. Where a layer's K/V is so small that this counts, the implementation first attends
to the K/V of another layer, untimed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median, quantiles

import torch
from torch import Tensor

from attention.floor import MEMORY, floor
from attention.kernels import reference
from attention.kernels.case import Case, Result, case_bytes, case_flops
from attention.kernels.reference import relative_error, tolerance
from attention.kernels.registry import Implementation, implementation
from attention.timing import host, speed
from attention.timing.inputs import RESERVE, Inputs, has_layer_before, make_inputs, memory_needed, resolve_device
from attention.timing.pace import Clock
from attention.timing.rounds import Rounds, Timed
from attention.timing.steadiness import STILL_TIMED, why_unsteady
from attention.units import binary_bytes

FASTER = 1.05
"""A note is made when a step reads more than so many times faster than the buffer was read."""


def never() -> bool:
    """A `should_stop` that never stops."""
    return False


def run_cases(
    cases: Iterable[Case],
    *,
    should_stop: Callable[[], bool] = never,
    seconds_per_case: float = 0.6,
    memory_bytes: int | None = None,
    extra: Mapping[str, Implementation] | None = None,
    provisional: bool = False,
) -> Iterator[Result]:
    """Time cases and yield each result as soon as it is known. Cases that may be compared are timed in the same rounds.

    Args:
        should_stop: asked between any two runs; once it is true, no further result comes.
        seconds_per_case: time to spend on a case's repeats. At least MIN_REPEATS are made, and up to PATIENCE times
            as long is spent while something disturbs them.
        memory_bytes: a limit in place of the free memory.
        extra: further implementations by name, to compare with the registered ones.
        provisional: also yield results so far, marked as unsteady (STILL_TIMED): of each implementation after its first
            run, then of all every ``rounds.SHOWN_AFTER_S`` seconds.

    Raises:
        ValueError: before anything is timed: an unknown implementation, no such device, or a case that needs more
            memory than is free.
    """
    impls = check(cases, memory_bytes, extra)

    def limit(device: str) -> int:
        return _limit(device, memory_bytes)

    for number, together in enumerate(_sets(impls, limit), 1):
        yield from _time_set(together, impls, number, should_stop, seconds_per_case, provisional)
        if should_stop():
            return


def check(
    cases: Iterable[Case], memory_bytes: int | None = None, extra: Mapping[str, Implementation] | None = None
) -> dict[Case, Implementation]:
    """The implementation of each case, its device resolved.

    Raises:
        ValueError: see :func:`run_cases`.
    """
    known = dict(extra or {})
    found: dict[Case, Implementation] = {}
    for case in cases:
        resolved = replace(case, device=resolve_device(case.device))
        impl = known.get(case.implementation) or implementation(case.implementation, case.phase)
        _check_memory(resolved, impl, _limit(resolved.device, memory_bytes))
        found[resolved] = impl
    return found


def _limit(device: str, memory_bytes: int | None) -> int:
    return int(RESERVE * host.free_memory(device)) if memory_bytes is None else memory_bytes


def _allowed(case: Case) -> float:
    return tolerance(case.dtype, case.context, case.head_dim, case.batch * case.n_heads * case.head_dim)


@dataclass
class _Entry:
    """An implementation being timed."""

    case: Case
    impl: Implementation
    inputs: Inputs
    timed: Timed | None = None
    error: float | None = None
    notes: list[str] = field(default_factory=list)


def _sets(cases: Mapping[Case, Implementation], limit: Callable[[str], int]) -> Iterator[list[Case]]:
    """Sets of cases to time in the same rounds: all that may be compared. Where the memory is too small for all, a set
    is the cases of one number of K/V heads."""
    found: dict[tuple, list[Case]] = {}
    for case in cases:
        found.setdefault(case.compared_with, []).append(case)
    for together in found.values():
        shapes: dict[int, list[Case]] = {}
        for case in together:
            shapes.setdefault(case.n_kv_heads, []).append(case)
        # the query heads are the same, so what differs is the K/V cache
        held = sum(2 * own[0].cache_bytes for own in shapes.values())
        most = max(memory_needed(case, cases[case]) for case in together)
        if held + most <= limit(together[0].device):
            yield together
        else:
            yield from shapes.values()


def _check_memory(case: Case, impl: Implementation, limit: int) -> None:
    needed = memory_needed(case, impl)
    if needed > limit:
        raise ValueError(
            f"context {case.context:,} at batch {case.batch} needs {binary_bytes(needed)} for {case.implementation} "
            f"with {case.n_kv_heads} K/V heads in {case.dtype}; {binary_bytes(limit)} may be used here"
        )


@torch.inference_mode()
def _prepare(entry: _Entry, before: Inputs | None, expected: Tensor, clock: Clock) -> None:
    """Warm up and check one implementation. One that is wrong or cannot run gets a note and is not timed."""
    impl, case, inputs = entry.impl, entry.case, entry.inputs
    reason = impl.unavailable(case.device) or impl.unsuited(case)
    if reason:
        entry.notes.append(f"not run: {reason}")
        return
    try:
        out = impl.run(*inputs)
        speed.synchronize(case.device)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        entry.notes.append(f"not run: {str(error).strip().splitlines()[0][:160]}")
        return
    entry.error = relative_error(out, expected)
    if entry.error > _allowed(case):
        entry.notes.append("not timed: wrong beyond the tolerance")
        return
    entry.timed = Timed(
        clock.recorded(lambda: impl.run(*inputs)),
        case_bytes(case),
        case_flops(case),
        None if before is None else clock.recorded(lambda: impl.run(*before)),
    )


@dataclass(frozen=True)
class _Inputs:
    """Tensors of one shape: of the timed layer, of the layer before it, and the timed layer's expected result."""

    own: Inputs
    before: Inputs | None
    expected: Tensor


@torch.inference_mode()
def _time_set(
    cases: Sequence[Case],
    impls: Mapping[Case, Implementation],
    number: int,
    should_stop: Callable[[], bool],
    seconds_per_case: float,
    provisional: bool,
) -> Iterator[Result]:
    device = cases[0].device
    calibration = speed.calibrate(device)
    rounds = Rounds(device, cases[0].dtype, calibration)
    drawn: dict[int, _Inputs] = {}
    entries: list[_Entry] = []
    # compiled implementations come last and small caches first, so that the first result comes soon
    for case in sorted(cases, key=lambda case: (impls[case].compiled, case.cache_bytes)):
        if should_stop():
            return
        if case.n_kv_heads not in drawn:
            own = make_inputs(case)
            before = make_inputs(case) if has_layer_before(case) else None
            drawn[case.n_kv_heads] = _Inputs(own, before, reference.attention(*own))
        inputs = drawn[case.n_kv_heads]
        entry = _Entry(case, impls[case], inputs.own)
        entries.append(entry)
        _prepare(entry, inputs.before, inputs.expected, rounds.clock)
        if entry.timed:
            once = rounds.once(entry.timed)
            if provisional:
                yield _result(entry, rounds, entries, calibration.cache_bytes, number, [once], STILL_TIMED)
    entries.sort(key=lambda entry: cases.index(entry.case))
    runnable = [entry.timed for entry in entries if entry.timed]
    for _ in rounds.pauses(runnable, seconds_per_case * len(runnable), should_stop, wanted=provisional):
        for entry in entries:
            if entry.timed:
                times = rounds.counted(entry.timed)
                yield _result(entry, rounds, entries, calibration.cache_bytes, number, times, STILL_TIMED)
    if should_stop():
        return
    for entry in entries:
        times = rounds.counted(entry.timed) if entry.timed else []
        unsteady = why_unsteady(times, rounds.loads) if times else ""
        yield _result(entry, rounds, entries, calibration.cache_bytes, number, times, unsteady)


def _result(
    entry: _Entry,
    rounds: Rounds,
    entries: Sequence[_Entry],
    cache: int | None,
    number: int,
    times: Sequence[float],
    unsteady: str,
) -> Result:
    case, notes = entry.case, list(entry.notes)
    times = [float(f"{seconds:.5g}") for seconds in times]
    median_s = median(times) if times else None
    low, _, high = quantiles(times, n=4) if len(times) > 1 else (0.0, 0.0, 0.0)
    bandwidth, flops_per_s = rounds.rates([other.timed for other in entries if other.timed])
    least = floor(case_bytes(case), case_flops(case), bandwidth, flops_per_s)
    floor_s = least.time_s
    if median_s is not None and median_s < floor_s:
        floor_s = median_s  # a single run so far, or rounded times, can be below the floor
    if bandwidth > FASTER * rounds.pace.bytes_per_s:
        notes.append("a step read faster than the reading beside it: the floor is what the fastest step reached")
    if median_s is not None and cache and case.cache_bytes < cache:
        notes.append(f"K/V would fit the last-level cache ({binary_bytes(cache)}): flushed before each run")
    return Result(
        case,
        median_s=median_s,
        iqr_s=high - low if median_s is not None else None,
        bytes_per_s=case_bytes(case) / median_s if median_s else None,
        error=entry.error if entry.error is not None and entry.error != float("inf") else None,
        floor_s=floor_s,
        times_floor=median_s / floor_s if median_s else None,
        note="; ".join(notes),
        bound="memory" if least.binds == MEMORY else "arithmetic",
        repeats=len(times),
        tolerance=_allowed(case),
        read_bytes_per_s=bandwidth,
        flops_per_s=flops_per_s,
        times_s=tuple(times),
        together=number,
        unsteady=unsteady,
    )
