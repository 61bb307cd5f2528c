"""What an implementation of attention is: a name, a label, one line on what it teaches, and the code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from attention.kernels.case import Case

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(q [batch, n_heads, query, head_dim], k and v [batch, n_kv_heads, context, head_dim]) -> like q."""


def _never(_: object) -> str | None:
    return None


@dataclass(frozen=True)
class Implementation:
    """One way to compute attention.

    Attributes:
        name: as typed on the command line.
        label: as shown to the reader, a few words.
        why: one line that says what a reader learns from it.
        compute: the computation, for at least one position and one sequence.
        copies: group_size -> bytes that a step allocates for each byte of cache.
        holds_scores: a step keeps all scores in memory at once.
        unavailable: device type -> why the implementation cannot run there, or None.
        unsuited: case -> why the implementation is not meant for this case, or None.
        phase: "decode" (one query position) or "prefill" (as many as the context, causal).
        compiled: the first call with a new group size, head size or dtype waits for a compiler.
    """

    name: str
    label: str
    why: str
    compute: Attention
    copies: Callable[[int], float] = lambda group_size: 0.0
    holds_scores: bool = True
    unavailable: Callable[[str], str | None] = _never
    unsuited: Callable[[Case], str | None] = _never
    phase: str = "decode"
    compiled: bool = False

    def run(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of q over k and v; shapes as in ``Attention``. A batch of 0 gives an empty result.

        Raises:
            ValueError: a context of 0.
        """
        if not k.shape[2]:
            raise ValueError("context must be at least 1, got 0")
        return self.compute(q, k, v) if q.shape[0] else q.new_empty(q.shape)
