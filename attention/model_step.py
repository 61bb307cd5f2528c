"""What a decode step of a whole model costs: one decoder layer with the model's real sizes, timed, times its layers.

A layer is norm, attention, norm, gated MLP (three matrices, as in Llama; arXiv:2002.05202). The embedding and the
output head are left out. Decoding a token reads all weights and the whole cache: their shares say which of the two is
worth shrinking, and when.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from statistics import median, quantiles

import torch
from torch import Tensor, nn

from attention import host, reference
from attention.benchmark import RESERVE, never, random_tensor, relative_error, resolve_device, tolerance
from attention.layers import GroupedQueryAttention, KVCache, attend
from attention.pace import Clock, Pace
from attention.step_cases import StepCase, StepResult, variants
from attention.units import binary_bytes, duration

__all__ = ["DecoderLayer", "StepCase", "StepResult", "run_steps", "variants"]

PREFILL_SECONDS = 10.0
"""A prefill that would take one layer longer than this is not timed, and said so."""


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
) -> Iterator[StepResult]:
    """Time layers, each result as soon as it is known; once `should_stop` is true, no further one comes.

    Raises:
        ValueError: before anything is timed: no such device, or more memory needed than is free (`memory_bytes`
            sets a limit instead).
    """
    cases = list(cases)
    for case in cases:
        device = resolve_device(case.device)
        limit = int(RESERVE * host.free_memory(device)) if memory_bytes is None else memory_bytes
        needed = case.memory_bytes + 2 * host.flush_bytes(device)
        if needed > limit:
            raise ValueError(
                f"{case.variant} at context {case.context:,} and batch {case.batch} needs {binary_bytes(needed)} for "
                f"one layer; {binary_bytes(limit)} may be used here"
            )
    for case in cases:
        result = _time_case(case, resolve_device(case.device), should_stop, seconds_per_case)
        if result is None:
            return
        yield result


@torch.inference_mode()
def _time_case(case: StepCase, device: str, should_stop: Callable[[], bool], seconds: float) -> StepResult | None:
    clock = Clock(device)
    pace = Pace(device, case.dtype, host.calibrate(device))
    layer = _random_layer(case, device)
    notes = [f"one layer timed, times {case.n_layers}; embedding and output head left out"]
    prefill_s = None
    if case.prefill and not should_stop():
        expected_s = case.prefill_flops / pace.rate
        if expected_s <= PREFILL_SECONDS:
            x = random_tensor((case.batch, case.context, case.hidden_size), layer.up.weight.dtype, device)
            prefill_s = clock.time(lambda: layer(x, _cache(case, device)))
            del x
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

    times: list[float] = []
    start = time.perf_counter()
    step()
    while len(times) < 3 or (time.perf_counter() - start < seconds and len(times) < 50):
        if should_stop():
            return None
        pace.multiply(clock)
        pace.read(clock)
        times.append(clock.time(step))
    return _result(case, device, times, prefill_s, pace, error, notes)


def _result(
    case: StepCase,
    device: str,
    times: list[float],
    prefill_s: float | None,
    pace: Pace,
    error: float,
    notes: list[str],
) -> StepResult:
    layer_s = median(times)
    low, _, high = quantiles(times, n=4)
    traffic = case.weight_bytes + case.cache_bytes
    floor_s = max(traffic / pace.bytes_per_s, case.decode_flops / pace.flops_per_s)
    return StepResult(
        variant=case.variant,
        n_layers=case.n_layers,
        n_kv_heads=case.n_kv_heads,
        context=case.context,
        batch=case.batch,
        dtype=case.dtype,
        device=device,
        layer_s=layer_s,
        iqr_s=high - low,
        token_s=layer_s * case.n_layers,
        tokens_per_s=case.batch / (layer_s * case.n_layers),
        layer_prefill_s=prefill_s,
        prefill_s=None if prefill_s is None else prefill_s * case.n_layers,
        weight_bytes=case.weight_bytes,
        cache_bytes=case.cache_bytes,
        cache_share=case.cache_bytes / traffic,
        floor_s=floor_s,
        times_floor=layer_s / floor_s,
        error=error,
        note="; ".join(notes),
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
    if error > tolerance(case.dtype, case.context):
        raise RuntimeError(
            f"attention is wrong here: error {error:.1e}, allowed {tolerance(case.dtype, case.context):.1e}"
        )
    return error
