"""The long forms, which ``make soak`` runs and ``make test`` leaves out: ``HEADSHARE_SOAK=1``.

Of cases that differ little, the short form draws some anew in each run. ``HEADSHARE_SEED`` repeats a draw; pytest's
header says it.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from typing import TypeVar

import pytest

SOAK = os.environ.get("HEADSHARE_SOAK") == "1"
SEED = os.environ.setdefault("HEADSHARE_SEED", str(time.time_ns() % 1_000_000))
"""The seed of this run. The processes that run tests side by side inherit it, because they must agree on the cases."""

T = TypeVar("T")


def long(why: str) -> pytest.MarkDecorator:
    """Marks a test that only the long form runs; `why` names what the short form has of its kind."""
    return pytest.mark.skipif(not SOAK, reason=f"the long form has it; the short one: {why}")


def short(whole: T, part: T) -> T:
    """All cases in the long form; in the short form only those that differ in kind."""
    return whole if SOAK else part


def drawn(cases: Sequence[T], n: int) -> list[T]:
    """All cases in the long form; in the short form `n` of them, drawn by this run's seed, in their order."""
    if SOAK or n >= len(cases):
        return list(cases)
    chosen = random.Random(f"{SEED} {len(cases)} {cases[0]}").sample(range(len(cases)), n)
    return [cases[i] for i in sorted(chosen)]
