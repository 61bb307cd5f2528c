"""What writing token by token would compute again without a cache.

A layer's keys and values of a token follow from what the layer below made of it, so without a cache all tokens so far
pass through the whole model for each new one: 1 + 2 + … + n passes in place of n.
"""

from __future__ import annotations

from typing import NamedTuple

from attention.memory.load import Load


class Passes(NamedTuple):
    """Tokens that pass through the model to write a context, the whole batch.

    Attributes:
        last_without, last_with: for the last token alone.
        without, with_cache: for all of them together.
    """

    last_without: int
    last_with: int
    without: int
    with_cache: int


def passes(load: Load) -> Passes:
    """The passes that writing ``load.context`` tokens one by one takes, without a cache and with one."""
    n, batch = load.context, load.batch
    return Passes(batch * n, batch, batch * n * (n + 1) // 2, batch * n)
