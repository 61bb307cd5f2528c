"""All that a page says about serving one model on some accelerators, put together from ``fit`` and ``roofline``."""

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
"""Contexts of the frontier: eight to a doubling, from 1k to 1M."""


class Plan(NamedTuple):
    """What fits, and how fast a step can be at best.

    Attributes:
        budget: one accelerator's memory; state_bytes: of the chosen load on it.
        fits: whether the chosen load does.
        largest_context: for the chosen batch: 0 not one token, None no limit binds.
        largest_batch: for the chosen context. smallest_count: accelerators for the chosen load, None if no count.
        floor: bound of one decode step of the chosen load.
        crossover: first context at which the caches' traffic exceeds the weights', None if never.
        compute_binds_at: batch from which multiplying the weights takes longer than reading them, None if not known.
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
    """Solve for a chosen load.

    Raises:
        ValueError: the parameter count is not known, the heads cannot be dealt out to `count` ranks, or a size out of
            range.
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
    """Use of one accelerator over context and batch.

    Attributes:
        grid: at powers of two. contexts, frontier: for each of these contexts the largest batch that fits.
        context, batch: the chosen point.
    """

    grid: Grid
    contexts: tuple[int, ...]
    frontier: tuple[int, ...]
    context: int
    batch: int


def fit_map(spec: ModelSpec, setup: Setup, context: int, batch: int) -> FitMap:
    """The heat map's numbers: contexts from 1k to 1M, batches from 1 to 1,024."""
    fine = fit.grid(spec, setup, _FINE, ())
    return FitMap(fit.grid(spec, setup, CONTEXTS, BATCHES), fine.contexts, fine.frontier, context, batch)


class MemoryBar(NamedTuple):
    """One accelerator's memory, in bytes: `over` is what the chosen load lacks, `unused` what utilisation forbids."""

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
    """For each accelerator of the catalogue the fewest that hold the chosen load, and the bound of a step on them."""
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
