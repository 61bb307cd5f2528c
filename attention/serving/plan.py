"""Everything that a page shows about one model on some accelerators, from ``fit`` and ``roofline``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from attention.catalog import published
from attention.serving import fit, roofline
from attention.serving.fit import Budget, Grid, Setup
from attention.spec import ModelSpec

CONTEXTS = tuple(2**p for p in range(10, 21))
BATCHES = tuple(2**p for p in range(11))
_FINE = tuple(round(2 ** (10 + step / 8)) for step in range(81))
"""Contexts of the frontier: eight for each doubling, from 1k to 1M."""


class Plan(NamedTuple):
    """What fits, and how fast a step can be at best.

    Attributes:
        budget: one accelerator's memory; state_bytes: bytes of the chosen load's states on it.
        fits: whether the chosen load fits.
        largest_context: largest context for the chosen batch: 0 if not one token fits, None if every context does.
        largest_batch: largest batch for the chosen context.
        smallest_count: fewest accelerators for the chosen load, None if no count is enough.
        floor: bound of one decode step of the chosen load.
        crossover: first context at which a step reads more of the caches than of the weights, None if never.
        compute_binds_at: batch from which multiplying by the weights takes longer than reading them, None if not known.
    """

    budget: Budget
    state_bytes: int
    fits: bool
    largest_context: int | None
    largest_batch: int
    smallest_count: int | None
    floor: roofline.DecodeFloor
    crossover: int | None
    compute_binds_at: int | None


def plan(spec: ModelSpec, setup: Setup, context: int, batch: int) -> Plan:
    """The plan for a chosen load of `batch` sequences of `context` tokens.

    Raises:
        ValueError: the number of parameters is not known, `count` ranks cannot share the heads evenly, or a size is out
            of range.
    """
    budget = fit.budget(spec, setup)
    states = fit.state_bytes_per_rank(spec, setup, context, batch)
    return Plan(
        budget,
        states,
        states <= budget.state_room_bytes,
        fit.largest_context(spec, setup, batch),
        fit.largest_batch(spec, setup, context),
        fit.smallest_count(spec, setup, context, batch),
        roofline.decode_floor(
            spec, setup.accelerator, context, batch,
            count=setup.count, weight_dtype=setup.weight_dtype, kv_dtype=setup.kv_dtype,
        ),
        roofline.traffic_crossover(spec, setup.weight_dtype, setup.kv_dtype, batch),
        roofline.batch_where_compute_binds(setup.accelerator, setup.weight_dtype),
    )  # fmt: skip


class FitMap(NamedTuple):
    """The use of one accelerator's memory over context and batch.

    Attributes:
        grid: the use at powers of two.
        contexts, frontier: contexts in small steps, and the largest batch that fits at each.
        context, batch: the chosen point.
    """

    grid: Grid
    contexts: tuple[int, ...]
    frontier: tuple[int, ...]
    context: int
    batch: int


def fit_map(spec: ModelSpec, setup: Setup, context: int, batch: int) -> FitMap:
    """The data of the heat map: contexts from 1k to 1M, batches from 1 to 1,024.

    Raises:
        ValueError: as in ``fit.grid``.
    """
    fine = fit.grid(spec, setup, _FINE, ())
    return FitMap(fit.grid(spec, setup, CONTEXTS, BATCHES), fine.contexts, fine.frontier, context, batch)


class MemoryBar(NamedTuple):
    """The parts of one accelerator's memory, in bytes.

    Attributes:
        free: usable bytes that are left; over: bytes that the chosen load needs beyond the usable ones.
        unused: bytes that `utilisation` keeps from use.
    """

    weights: int
    states: int
    reserve: int
    free: int
    unused: int
    over: int
    memory: int


def memory_bar(budget: Budget, state_bytes: int) -> MemoryBar:
    """The parts of one accelerator's memory with the chosen load on it."""
    taken = budget.weight_bytes + state_bytes + budget.reserve_bytes
    return MemoryBar(
        budget.weight_bytes,
        state_bytes,
        budget.reserve_bytes,
        max(0, budget.usable_bytes - taken),
        budget.memory_bytes - budget.usable_bytes,
        max(0, taken - budget.usable_bytes),
        budget.memory_bytes,
    )


def every_accelerator(spec: ModelSpec, setup: Setup, context: int, batch: int) -> list[dict[str, Any]]:
    """A row for each accelerator of the catalogue: how many hold the chosen load, and the bound of a step on them.

    `count`, `step_s` (seconds) and `tokens_per_s` are None where no count is enough.

    Raises:
        ValueError: the number of parameters is not known, or a size is out of range.
    """
    rows = []
    for accelerator in published.accelerators():
        one = replace(setup, accelerator=accelerator, count=1)
        count = fit.smallest_count(spec, one, context, batch)
        row: dict[str, Any] = {
            "accelerator": accelerator.label, "memory_bytes": accelerator.memory_bytes,
            "bytes_per_s": accelerator.bytes_per_s, "count": count, "step_s": None, "tokens_per_s": None,
            "source": accelerator.source,
        }  # fmt: skip
        if count is not None:
            bound = roofline.decode_floor(
                spec, accelerator, context, batch,
                count=count, weight_dtype=setup.weight_dtype, kv_dtype=setup.kv_dtype,
            )  # fmt: skip
            row |= {"step_s": bound.floor.time_s, "tokens_per_s": bound.tokens_per_s}
        rows.append(row)
    return rows
