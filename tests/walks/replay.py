"""The record of a walk: its steps as plain values, a fault that was found, and a shortened script.

A step is a tuple. Its first entry is the action, the others name the control in the page's own words, so that a step
means the same when other steps are left out. A step whose control is not there does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Step = tuple[Any, ...]
Play = Callable[[Sequence[Step]], "Fault | None"]


@dataclass
class Fault:
    """A fault that an oracle found.

    Attributes:
        oracle: the kind of fault. page: the page that shows it. what: the fault in words. steps: all steps up to it.
    """

    oracle: str
    page: str
    what: str
    steps: list[Step] = field(default_factory=list)

    @property
    def kind(self) -> tuple[str, str]:
        """(oracle, page); two faults with the same kind count as one."""
        return self.oracle, self.page

    def __str__(self) -> str:
        return f"{self.page}: {self.oracle}: {self.what}"


def shorten(fault: Fault, play: Play, seconds: float = 12.0) -> list[Step]:
    """The fewest steps found within `seconds` that still give a fault of the same kind.

    Pieces of the walk are left out, at first halves, then smaller and smaller pieces.
    """
    until = time.monotonic() + seconds
    steps = list(fault.steps)
    size = max(1, len(steps) // 2)
    while True:
        # the first step opens the page
        start = 1
        while start < len(steps) and time.monotonic() < until:
            shorter = steps[:start] + steps[start + size :]
            again = play(shorter)
            if again is not None:
                steps = shorter[: len(again.steps)] if again.steps else shorter
            else:
                start += size
        if size == 1 or time.monotonic() >= until:
            return steps
        size = max(1, size // 2)


def script(seed: str, fault: Fault, steps: Sequence[Step], module: str, arguments: str = "") -> str:
    """A report of the fault with a program that walks `steps` again."""
    lines = ",\n    ".join(repr(step) for step in steps)
    return (
        f"seed {seed}, step {len(fault.steps)}: {fault}\n\n"
        f"python - <<'END'\n"
        f"from tests.walks.{module} import replay\n\n"
        f"print(replay([\n    {lines},\n]{', ' if arguments else ''}{arguments}))\nEND\n"
    )
