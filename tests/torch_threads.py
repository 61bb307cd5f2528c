"""torch with a number of threads for a while. Threads that wait for each other make a busy machine slower than one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(n: int | None = None) -> Iterator[None]:
    """Use `n` threads (None: leave them as they are); afterwards there are as many as before."""
    before = torch.get_num_threads()
    if n is not None:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
