"""Times steps over kinds of cache: checked against float64, in turn, and compared with what the machine can do.

``attention/timing/benchmark.py`` does this for ordinary attention. Here the caller names the cases that are compared:
the cases of one set are timed in the same rounds, so that the two times of a ratio are of the same moments.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median, quantiles

import torch
from torch import Tensor

from attention.floor import MEMORY, floor
from attention.kernels.case import DTYPES
from attention.kernels.kinds import inputs, reference
from attention.kernels.kinds.case import ONE_PLANE, KindCase, KindResult, kind_bytes, kind_flops
from attention.kernels.kinds.registry import KindImplementation, implementation
from attention.kernels.kinds.stored import Cache
from attention.kernels.reference import relative_error, tolerance
from attention.timing import host, speed
from attention.timing.inputs import RESERVE, resolve_device
from attention.timing.rounds import Rounds, Timed
from attention.timing.steadiness import STILL_TIMED, why_unsteady
from attention.units import binary_bytes

CHECKED_BYTES = 2**30
"""Of a cache of more bytes, only the first and the last sequence are checked against float64."""
ROUNDED = 1.5
"""Factor of the tolerance of quantised caches: widening in registers rounds once more."""
INDEX_ERROR = 0.03
"""Largest ``reference.choice_error`` of an indexer: its products are rounded to the dtype of its queries."""


def never() -> bool:
    """A `should_stop` that never stops."""
    return False


def check(case: KindCase) -> KindCase:
    """The case with its device resolved.

    Raises:
        ValueError: an unknown implementation, no such device, or a case that needs more memory than is free.
    """
    resolved = replace(case, device=resolve_device(case.device))
    needed, limit = memory_needed(resolved), int(RESERVE * host.free_memory(resolved.device))
    if needed > limit:
        raise ValueError(
            f"context {case.context:,} at batch {case.batch} needs {binary_bytes(needed)} for {case.implementation} "
            f"of kind {case.kind}; {binary_bytes(limit)} may be used here"
        )
    return resolved


def memory_needed(case: KindCase) -> int:
    """Most bytes that a case takes: its cache, the cache of the layer before, scores and a widened cache where the
    implementation makes them, the float64 check of one K/V head, the flush buffers."""
    impl = implementation(case.implementation)
    layers = 2 if _has_layer_before(case) else 1
    pairs = case.batch * case.n_heads * case.q_len * case.slots
    widened = 0
    if impl.widens:
        rows = case.batch * case.n_kv_heads * case.slots
        widened = rows * (case.head_dim + (0 if case.kind in ONE_PLANE else case.value_dim)) * DTYPES[case.dtype]
    scores = 12 * pairs if impl.widens else 0
    group = case.group_size * case.q_len
    checked = 8 * case.slots * (2 * case.head_dim + case.value_dim + 4 * group + 4 * case.q_len * case.index_heads)
    index = 16 * case.batch * case.q_len * case.context if case.top_k else 0
    return layers * case.cache_bytes + widened + scores + checked + index + 2 * speed.flush_bytes(case.device)


def set_memory(cases: Sequence[KindCase]) -> int:
    """Most bytes that cases of the same rounds take: the caches of every shape, and the most that a case needs beside
    its own cache."""
    shapes = {case.shape: case for case in cases}
    held = {shape: case.cache_bytes * (2 if _has_layer_before(case) else 1) for shape, case in shapes.items()}
    return sum(held.values()) + max(memory_needed(case) - held[case.shape] for case in cases)


def _has_layer_before(case: KindCase) -> bool:
    return case.cache_bytes < speed.flush_bytes(case.device)


def run_set(
    cases: Sequence[KindCase],
    *,
    number: int = 1,
    seconds_per_case: float = 0.3,
    should_stop: Callable[[], bool] = never,
    provisional: bool = False,
) -> Iterator[KindResult]:
    """Time cases in the same rounds. Results come in the order of the cases, once all are known.

    Args:
        cases: of one device and dtype; cases of one shape get the same tensors.
        number: the results' `together`, which names their rounds.
        seconds_per_case: time to spend on a case's repeats.
        should_stop: asked between any two runs; once it is true, nothing more is timed.
        provisional: also yield results so far, marked as unsteady (STILL_TIMED): of each case after its first run, then
            of all every ``rounds.SHOWN_AFTER_S`` seconds.

    Raises:
        ValueError: see :func:`check`; or cases of several devices or dtypes.
    """
    cases = [check(case) for case in cases]
    if len({(case.device, case.dtype) for case in cases}) != 1:
        raise ValueError("cases that are timed together must be of one device and one dtype")
    with torch.inference_mode():
        yield from _run(cases, number, seconds_per_case, should_stop, provisional)


@dataclass
class _Entry:
    """A case being timed."""

    case: KindCase
    impl: KindImplementation
    timed: Timed | None = None
    error: float | None = None
    notes: list[str] = field(default_factory=list)


def _run(
    cases: Sequence[KindCase], number: int, seconds: float, should_stop: Callable[[], bool], provisional: bool
) -> Iterator[KindResult]:
    device, dtype = cases[0].device, cases[0].dtype
    rounds = Rounds(device, dtype, speed.calibrate(device))
    drawn: dict[tuple, tuple[tuple[Tensor, Cache], tuple[Tensor, Cache] | None]] = {}
    entries = []
    for case in cases:
        if should_stop():
            return
        entry = _Entry(case, implementation(case.implementation))
        entries.append(entry)
        if reason := entry.impl.refuses(case):
            entry.notes.append(f"not run: {reason}")
            continue
        if case.shape not in drawn:
            drawn[case.shape] = inputs.make(case), inputs.make(case) if _has_layer_before(case) else None
        _prepare(entry, *drawn[case.shape], rounds)
        if entry.timed and provisional:
            yield _result(entry, rounds, _things(entries), number, [rounds.once(entry.timed)])
    things = _things(entries)
    # when told to stop, the rounds so far are kept; `unsteady` says where they are too few
    for _ in rounds.pauses(things, seconds * len(things), should_stop, wanted=provisional):
        for entry in entries:
            if entry.timed:
                yield _result(entry, rounds, things, number, rounds.counted(entry.timed))
    for entry in entries:
        # a case that was stopped before its first round has its provisional result only
        if not provisional or not entry.timed or rounds.counted(entry.timed):
            yield _result(entry, rounds, things, number)


def _things(entries: Iterable[_Entry]) -> list[Timed]:
    return [entry.timed for entry in entries if entry.timed]


def _prepare(entry: _Entry, own: tuple[Tensor, Cache], before: tuple[Tensor, Cache] | None, rounds: Rounds) -> None:
    """Warm up and check one case. One that is wrong or cannot run gets a note and is not timed."""
    case, impl = entry.case, entry.impl
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            out = impl.run(*own)
            speed.synchronize(case.device)
        except Exception as error:  # other libraries' errors, and Triton's, have no common class
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
            # PyTorch's warnings say why a back end does not take a shape
            words = [*(str(warning.message) for warning in said), str(error) or type(error).__name__]
            entry.notes.append(f"not run: {_line('; '.join(words))}")
            return
    entry.error = measured_error(case, *own, out)
    if entry.error > allowed(case):
        entry.notes.append("not timed: wrong beyond the tolerance")
        return
    del out
    entry.timed = Timed(
        rounds.clock.recorded(lambda: impl.run(*own)),
        kind_bytes(case),
        kind_flops(case),
        None if before is None else rounds.clock.recorded(lambda: impl.run(*before)),
    )


def _line(text: str) -> str:
    """The text as one line that a run's file accepts."""
    return "".join(c if c.isprintable() else " " for c in text).strip()[:200]


def measured_error(case: KindCase, q: Tensor, cache: Cache, out: Tensor | tuple[Tensor, Tensor]) -> float:
    """Largest deviation from float64, divided by the root mean square of the float64 result.

    For a sparse cache the float64 result is over the picked positions, and the error is infinite if these are not the
    best (INDEX_ERROR).
    """
    sequences = (0, case.batch - 1) if case.batch > 2 and case.cache_bytes > CHECKED_BYTES else ()
    chosen = None
    if isinstance(out, tuple):
        out, chosen = out
        if index_error(cache, chosen, sequences) > INDEX_ERROR:
            return float("inf")
    expected = reference.attention(q, cache, chosen, sequences)
    return relative_error(out[list(sequences)] if sequences else out, expected)


def index_error(cache: Cache, chosen: Tensor, sequences: tuple[int, ...] = ()) -> float:
    """The largest ``reference.choice_error`` of a cache's sequences, computed one sequence at a time."""
    assert cache.index_k is not None
    assert cache.index_q is not None
    assert cache.index_weights is not None
    worst = 0.0
    for b in sequences or range(chosen.shape[0]):
        one = slice(b, b + 1)
        own = cache._replace(
            index_k=cache.index_k[one], index_q=cache.index_q[one], index_weights=cache.index_weights[one]
        )
        worst = max(worst, reference.choice_error(own, chosen[one]))
    return worst


def allowed(case: KindCase) -> float:
    """Largest error allowed (``kernels.reference.tolerance``), times ROUNDED for a quantised cache."""
    least = tolerance(case.dtype, case.context, case.head_dim, case.batch * case.n_heads * case.q_len * case.value_dim)
    return least if (case.k_format, case.v_format) == ("dtype", "dtype") else ROUNDED * least


def _result(
    entry: _Entry, rounds: Rounds, things: Iterable[Timed], number: int, so_far: Sequence[float] | None = None
) -> KindResult:
    case = entry.case
    counted = so_far if so_far is not None else rounds.counted(entry.timed) if entry.timed else []
    times = [float(f"{seconds:.5g}") for seconds in counted]
    median_s = median(times) if times else None
    low, _, high = quantiles(times, n=4) if len(times) > 1 else (0.0, 0.0, 0.0)
    bandwidth, flops_per_s = rounds.rates(list(things))
    least = floor(kind_bytes(case), kind_flops(case), bandwidth, flops_per_s)
    known = entry.error is not None and entry.error != float("inf")
    return KindResult(
        case,
        median_s=median_s,
        iqr_s=high - low if median_s is not None else None,
        error=entry.error if known else None,
        tolerance=allowed(case),
        floor_s=least.time_s if median_s is None else min(median_s, least.time_s),
        bound="memory" if least.binds == MEMORY else "arithmetic",
        read_bytes_per_s=bandwidth,
        flops_per_s=flops_per_s,
        times_s=tuple(times),
        together=number,
        note="; ".join(entry.notes),
        unsteady=STILL_TIMED if so_far is not None else why_unsteady(times, rounds.loads) if times else "",
    )
