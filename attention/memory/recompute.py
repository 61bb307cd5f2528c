"""How much more generation computes without a cache.

The keys and values of a token in one layer follow from the output of the layer below. So without a cache, all earlier
tokens pass through the whole model again for each new token: 1 + 2 + … + n passes in place of n.
"""

from __future__ import annotations

from typing import NamedTuple

from attention.memory.load import Load


class Passes(NamedTuple):
    """Number of tokens that pass through the model, for the whole batch, without a cache and with one.

    Attributes:
        last_without, last_with: for the last token of each sequence alone.
        without, with_cache: for all tokens together.
    """

    last_without: int
    last_with: int
    without: int
    with_cache: int


def passes(load: Load) -> Passes:
    """The passes needed to generate ``load.context`` tokens one by one."""
    n, batch = load.context, load.batch
    return Passes(batch * n, batch, batch * n * (n + 1) // 2, batch * n)
