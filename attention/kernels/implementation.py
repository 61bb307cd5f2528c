"""What an implementation of attention is: a name, a line that says what it does, a line that says why, and the code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from attention.cases import Case

Attention = Callable[..., Tensor]
"""(q [batch, n_heads, query, head_dim], *cache) -> like q.

A plain cache is k, v, both [batch, n_kv_heads, context, head_dim]."""


def _as_it_lies(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return k, v


def _never(_: object) -> str | None:
    return None


@dataclass(frozen=True)
class Implementation:
    """One way to compute attention.

    Attributes:
        name: as typed on the command line.
        label: as shown to the reader, a few words.
        why: one line: what is to be learnt from it.
        attend: the computation, on a cache in this implementation's layout.
        layout: brings a plain cache into that layout. A cache is kept so from the first token on, so
            this is not part of a step's time. layout_copies: bytes it allocates for each byte of cache.
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
    attend: Attention
    layout: Callable[[Tensor, Tensor], tuple[Tensor, ...]] = _as_it_lies
    layout_copies: float = 0.0
    copies: Callable[[int], float] = lambda group_size: 0.0
    holds_scores: bool = True
    unavailable: Callable[[str], str | None] = _never
    unsuited: Callable[[Case], str | None] = _never
    phase: str = "decode"
    compiled: bool = False

    def run(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention from a plain cache: q [batch, n_heads, query, head_dim], k and v [batch, n_kv_heads, context,
        head_dim] -> [batch, n_heads, query, head_dim]."""
        return self.attend(q, *self.layout(k, v))
