"""How many queries use each key that is read.

This shows why decode waits for memory, why shared heads help, and why prefill does not wait. The keys of one K/V head
are a matrix, and the queries that use them are the rows of another. In decode these rows are the query heads that share
the K/V head, for one new token. In prefill they are the same query heads for every token of the prompt. Each token then
attends to the keys up to its own position, on average half of them.
"""

from __future__ import annotations

from typing import NamedTuple

from attention.catalog.published import Accelerator
from attention.floor import Floor, floor
from attention.formats import cache_format
from attention.memory.footprint import layer_bytes
from attention.memory.load import Load
from attention.serving.prefill import attention_flops
from attention.serving.roofline import compute_peak, layer_flops
from attention.spec import Layer, ModelSpec


class Meeting(NamedTuple):
    """The attention of one layer over one sequence.

    Attributes:
        rows: queries that use the keys of one K/V head.
        floor: the least time to read all K/V heads once and to compute the attention of all queries.
    """

    rows: int
    floor: Floor

    @property
    def memory_busy(self) -> float:
        """Part of the time during which memory is read, between 0 and 1."""
        return self.floor.memory_s / self.floor.time_s

    @property
    def processor_busy(self) -> float | None:
        """Part of the time during which the processor computes, between 0 and 1; None where its peak is not known."""
        return None if self.floor.compute_s is None else self.floor.compute_s / self.floor.time_s


def meetings(layer: Layer, load: Load, accelerator: Accelerator, dtype: str = "bf16") -> tuple[Meeting, Meeting]:
    """(decode of the next token, prefill of the whole context), for one sequence.

    Args:
        layer: a layer that keeps its own keys and values, or a latent vector.
        dtype: the dtype of the arithmetic.

    Raises:
        ValueError: the layer keeps no keys.
    """
    if not layer.n_kv_heads or not layer.n_heads:
        raise ValueError(f"a layer of kind {layer.kind.value!r} keeps no keys: choose one that does")
    size = layer_bytes(layer, load.context, cache_format(load.kv_dtype), None)
    peak = compute_peak(accelerator.flops_per_s, dtype)

    def meeting(rows: int, flops: int) -> Meeting:
        return Meeting(rows, floor(size, flops, accelerator.bytes_per_s, peak))

    of_prompt = attention_flops(ModelSpec("layer", (layer,)), load.context)
    return (
        meeting(layer.group_size, layer_flops(layer, load.context)),
        meeting(layer.group_size * load.context, of_prompt),
    )
