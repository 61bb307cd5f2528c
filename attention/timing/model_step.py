"""What a decode step of a whole model costs: one decoder layer with the model's real sizes, timed, times its layers.

A layer is norm, attention, norm, gated MLP (three matrices, as in Llama; arXiv:2002.05202). The embedding and the
output head are left out. Decoding a token reads all weights and the whole cache: their shares say which of the two is
worth shrinking, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn

from attention.floor import floor
from attention.kernels import reference
from attention.layers import GroupedQueryAttention, KVCache, attend
from attention.timing import host, speed
from attention.timing.benchmark import (
    RESERVE,
    never,
    random_tensor,
    relative_error,
    resolve_device,
    tolerance,
)
from attention.timing.rounds import PATIENCE, Rounds, Timed
from attention.timing.steadiness import MIN_REPEATS, STILL_TIMED, why_unsteady
from attention.timing.step_cases import StepCase, StepResult, variants
from attention.units import binary_bytes, duration

__all__ = ["DecoderLayer", "StepCase", "StepResult", "run_steps", "variants"]

PREFILL_SECONDS = 30.0
"""A prefill whose repeats would take one layer longer than this is not timed, and said so."""


class DecoderLayer(nn.Module):
    """Norm, attention, norm, gated MLP, each added to the residual stream."""

    def __init__(self, case: StepCase) -> None:
        super().__init__()
        self.attention = GroupedQueryAttention(case.hidden_size, case.n_heads, case.head_dim, case.n_kv_heads)
        self.gate = nn.Linear(case.hidden_size, case.intermediate_size, bias=False)
        self.up = nn.Linear(case.hidden_size, case.intermediate_size, bias=False)
        self.down = nn.Linear(case.intermediate_size, case.hidden_size, bias=False)
        self.norms = nn.ModuleList(nn.RMSNorm(case.hidden_size) for _ in range(2))

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """x [batch, query, hidden_size] -> the same shape."""
        x = x + self.attention(self.norms[0](x), cache)
        h = self.norms[1](x)
        return x + self.down(nn.functional.silu(self.gate(h)) * self.up(h))


def run_steps(
    cases: Iterable[StepCase],
    *,
    should_stop: Callable[[], bool] = never,
    seconds_per_case: float = 1.5,
    memory_bytes: int | None = None,
    provisional: bool = False,
) -> Iterator[StepResult]:
    """Time layers, each result as soon as it is known; layers that differ in sharing alone take turns.

    Args:
        should_stop: asked between any two runs; once true, no further result comes.
        provisional: also yield what is known so far, marked as unsteady (STILL_TIMED).

    Raises:
        ValueError: before anything is timed: no such device, or more memory needed than is free (`memory_bytes`
            sets a limit instead).
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
    """A layer being timed."""

    case: StepCase
    layer: DecoderLayer
    error: float
    step: Timed
    prefill: Timed | None
    notes: list[str]


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
        entry = _prepare(case, rounds)
        entries.append(entry)
        once = rounds.once(entry.step)
        if provisional:
            yield _result(entry, entries, rounds, number, [once], STILL_TIMED)
    rounds.pace.forget()
    for _ in rounds.take([entry.step for entry in entries], seconds * len(entries), should_stop):
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
        yield replace(result, **_prefill(entry.case, taken, prefill))


def _prepare(case: StepCase, rounds: Rounds) -> _Entry:
    """A layer with random weights and a filled cache, its attention checked, ready to be timed."""
    device = case.device
    layer = _random_layer(case, device)
    notes = [f"one layer timed, times {case.n_layers}; embedding and output head left out"]
    prefill = None
    if case.prefill:
        expected_s = case.prefill_flops / rounds.pace.rate
        if expected_s * MIN_REPEATS <= PREFILL_SECONDS:
            prompt = random_tensor((case.batch, case.context, case.hidden_size), layer.up.weight.dtype, device)
            kept = _cache(case, device)

            def pass_all() -> Tensor:
                kept.length = 0
                return layer(prompt, kept)

            # few tokens warm it up
            layer(prompt[:, :16], _cache(case, device))
            prefill = Timed(pass_all, case.weight_bytes + case.cache_bytes, case.prefill_flops)
        else:
            notes.append(f"prefill not timed: about {duration(expected_s)} for one layer here")
    cache = _cache(case, device)
    for part in (cache.k, cache.v):
        part.copy_(random_tensor(tuple(part.shape), part.dtype, device))
    error = _check(case, cache)
    x = random_tensor((case.batch, 1, case.hidden_size), cache.k.dtype, device)

    def step() -> Tensor:
        cache.length = case.context - 1
        return layer(x, cache)

    step()
    timed = Timed(rounds.clock.recorded(step), case.weight_bytes + case.cache_bytes, case.decode_flops)
    return _Entry(case, layer, error, timed, prefill, notes)


def _prefill(case: StepCase, times: Sequence[float], rounds: Rounds) -> dict[str, Any]:
    """The fields of a result that speak of its prefill."""
    if not times:
        return {}
    layer_s = median(times)
    return {
        "layer_prefill_s": layer_s,
        "prefill_s": layer_s * case.n_layers,
        "prefill_times_s": tuple(times),
        "prefill_unsteady": why_unsteady(times, rounds.loads),
    }


def _result(
    entry: _Entry, entries: Sequence[_Entry], rounds: Rounds, number: int, times: Sequence[float], unsteady: str
) -> StepResult:
    case, layer_s = entry.case, median(times)
    low, _, high = quantiles(times, n=4) if len(times) > 1 else (0.0, 0.0, 0.0)
    traffic = case.weight_bytes + case.cache_bytes
    bandwidth, flops_per_s = rounds.rates([other.step for other in entries])
    floor_s = min(layer_s, floor(traffic, case.decode_flops, bandwidth, flops_per_s).time_s)
    return StepResult(
        variant=case.variant,
        n_layers=case.n_layers,
        n_kv_heads=case.n_kv_heads,
        context=case.context,
        batch=case.batch,
        dtype=case.dtype,
        device=case.device,
        layer_s=layer_s,
        iqr_s=high - low,
        token_s=layer_s * case.n_layers,
        tokens_per_s=case.batch / (layer_s * case.n_layers),
        layer_prefill_s=None,
        prefill_s=None,
        weight_bytes=case.weight_bytes,
        cache_bytes=case.cache_bytes,
        cache_share=case.cache_bytes / traffic,
        floor_s=floor_s,
        times_floor=layer_s / floor_s,
        error=entry.error,
        note="; ".join(entry.notes),
        times_s=tuple(times),
        together=number,
        unsteady=unsteady,
    )


def _random_layer(case: StepCase, device: str) -> DecoderLayer:
    """Weights of unit gain: matrices drawn with a variance of 1 / inputs, norms 1."""
    with torch.device("meta"):
        layer = DecoderLayer(case)
    layer = layer.to(getattr(torch, case.dtype)).to_empty(device=device)
    for weight in layer.parameters():
        if weight.ndim == 2:
            weight.copy_(random_tensor(tuple(weight.shape), weight.dtype, device)).mul_(weight.shape[1] ** -0.5)
        else:
            weight.fill_(1.0)
    return layer


def _cache(case: StepCase, device: str) -> KVCache:
    dtype = getattr(torch, case.dtype)
    return KVCache(case.batch, case.n_kv_heads, case.context, case.head_dim, dtype, device)


def _check(case: StepCase, cache: KVCache) -> float:
    """Error of the layer's own attention on this cache.

    Raises:
        RuntimeError: it is wrong beyond the tolerance.
    """
    shape = (case.batch, case.n_kv_heads, case.n_heads // case.n_kv_heads, 1, case.head_dim)
    q = random_tensor(shape, cache.k.dtype, str(cache.k.device.type))
    error = relative_error(
        attend(q, cache.k, cache.v).flatten(1, 2), reference.attention(q.flatten(1, 2), cache.k, cache.v)
    )
    allowed = tolerance(case.dtype, case.context, case.head_dim, q.numel())
    if error > allowed:
        raise RuntimeError(f"attention is wrong here: error {error:.1e}, allowed {allowed:.1e}")
    return error
