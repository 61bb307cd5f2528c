"""A walk's record: its steps as plain values, found fault and shortened script.

A step is a tuple whose first entry says what is done and whose others say to what, in words that stand on the page, so
that a step still means the same when others are left out. A step whose control is not there is passed over.
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
    """What an oracle found.

    Attributes:
        oracle: which; page: where; what: in words. steps: all that was done up to it.
    """

    oracle: str
    page: str
    what: str
    steps: list[Step] = field(default_factory=list)

    @property
    def kind(self) -> tuple[str, str]:
        """Two faults of one kind on one page are taken for the same."""
        return self.oracle, self.page

    def __str__(self) -> str:
        return f"{self.page}: {self.oracle}: {self.what}"


def shorten(fault: Fault, play: Play, seconds: float = 12.0) -> list[Step]:
    """The fewest steps found within `seconds` that still give a fault of the same kind: pieces are left out, halves
    first, then ever smaller ones."""
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
    """A program that walks `steps` again."""
    lines = ",\n    ".join(repr(step) for step in steps)
    return (
        f"seed {seed}, step {len(fault.steps)}: {fault}\n\n"
        f"python - <<'END'\n"
        f"from tests.walks.{module} import replay\n\n"
        f"print(replay([\n    {lines},\n]{', ' if arguments else ''}{arguments}))\nEND\n"
    )
