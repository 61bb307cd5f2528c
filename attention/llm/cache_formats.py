"""What a cache format costs: a text is read with the cache in every format, and steps are timed over each.

The text is read as it would be decoded: each token attends to rounded keys and values, its own included. For the
timing, caches are filled up to a context with repetitions of the text's rows. Steps are timed in rounds, all formats in
turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median, stdev
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from attention.llm.caches import RoundedCache, held_bytes
from attention.llm.model import Model
from attention.timing import speed
from attention.timing.other_load import OtherLoad

Pair = tuple[str, str]
"""Formats of keys and of values, of ``plan.CACHE_DTYPES``."""
SHOWN = ("bf16", "fp8", "int8-token", "int4-g32", "q8_0", "q4_0")
REFERENCE = "fp32"
TIMED_CONTEXT = 4096
ROUNDS, STEPS = 5, 4

Emit = Callable[[dict[str, Any]], None]
ShouldStop = Callable[[], bool]


def pairs(chosen: Pair | None = None) -> list[Pair]:
    """The pairs to try: each format for both, then for only the keys and only the values. `chosen` comes first if it is
    another pair."""
    both = [(name, name) for name in SHOWN]
    one = [pair for name in SHOWN[1:] for pair in ((name, "bf16"), ("bf16", name))]
    out = both + one
    return out if chosen is None or chosen in out else [chosen, *out]


class Reference(NamedTuple):
    """The model's results with a cache in float32: the logits of each piece, [1, n, vocab_size], and its loss."""

    logits: list[Tensor]
    losses: list[float]


def run(
    model: Model, pieces: Sequence[Sequence[int]], tried: Sequence[Pair], timed: Sequence[Pair], emit: Emit,
    should_stop: ShouldStop,
) -> None:  # fmt: skip
    """Measure, and emit "reference", then a "row" for each pair, then "times" (read by ``format_costs.of_results``).

    Args:
        pieces: the tokens of each text, at least 2.
        tried: pairs to read the texts with.
        timed: pairs whose steps are timed.
    """
    emit({"progress": 0.0, "message": "Reading the text with a cache in float32"})
    logits = [_read(model, ids, (REFERENCE, REFERENCE))[0] for ids in pieces]
    known = Reference(logits, [_loss(one, ids) for one, ids in zip(logits, pieces, strict=True)])
    emit({"kind": "reference", "loss": _mean(known.losses, pieces), "tokens": sum(map(len, pieces)),
          "weight_bytes": model.step_bytes})  # fmt: skip
    for at, pair in enumerate(tried):
        if should_stop():
            return
        emit({"progress": 0.9 * at / len(tried), "message": f"Reading the text with {words(pair)}"})
        emit(_row(model, pieces, pair, known))
    _time(model, pieces[0], timed, emit, should_stop)


def words(pair: Pair) -> str:
    """A pair of formats in words."""
    return f"keys and values in {pair[0]}" if pair[0] == pair[1] else f"keys in {pair[0]}, values in {pair[1]}"


def _caches(model: Model, capacity: int, pair: Pair) -> list[RoundedCache]:
    a = model.architecture
    return [RoundedCache(1, a.n_kv_heads, capacity, a.head_dim, *pair) for _ in range(a.n_layers)]


def _read(model: Model, ids: Sequence[int], pair: Pair) -> tuple[Tensor, list[RoundedCache]]:
    caches = _caches(model, len(ids) + 1, pair)
    return model.forward(torch.tensor([list(ids)]), caches, every=True), caches


def _loss(logits: Tensor, ids: Sequence[int]) -> float:
    """Mean loss in nats per token. Each token is predicted from those before it."""
    return float(cross_entropy(logits[0, :-1], torch.tensor(list(ids))[1:]))


def _mean(losses: Sequence[float], pieces: Sequence[Sequence[int]]) -> float:
    counts = [len(ids) - 1 for ids in pieces]
    return sum(one * n for one, n in zip(losses, counts, strict=True)) / sum(counts)


@torch.inference_mode()
def _row(model: Model, pieces: Sequence[Sequence[int]], pair: Pair, known: Reference) -> dict[str, Any]:
    wrong = whole = 0.0
    same = n = 0
    losses: list[float] = []
    for ids, expected in zip(pieces, known.logits, strict=True):
        found, caches = _read(model, ids, pair)
        losses.append(_loss(found, ids))
        # a number added to all logits of a position changes no probability
        off = (found - expected) - (found - expected).mean(-1, keepdim=True)
        wrong += float(off.square().sum(dtype=torch.float64))
        whole += float((expected - expected.mean(-1, keepdim=True)).square().sum(dtype=torch.float64))
        same += int((found.argmax(-1) == expected.argmax(-1)).sum())
        n += len(ids)
    reading = max(cache.widened_bytes for cache in caches)
    for cache in caches:
        cache.widened_bytes = 0
    model.forward(torch.tensor([[pieces[-1][-1]]]), caches)
    more = [a - b for a, b in zip(losses, known.losses, strict=True)]
    return {
        "kind": "row", "k": pair[0], "v": pair[1],
        "bytes_per_token": sum(held_bytes(cache) for cache in caches) // caches[0].length,
        "scratch_reading": reading, "scratch_step": max(cache.widened_bytes for cache in caches),
        "logit_error": (wrong / whole) ** 0.5, "same_word": same / n,
        "loss": _mean(losses, pieces), "loss_more": _mean(more, pieces),
        "loss_more_error": stdev(more) / len(more) ** 0.5 if len(more) > 1 else None,
    }  # fmt: skip


@torch.inference_mode()
def _time(model: Model, ids: Sequence[int], timed: Sequence[Pair], emit: Emit, should_stop: ShouldStop) -> None:
    context = min(TIMED_CONTEXT, model.architecture.context - ROUNDS * STEPS - 1)
    filled: dict[Pair, list[RoundedCache]] = {}
    _, source = _read(model, ids, (REFERENCE, REFERENCE))
    for pair in timed:
        if should_stop():
            return
        emit({"progress": 0.9, "message": f"Filling a cache of {context:,} tokens: {words(pair)}"})
        filled[pair] = _caches(model, context + STEPS, pair)
        for own, told in zip(filled[pair], source, strict=True):
            k, v = told.widened(torch.float32)
            while (left := context - own.length) > 0:
                own.append(k[:, :, :left], v[:, :, :left])
    times: dict[Pair, list[float]] = {pair: [] for pair in timed}
    token = torch.tensor([[ids[-1]]])
    read_bytes_per_s = speed.calibrate("cpu").read_bytes_per_s
    load = OtherLoad()
    for round_ in range(ROUNDS + 1):
        turn = round_ % len(timed)
        for pair in [*timed[turn:], *timed[:turn]]:
            if should_stop():
                return
            for cache in filled[pair]:
                cache.length = context
            began = time.perf_counter()
            for _ in range(STEPS):
                model.forward(token, filled[pair])
            if round_:  # round 0 warms up
                times[pair].append((time.perf_counter() - began) / STEPS)
        emit({"progress": 0.9 + 0.1 * round_ / ROUNDS, "message": f"Timing steps at {context:,} tokens"})
    rows = []
    for pair in timed:
        for cache in filled[pair]:
            cache.length = context
        held = sum(held_bytes(cache) for cache in filled[pair])
        floor = (model.step_bytes + held) / read_bytes_per_s
        step = median(times[pair])
        rows.append({"k": pair[0], "v": pair[1], "step_s": step, "cache_bytes": held, "floor_s": floor})
    emit({"kind": "times", "context": context, "others": load.taken().others, "rows": rows})


def memory_needed(model: Model, n_timed: int) -> int:
    """Most bytes that a run takes: weights, logits, and `n_timed` timed caches, each counted as bfloat16."""
    a = model.architecture
    held = 2 * a.n_layers * a.n_kv_heads * a.head_dim * TIMED_CONTEXT * 2
    return int(1.3 * model.step_bytes) + 4 * 256 * a.vocab_size * 4 + n_timed * held
