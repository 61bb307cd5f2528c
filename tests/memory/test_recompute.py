"""Passes without a cache, counted one by one."""

from attention.memory.load import Load
from attention.memory.recompute import Passes, passes


def test_counted_step_by_step() -> None:
    steps = [sum(1 for _ in range(n)) for n in range(1, 12)]
    assert passes(Load(11, 3)) == Passes(3 * steps[-1], 3, 3 * sum(steps), 3 * len(steps))
    assert passes(Load(1)) == Passes(1, 1, 1, 1)
