"""The time of a whole model's decode step: the time of one decoder layer of the model's real sizes, times its layers.

The layer is in ``decoder_layer.py``. Its step is timed with what is fastest here and, in the same rounds, as in plain
PyTorch. Prefill is timed in plain PyTorch. The embedding and the output head are left out. Decoding a token reads all
weights and the whole cache: the larger of the two is worth shrinking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor

from attention.floor import floor
from attention.kernels import native, reference
from attention.kernels.reference import relative_error, tolerance
from attention.layers import KVCache, attend
from attention.timing import host, speed
from attention.timing.benchmark import never
from attention.timing.decoder_layer import DecoderLayer, OnePassAttention, attend_latent, fastest
from attention.timing.inputs import RESERVE, random_tensor, resolve_device
from attention.timing.rounds import PATIENCE, Rounds, Timed
from attention.timing.steadiness import MIN_REPEATS, STILL_TIMED, why_unsteady
from attention.timing.step_cases import StepCase, StepResult, variants
from attention.units import binary_bytes, duration

__all__ = ["DecoderLayer", "StepCase", "StepResult", "run_steps", "variants"]

PREFILL_SECONDS = 30.0
"""A prefill is not timed if its repeats on one layer would take more seconds; a note says so."""


def run_steps(
    cases: Iterable[StepCase],
    *,
    should_stop: Callable[[], bool] = never,
    seconds_per_case: float = 1.5,
    memory_bytes: int | None = None,
    provisional: bool = False,
) -> Iterator[StepResult]:
    """Time layers and yield each result as soon as it is known. Layers of one ``compared_with`` take turns.

    Args:
        should_stop: asked between any two runs; once it is true, no further result comes.
        seconds_per_case: time to spend on the repeats of a decode step.
        memory_bytes: a limit in place of the free memory.
        provisional: also yield results so far, marked as unsteady (STILL_TIMED).

    Raises:
        ValueError: before anything is timed: no such device, or a case that needs more memory than is free.
        RuntimeError: the attention of a layer is wrong beyond the tolerance.
    """
    resolved = [replace(case, device=resolve_device(case.device)) for case in cases]

    def limit(device: str) -> int:
        return int(RESERVE * host.free_memory(device)) if memory_bytes is None else memory_bytes

    for case in resolved:
        needed = case.memory_bytes + 2 * speed.flush_bytes(case.device)
        if needed > limit(case.device):
            raise ValueError(
                f"{case.variant} at context {case.context:,} and batch {case.batch} needs {binary_bytes(needed)} for "
                f"one layer; {binary_bytes(limit(case.device))} may be used here"
            )
    number = 0
    for together in dict.fromkeys(case.compared_with for case in resolved):
        comparable = [case for case in resolved if case.compared_with == together]
        fits = sum(case.memory_bytes for case in comparable) <= limit(comparable[0].device)
        for chosen in [comparable] if fits else [[case] for case in comparable]:
            number += 1
            yield from _time_set(chosen, number, should_stop, seconds_per_case, provisional)
            if should_stop():
                return


@dataclass
class _Entry:
    """A layer being timed. `plain` is its step in plain PyTorch, None where that is not timed apart."""

    case: StepCase
    error: float
    step: Timed
    plain: Timed | None
    prefill: Timed | None
    notes: list[str]

    @property
    def timed(self) -> list[Timed]:
        return [self.step, self.plain] if self.plain else [self.step]


@torch.inference_mode()
def _time_set(
    cases: Sequence[StepCase], number: int, should_stop: Callable[[], bool], seconds: float, provisional: bool
) -> Iterator[StepResult]:
    device, dtype = cases[0].device, cases[0].dtype
    rounds = Rounds(device, dtype, speed.calibrate(device))
    entries: list[_Entry] = []
    for case in cases:
        if should_stop():
            return
        prepared = _Prepared(case, rounds)
        if provisional and not entries:
            # a first time before kernels are compiled and tried, which takes many times as long
            entry = prepared.entry(prepared.layer, [])
            yield _result(entry, [entry], rounds, number, [rounds.once(entry.step)], STILL_TIMED)
            rounds.pace.forget()
        entry = prepared.fastest_entry()
        entries.append(entry)
        once = rounds.once(entry.step)
        if provisional:
            yield _result(entry, entries, rounds, number, [once], STILL_TIMED)
    rounds.pace.forget()
    timed = [thing for entry in entries for thing in entry.timed]
    for _ in rounds.take(timed, seconds * len(timed), should_stop):
        pass
    prefill = Rounds(device, dtype, speed.calibrate(device))
    prefills = [entry.prefill for entry in entries if entry.prefill]
    if prefills and not should_stop():
        if provisional:
            for entry in entries:
                times = rounds.counted(entry.step)
                yield _result(entry, entries, rounds, number, times, why_unsteady(times, rounds.loads))
        for _ in prefill.take(prefills, PREFILL_SECONDS / PATIENCE, should_stop):
            pass
    if should_stop():
        return
    for entry in entries:
        times = rounds.counted(entry.step)
        taken = prefill.counted(entry.prefill) if entry.prefill else []
        result = _result(entry, entries, rounds, number, times, why_unsteady(times, rounds.loads))
        yield replace(result, **_prefill(taken, prefill))


class _Prepared:
    """A layer with random weights and a filled cache, ready to be timed."""

    def __init__(self, case: StepCase, rounds: Rounds) -> None:
        self._case, self._rounds = case, rounds
        self.layer = random_layer(case, case.device)
        self._notes = [f"one layer timed, times {case.n_layers}; embedding and output head left out"]
        self._cache = layer_cache(case, case.device)
        for part in (self._cache.k,) if case.latent else (self._cache.k, self._cache.v):
            part.copy_(random_tensor(tuple(part.shape), part.dtype, case.device))
        shape = (case.batch, 1, case.hidden_size)
        self._x = random_tensor(shape, self._cache.k.dtype, case.device)

    def entry(self, quick: DecoderLayer, taken: Sequence[str]) -> _Entry:
        """The layer as it is timed, its attention checked, without its prefill.

        Args:
            quick: the same layer with the kernels named in `taken`.
        """
        how = f"with {' and '.join(taken)}" if taken else "as in plain PyTorch"
        error = _check(self._case, self._cache, isinstance(quick.attention, OnePassAttention))
        own = self._timed(quick)
        plain = self._timed(self.layer) if taken and self._case.plain else None
        return _Entry(self._case, error, own, plain, None, [*self._notes, how])

    def fastest_entry(self) -> _Entry:
        """The layer with the kernels that a trial finds fastest, and its prefill."""
        prefill, why_not = self._prefill()
        entry = self.entry(*fastest(self.layer, self._case))
        entry.prefill = prefill
        entry.notes += why_not
        return entry

    def _timed(self, one: DecoderLayer) -> Timed:
        case, cache, x = self._case, self._cache, self._x

        def step() -> Tensor:
            cache.length = case.held - 1
            return one(x, cache)

        step()
        return Timed(self._rounds.clock.recorded(step), case.weight_bytes + case.cache_bytes, case.decode_flops)

    def _prefill(self) -> tuple[Timed | None, list[str]]:
        """The prefill to time, or a note that says why it is not timed."""
        case = self._case
        if not case.prefill:
            return None, []
        if case.latent or case.held < case.context:
            return None, [f"prefill of {'latent attention' if case.latent else 'a window'} not timed"]
        expected_s = case.prefill_flops / self._rounds.pace.rate
        if expected_s * MIN_REPEATS > PREFILL_SECONDS:
            return None, [f"prefill not timed: about {duration(expected_s)} for one layer here"]
        prompt = random_tensor((case.batch, case.context, case.hidden_size), getattr(torch, case.dtype), case.device)
        kept = layer_cache(case, case.device)

        def pass_all() -> Tensor:
            kept.length = 0
            return self.layer(prompt, kept)

        # a pass over a few tokens warms up
        self.layer(prompt[:, :16], layer_cache(case, case.device))
        return Timed(pass_all, case.weight_bytes + case.cache_bytes, case.prefill_flops), []


def _prefill(times: Sequence[float], rounds: Rounds) -> dict[str, Any]:
    """The fields of a result that describe its prefill."""
    if not times:
        return {}
    return {
        "layer_prefill_s": median(times),
        "prefill_times_s": tuple(times),
        "prefill_unsteady": why_unsteady(times, rounds.loads),
    }


def _result(
    entry: _Entry, entries: Sequence[_Entry], rounds: Rounds, number: int, times: Sequence[float], unsteady: str
) -> StepResult:
    case, layer_s = entry.case, median(times)
    low, _, high = quantiles(times, n=4) if len(times) > 1 else (0.0, 0.0, 0.0)
    traffic = case.weight_bytes + case.cache_bytes
    bandwidth, flops_per_s = rounds.rates([thing for other in entries for thing in other.timed])
    plain_times = rounds.counted(entry.plain) if entry.plain and len(times) > 1 else []
    floor_s = min(layer_s, floor(traffic, case.decode_flops, bandwidth, flops_per_s).time_s)
    return StepResult(
        case.shape,
        layer_s=layer_s,
        iqr_s=high - low,
        layer_prefill_s=None,
        floor_s=floor_s,
        error=entry.error,
        note="; ".join(entry.notes),
        times_s=tuple(times),
        together=number,
        unsteady=unsteady,
        plain_times_s=tuple(plain_times),
    )


def random_layer(case: StepCase, device: str) -> DecoderLayer:
    """A layer with random weights of unit gain: matrices have a variance of 1 / inputs, norms are 1."""
    with torch.device("meta"):
        layer = DecoderLayer(case)
    layer = layer.to(getattr(torch, case.dtype)).to_empty(device=device)
    for weight in layer.parameters():
        if weight.ndim == 1:
            weight.fill_(1.0)
        else:
            weight.copy_(random_tensor(tuple(weight.shape), weight.dtype, device)).mul_(weight.shape[1] ** -0.5)
    return layer


def layer_cache(case: StepCase, device: str) -> KVCache:
    """An empty cache for the layer's held tokens. A latent layer's v is a view of the first part of k."""
    dtype = getattr(torch, case.dtype)
    if not case.latent:
        return KVCache(case.batch, case.n_kv_heads, case.held, case.head_dim, dtype, device)
    cache = KVCache(case.batch, 1, case.held, case.latent + case.rope_dim, dtype, device)
    cache.v = cache.k[..., : case.latent]
    return cache


def _check(case: StepCase, cache: KVCache, one_pass: bool) -> float:
    """The error of the timed attention on this cache. `one_pass` means the native kernel.

    Raises:
        RuntimeError: the error is above the tolerance.
    """
    k, v = cache.k, cache.v
    q = random_tensor((case.batch, case.n_heads, 1, k.shape[-1]), k.dtype, str(k.device.type))
    if case.latent:
        # the reference divides by the root of q's last size, so this call must too; the layer divides by another root
        out = attend_latent(q.squeeze(2), k[:, 0], case.latent, q.shape[-1]).unsqueeze(2)
    elif one_pass:
        out = native.decode(q, k, v)
    else:
        out = attend(q.unflatten(1, (case.n_kv_heads, -1)), k, v).flatten(1, 2)
    error = relative_error(out, reference.attention(q, k, v))
    allowed = tolerance(case.dtype, case.held, q.shape[-1], q.numel())
    if error > allowed:
        raise RuntimeError(f"attention is wrong here: error {error:.1e}, allowed {allowed:.1e}")
    return error
