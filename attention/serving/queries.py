"""How many queries meet each key that is read: why decode waits for memory, why sharing helps it, and why prefill does
not wait.

One K/V head's keys are a matrix. In decode the query heads that share it are its rows, one new token's; in prefill they
are so many for every token of the prompt, of which each meets the keys up to its own (half of them, on average).
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
    """One layer's attention over one sequence.

    Attributes:
        rows: queries that meet one K/V head's keys.
        floor: of reading all K/V heads once and computing all queries' attention.
    """

    rows: int
    floor: Floor

    @property
    def memory_busy(self) -> float:
        """Part of the time in which memory is read."""
        return self.floor.memory_s / self.floor.time_s

    @property
    def processor_busy(self) -> float | None:
        """Part of the time in which the processor computes; None where its peak is not known."""
        return None if self.floor.compute_s is None else self.floor.compute_s / self.floor.time_s


def meetings(layer: Layer, load: Load, accelerator: Accelerator, dtype: str = "bf16") -> tuple[Meeting, Meeting]:
    """Decode's next token, and prefill of the whole context.

    Args:
        layer: one that keeps keys and values of its own, or a latent vector.
        dtype: what is computed in.

    Raises:
        ValueError: the layer keeps none.
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
