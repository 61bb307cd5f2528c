"""Single changes that make a load fit: changes of the load, of the formats, or of the number of accelerators."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from attention.serving import fit
from attention.serving.fit import Setup
from attention.serving.plan import Plan
from attention.spec import ModelSpec

CACHE_FORMATS = ("fp8", "int4-g64")
"""Smaller formats that engines offer for a cache; the more exact format comes first."""
WEIGHT_FORMATS = ("fp8", "int4-g128")


class Remedy(NamedTuple):
    """One change with which the load fits, while all else stays as it is.

    Attributes:
        what: what changes: "kv_dtype", "weight_dtype", "context", "batch" or "count".
        value: its new value.
        largest_batch: sequences of the context that then fit at once; for "context", the batch of the load.
    """

    what: str
    value: str | int
    largest_batch: int


def remedies(spec: ModelSpec, setup: Setup, context: int, batch: int, plan: Plan) -> tuple[Remedy, ...]:
    """The single changes with which the load fits, the cheapest first; none if it fits already.

    Formats in which the size of the model's states is not known are left out.

    Args:
        context: tokens of each sequence; batch: number of sequences.
        plan: ``plan.plan`` of the same load, which has its solved numbers.
    """
    if plan.fits:
        return ()
    found: list[Remedy] = []
    caches = [("kv_dtype", name, replace(setup, kv_dtype=name)) for name in CACHE_FORMATS]
    weights = [("weight_dtype", name, replace(setup, weight_dtype=name)) for name in WEIGHT_FORMATS]
    for formats in (caches, weights):
        for what, name, other in formats:
            with suppress(ValueError):
                if _smaller(spec, setup, other, context) and fit.fits(spec, other, context, batch):
                    found.append(Remedy(what, name, fit.largest_batch(spec, other, context)))
                    break
    if plan.largest_context:
        found.append(Remedy("context", plan.largest_context, batch))
    if 0 < plan.largest_batch < batch:
        found.append(Remedy("batch", plan.largest_batch, plan.largest_batch))
    if plan.smallest_count is not None and plan.smallest_count != setup.count:
        more = replace(setup, count=plan.smallest_count)
        found.append(Remedy("count", plan.smallest_count, fit.largest_batch(spec, more, context)))
    return tuple(found)


def _smaller(spec: ModelSpec, setup: Setup, other: Setup, context: int) -> bool:
    """Whether the change makes the weights or the states smaller. It may change nothing: recurrent states do not follow
    the cache format."""
    return fit.budget(spec, other).weight_bytes < fit.budget(spec, setup).weight_bytes or fit.state_bytes_per_rank(
        spec, other, context, 1
    ) < fit.state_bytes_per_rank(spec, setup, context, 1)
