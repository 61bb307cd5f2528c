"""What fits: weights and states of a model on one or more accelerators.

The budget of one accelerator is ``memory · utilisation − reserve − weights / count``; the states are counted as
an engine sets them aside (``allocation.py``) with the accelerators as ranks of tensor parallelism. Every number
that is an assumption is a field of :class:`Setup`. Weights are taken as divided evenly, all experts included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from attention.catalog.published import Accelerator
from attention.errors import check_choice
from attention.formats import cache_format, weight_bytes
from attention.memory.allocation import (
    PAGE_TOKENS,
    WINDOW_POOLS,
    allocate,
    check_tp,
    tp_choices,
)
from attention.memory.footprint import longest_context
from attention.memory.load import MAX_BATCH, check_batch, check_context
from attention.spec import ModelSpec, check_size

MAX_COUNT = 64


@dataclass(frozen=True)
class Setup:
    """Where and how a model is served; every field is an assumption the reader can change.

    Attributes:
        count: accelerators, the ranks of tensor parallelism.
        utilisation: share of each one's memory that may be used (vLLM's gpu_memory_utilization).
        reserve_bytes: kept free on each one for activations, graphs and fragmentation.
    """

    accelerator: Accelerator
    count: int = 1
    weight_dtype: str = "bf16"
    kv_dtype: str = "bf16"
    utilisation: float = 0.9
    reserve_bytes: int = 2**30
    page_tokens: int = PAGE_TOKENS
    window_pool: str = "own"

    def __post_init__(self) -> None:
        check_size("count", self.count, maximum=MAX_COUNT)
        weight_bytes(1, self.weight_dtype)
        cache_format(self.kv_dtype)
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"utilisation must be above 0 and at most 1, got {self.utilisation!r}")
        check_size("reserve_bytes", self.reserve_bytes, minimum=0)
        check_size("page_tokens", self.page_tokens, maximum=2**20)
        check_choice("window_pool", self.window_pool, WINDOW_POOLS)


class Budget(NamedTuple):
    """One accelerator's memory in bytes, from the data sheet down to what is left for states (may be negative)."""

    memory_bytes: int
    usable_bytes: int
    reserve_bytes: int
    weight_bytes: int
    state_room_bytes: int


class Grid(NamedTuple):
    """Bytes on one accelerator over contexts (columns) and batches (rows), for a heat map.

    Attributes:
        used_bytes: weights, reserve and states; used_bytes[row][column].
        fits: the same shape.
        frontier: for each context the largest batch that fits (0: none).
    """

    contexts: tuple[int, ...]
    batches: tuple[int, ...]
    used_bytes: tuple[tuple[int, ...], ...]
    fits: tuple[tuple[bool, ...], ...]
    frontier: tuple[int, ...]
    usable_bytes: int


def budget(spec: ModelSpec, setup: Setup) -> Budget:
    """What is left for states on each accelerator.

    Raises:
        ValueError: the parameter count is not known, or the heads cannot be dealt out to `count` ranks.
    """
    if spec.n_parameters is None:
        raise ValueError(f"n_parameters of {spec.name} is not known: state it to see what fits")
    check_tp(spec, setup.count)
    memory = setup.accelerator.memory_bytes
    usable = memory * round(setup.utilisation * 10_000) // 10_000
    weights = -(-weight_bytes(spec.n_parameters, setup.weight_dtype) // setup.count)
    return Budget(memory, usable, setup.reserve_bytes, weights, usable - setup.reserve_bytes - weights)


def state_bytes_per_rank(spec: ModelSpec, setup: Setup, context: int, batch: int) -> int:
    """Bytes of states set aside on each accelerator."""
    return allocate(
        spec,
        context,
        batch,
        setup.kv_dtype,
        tp=setup.count,
        page_tokens=setup.page_tokens,
        window_pool=setup.window_pool,
    ).bytes_per_rank


def fits(spec: ModelSpec, setup: Setup, context: int, batch: int) -> bool:
    """Whether weights and the states of `batch` sequences of `context` tokens fit."""
    return state_bytes_per_rank(spec, setup, context, batch) <= budget(spec, setup).state_room_bytes


def largest_context(spec: ModelSpec, setup: Setup, batch: int = 1) -> int | None:
    """Largest context that `batch` sequences can reach together: 0 if not one token fits, None if no limit binds.

    The model's own longest context is not applied: compare with ``spec.max_context``.
    """
    check_batch(batch)
    left = budget(spec, setup).state_room_bytes
    return longest_context(lambda context: state_bytes_per_rank(spec, setup, context, batch), left)


def largest_batch(spec: ModelSpec, setup: Setup, context: int) -> int:
    """Most sequences of `context` tokens that fit at once (0: not one)."""
    check_context(context)
    one = state_bytes_per_rank(spec, setup, context, 1)
    left = budget(spec, setup).state_room_bytes
    return min(MAX_BATCH, max(0, left) // one) if one else MAX_BATCH


def smallest_count(
    spec: ModelSpec, setup: Setup, context: int, batch: int, *, powers_of_two: bool = True
) -> int | None:
    """Fewest accelerators that hold it all, among the counts this model's heads allow; None up to MAX_COUNT."""
    for count in tp_choices(spec, MAX_COUNT):
        if powers_of_two and count & (count - 1):
            continue
        if fits(spec, replace(setup, count=count), context, batch):
            return count
    return None


def grid(spec: ModelSpec, setup: Setup, contexts: Sequence[int], batches: Sequence[int]) -> Grid:
    """Use of one accelerator at every context and batch.

    States of a batch are a multiple of one sequence's, so each context is computed once.
    """
    for batch in batches:
        check_batch(batch)
    space = budget(spec, setup)
    base = space.weight_bytes + space.reserve_bytes
    one = [state_bytes_per_rank(spec, setup, context, 1) for context in contexts]
    used = tuple(tuple(base + batch * size for size in one) for batch in batches)
    left = max(0, space.state_room_bytes)
    return Grid(
        tuple(contexts),
        tuple(batches),
        used,
        tuple(tuple(value <= space.usable_bytes for value in row) for row in used),
        tuple(min(MAX_BATCH, left // size) if size else MAX_BATCH for size in one),
        space.usable_bytes,
    )
