"""A decode from its first token to its last as frames for an animation, and the ratios of the MQA paper.

All figures come from ``roofline.py`` and ``prefill.py``; the browser computes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from attention.catalog.published import Accelerator
from attention.floor import COMPUTE, Floor
from attention.formats import weight_bytes
from attention.memory.footprint import sequence_bytes
from attention.memory.load import Load
from attention.serving.prefill import prefill_floor
from attention.serving.roofline import (
    DecodeFloor,
    decode_floor,
    known_parameters,
    traffic_crossover,
)
from attention.spec import ModelSpec, check_size
from attention.units import binary_bytes, duration

FRAMES = 180
"""Most frames of a whole decode: enough for smooth growth, and few enough to send at once."""


class Frame(NamedTuple):
    """One decode step of all sequences of the batch together, or one prompt.

    Attributes:
        context: tokens held by each sequence, or tokens of the prompt.
        weight_bytes, cache_bytes, flops: bytes and operations of all accelerators together.
        time_s: the floor of the step in seconds; binds: "memory" or "compute".
    """

    context: int
    weight_bytes: int
    cache_bytes: int
    flops: int
    time_s: float
    binds: str
    written_bytes: int = 0
    """Bytes of recurrent states, which a step also writes back."""
    busy: float | None = None
    """Part of the time during which the processor computes at its peak; None where the peak is not known."""

    @property
    def moved_bytes(self) -> int:
        """Bytes that are read or written back."""
        return self.weight_bytes + self.cache_bytes + self.written_bytes

    @property
    def intensity(self) -> float:
        """Operations per byte moved."""
        return self.flops / self.moved_bytes

    @property
    def cache_share(self) -> float:
        """Share of the cache in the moved bytes, between 0 and 1."""
        return self.cache_bytes / self.moved_bytes


@dataclass(frozen=True)
class Trace:
    """The frames of a decode or of prompts, in order of context.

    Attributes:
        crossover: context from which a step reads more of the cache than of the weights (None: never). In a
            ``prefill_trace`` it is the length from which arithmetic takes longer than memory.
        crossover_frame: index of its frame, None if no frame gets there.
        notes: what the bound leaves out.
    """

    frames: tuple[Frame, ...]
    crossover: int | None
    crossover_frame: int | None
    notes: tuple[str, ...]


def contexts(longest: int, n: int = FRAMES) -> tuple[int, ...]:
    """At most `n` contexts from 1 to `longest` in equal steps, so that an animation grows at a steady pace."""
    check_size("context", longest)
    steps = min(n, longest) - 1
    return tuple(1 + round((longest - 1) * i / steps) for i in range(steps + 1)) if steps else (1,)


def trace(spec: ModelSpec, accelerator: Accelerator, load: Load, weight_dtype: str = "bf16", count: int = 1) -> Trace:
    """The decode of all tokens of the load, from the first, on `count` accelerators.

    Bytes and operations are those of all accelerators together; times are those of each for its own part.

    Raises:
        ValueError: the number of parameters is not known, or an argument is out of range.
    """
    frames: list[Frame] = []
    weights = weight_bytes(known_parameters(spec, "to follow a decode").read, weight_dtype)
    notes: tuple[str, ...] = ()
    for held in contexts(load.context):
        step = decode_floor(
            spec, accelerator, held, load.batch, count=count, weight_dtype=weight_dtype, kv_dtype=load.kv_dtype
        )
        notes = (*step.notes, *_expected(step))
        frames.append(
            Frame(
                held,
                weights,
                load.batch * sequence_bytes(spec.as_read, held, load.kv_dtype),
                step.floor.flops * count,
                step.floor.time_s,
                step.floor.binds,
                step.written_bytes * count,
                _busy(step.floor),
            )
        )
    crossover = traffic_crossover(spec, weight_dtype, load.kv_dtype, load.batch)
    at = None
    if crossover is not None and crossover <= load.context:
        at = next(i for i, frame in enumerate(frames) if frame.context >= crossover)
    return Trace(tuple(frames), crossover, at, notes)


def prefill_trace(
    spec: ModelSpec,
    accelerator: Accelerator,
    load: Load,
    weight_dtype: str = "bf16",
    count: int = 1,
    vocabulary: int = 0,
) -> Trace:
    """The prefill of one prompt, in frames of growing length up to the load's context. The load's batch has no effect.

    `crossover` is the length of the first frame in which arithmetic takes longer than memory.

    Args:
        vocabulary: as in ``prefill_floor``.

    Raises:
        ValueError: as in ``prefill_floor``.
    """
    weights = weight_bytes(known_parameters(spec, "to follow a prefill").read, weight_dtype)
    frames = []
    for prompt in contexts(load.context):
        found = prefill_floor(
            spec, accelerator, prompt, count=count, weight_dtype=weight_dtype, kv_dtype=load.kv_dtype,
            vocabulary=vocabulary,
        )  # fmt: skip
        frames.append(
            Frame(
                prompt,
                weights,
                sequence_bytes(spec, prompt, load.kv_dtype),
                found.weight_flops + found.attention_flops,
                found.floor.time_s,
                found.floor.binds,
                busy=_busy(found.floor),
            )
        )
    at = next((i for i, frame in enumerate(frames) if frame.binds == COMPUTE), None)
    return Trace(tuple(frames), None if at is None else frames[at].context, at, ())


def _busy(bound: Floor) -> float | None:
    return None if bound.compute_s is None else bound.compute_s / bound.time_s


def _expected(step: DecodeFloor) -> tuple[str, ...]:
    """The average bytes and time of a batch with a mixture of experts, in words."""
    if step.expected is None or step.expected_weight_bytes is None:
        return ()
    return (
        f"expected then, no bound: {binary_bytes(step.expected_weight_bytes)} of weights and "
        f"{duration(step.expected.time_s)} per step on each accelerator",
    )


class Ratios(NamedTuple):
    """Memory accesses per operation of one incremental attention layer (Shazeer 2019, arXiv:1911.02150, sections 2.4
    and 3.1): Θ(n/d + 1/b) for multi-head, Θ(1/d + n/(d·h) + 1/b) for multi-query, without constants, as in the paper.

    Attributes:
        n: tokens; d: width of the model; h: query heads; b: sequences of the batch.
    """

    n: int
    d: int
    h: int
    b: int

    @property
    def multi_head(self) -> float:
        """n/d + 1/b."""
        return self.n / self.d + 1 / self.b

    @property
    def multi_query(self) -> float:
        """1/d + n/(d·h) + 1/b."""
        return 1 / self.d + self.n / (self.d * self.h) + 1 / self.b

    def grouped(self, n_kv_heads: int) -> float:
        """The same sum for n_kv_heads K/V heads, which is not in the paper.

        n_kv_heads = 1 gives the paper's multi-query ratio. n_kv_heads = h gives its multi-head ratio plus the term 1/d
        for the newest token's queries, which the paper leaves out there.
        """
        return 1 / self.d + self.n * n_kv_heads / (self.d * self.h) + 1 / self.b
