"""The least time that a piece of work can take on a device.

``time ≥ max(bytes / bandwidth, flops / peak)`` (Williams, Waterman, Patterson 2009). The peaks may come from a data
sheet or from rates that were measured between the rounds of a timing.
"""

from __future__ import annotations

from typing import NamedTuple

MEMORY, COMPUTE = "memory", "compute"


class Floor(NamedTuple):
    """The least time that a piece of work can take.

    Attributes:
        moved_bytes, flops: bytes that must be moved and operations that must be computed, on one device.
        memory_s, compute_s: seconds that each needs alone (compute_s None: no peak is known for this dtype).
        time_s: the larger of the two, in seconds; binds: which of them it is, "memory" or "compute".
    """

    moved_bytes: int
    flops: int
    memory_s: float
    compute_s: float | None
    time_s: float
    binds: str

    @property
    def intensity(self) -> float:
        """Operations per byte moved."""
        return self.flops / self.moved_bytes if self.moved_bytes else 0.0


def floor(moved_bytes: int, flops: int, bytes_per_s: float, flops_per_s: float | None) -> Floor:
    """The floor of work that moves `moved_bytes` and computes `flops`, on a device with these peaks.

    Raises:
        ValueError: a peak that is not above 0.
    """
    if not bytes_per_s > 0 or (flops_per_s is not None and not flops_per_s > 0):
        raise ValueError(f"bytes_per_s and flops_per_s must be above 0, got {bytes_per_s!r} and {flops_per_s!r}")
    memory_s = moved_bytes / bytes_per_s
    compute_s = None if flops_per_s is None else flops / flops_per_s
    if compute_s is not None and compute_s > memory_s:
        return Floor(moved_bytes, flops, memory_s, compute_s, compute_s, COMPUTE)
    return Floor(moved_bytes, flops, memory_s, compute_s, memory_s, MEMORY)
