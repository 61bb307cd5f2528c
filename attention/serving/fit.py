"""What fits: the weights and states of a model on one or more accelerators.

The budget of one accelerator for states is ``memory · utilisation − reserve − weights / count``. States are counted as
an engine sets them aside (``allocation.py``), with the accelerators as ranks of tensor parallelism. Every number that
is an assumption is a field of :class:`Setup`. Weights, with all experts, are divided evenly.
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
    """Where and how a model is served. Every field is an assumption that the reader can change.

    Attributes:
        count: number of accelerators, which are the ranks of tensor parallelism.
        weight_dtype: a name of ``formats.WEIGHT_BITS``; kv_dtype: a name of ``formats.FORMATS``.
        utilisation: share of each accelerator's memory that may be used (vLLM's gpu_memory_utilization).
        reserve_bytes: bytes kept free on each accelerator for activations, graphs and fragmentation.
        page_tokens, window_pool: as in ``allocation.set_aside``.

    Raises:
        ValueError: a field out of range or not known.
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
    """One accelerator's memory in bytes, from the data sheet's figure to what is left for states.

    Attributes:
        state_room_bytes: bytes left for states; negative where the weights and the reserve do not fit.
    """

    memory_bytes: int
    usable_bytes: int
    reserve_bytes: int
    weight_bytes: int
    state_room_bytes: int


class Grid(NamedTuple):
    """Bytes on one accelerator over contexts (columns) and batches (rows), for a heat map.

    Attributes:
        used_bytes: bytes of weights, reserve and states, as used_bytes[row][column].
        fits: whether they fit, in the same shape.
        frontier: for each context the largest batch that fits (0: none).
        usable_bytes: bytes that may be used.
    """

    contexts: tuple[int, ...]
    batches: tuple[int, ...]
    used_bytes: tuple[tuple[int, ...], ...]
    fits: tuple[tuple[bool, ...], ...]
    frontier: tuple[int, ...]
    usable_bytes: int


def budget(spec: ModelSpec, setup: Setup) -> Budget:
    """The memory budget of each accelerator.

    Raises:
        ValueError: the number of parameters is not known, or `count` ranks cannot share the heads evenly.
    """
    if spec.n_parameters is None:
        raise ValueError(f"n_parameters of {spec.name} is not known: state it to see what fits")
    check_tp(spec, setup.count)
    memory = setup.accelerator.memory_bytes
    usable = memory * round(setup.utilisation * 10_000) // 10_000
    weights = -(-weight_bytes(spec.n_parameters, setup.weight_dtype) // setup.count)
    return Budget(memory, usable, setup.reserve_bytes, weights, usable - setup.reserve_bytes - weights)


def state_bytes_per_rank(spec: ModelSpec, setup: Setup, context: int, batch: int) -> int:
    """Bytes of states set aside on each accelerator for `batch` sequences of `context` tokens.

    Raises:
        ValueError: as in ``allocation.allocate``.
    """
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
    """Whether the weights and the states of `batch` sequences of `context` tokens fit.

    Raises:
        ValueError: as in :func:`budget` and :func:`state_bytes_per_rank`.
    """
    return state_bytes_per_rank(spec, setup, context, batch) <= budget(spec, setup).state_room_bytes


def largest_context(spec: ModelSpec, setup: Setup, batch: int = 1) -> int | None:
    """Largest context that `batch` sequences can all reach.

    The model's own longest context does not limit it: compare with ``spec.max_context``.

    Returns:
        The context in tokens: 0 if not one token fits, None if every context up to MAX_CONTEXT fits.

    Raises:
        ValueError: as in :func:`budget` and :func:`state_bytes_per_rank`.
    """
    check_batch(batch)
    left = budget(spec, setup).state_room_bytes
    return longest_context(lambda context: state_bytes_per_rank(spec, setup, context, batch), left)


def largest_batch(spec: ModelSpec, setup: Setup, context: int) -> int:
    """Most sequences of `context` tokens that fit at once (0: not one fits), at most MAX_BATCH.

    Raises:
        ValueError: as in :func:`budget` and :func:`state_bytes_per_rank`.
    """
    check_context(context)
    one = state_bytes_per_rank(spec, setup, context, 1)
    left = budget(spec, setup).state_room_bytes
    return min(MAX_BATCH, max(0, left) // one) if one else MAX_BATCH


def smallest_count(
    spec: ModelSpec, setup: Setup, context: int, batch: int, *, powers_of_two: bool = True
) -> int | None:
    """Fewest accelerators on which the weights and states fit, of the counts that the model's heads allow; None if no
    count up to MAX_COUNT is enough."""
    for count in tp_choices(spec, MAX_COUNT):
        if powers_of_two and count & (count - 1):
            continue
        if fits(spec, replace(setup, count=count), context, batch):
            return count
    return None


def grid(spec: ModelSpec, setup: Setup, contexts: Sequence[int], batches: Sequence[int]) -> Grid:
    """The use of one accelerator's memory at every context and batch.

    The states of a batch are a multiple of one sequence's states, so each context is computed once.

    Raises:
        ValueError: as in :func:`budget` and :func:`state_bytes_per_rank`.
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
