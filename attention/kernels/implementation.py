"""What an implementation of attention is: a name, a line that says what it does, a line that says why, and the code."""

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
        why: one line: what is to be learnt from it.
        compute: the computation, for at least one position and one sequence.
        copies: bytes a step allocates for each byte of cache, given group_size.
        holds_scores: a step keeps all scores in memory at once.
        unavailable: device type -> why it cannot run there, or None.
        unsuited: case -> why it is not meant for it, or None.
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
        """Attention of q over k and v, see ``Attention``; of no sequences, the empty result.

        Raises:
            ValueError: no position to attend to.
        """
        if not k.shape[2]:
            raise ValueError("context must be at least 1, got 0")
        return self.compute(q, k, v) if q.shape[0] else q.new_empty(q.shape)
