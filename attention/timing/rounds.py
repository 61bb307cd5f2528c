"""Things timed in turn, round after round, until what they take is known or the time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from attention.timing import speed
from attention.timing.other_load import OtherLoad
from attention.timing.pace import Clock, Pace
from attention.timing.steadiness import (
    MIN_REPEATS,
    QUIET,
    Load,
    interval,
    quiet_rounds,
    why_unsteady,
)

MAX_REPEATS = 60
PATIENCE = 2.0
"""A disturbed measurement may take so many times as long before it is given up as unsteady."""
ENOUGH = 0.03
"""A median known to this share of itself is not measured further."""


@dataclass
class Timed:
    """One thing to time.

    Attributes:
        run: the work; before: other work done untimed just before it, or None.
        n_bytes, n_flops: the least it must move and compute, for its floor.
        times: seconds, one of each round.
    """

    run: Callable[[], object]
    n_bytes: int
    n_flops: int
    before: Callable[[], object] | None = None
    times: list[float] = field(default_factory=list)


class Rounds:
    """Takes all things in turn, forth and back, with the memory read and the multipliers tried in between.

    What other processes did is noted for each round; once enough rounds were quiet, only those count.
    """

    def __init__(self, device: str, dtype: str, calibration: speed.Calibration) -> None:
        self.device = device
        self.clock = Clock(device)
        self.pace = Pace(device, dtype, calibration)
        self.loads: list[Load] = []

    def once(self, timed: Timed) -> float:
        """Time one thing once: after reading the memory, and after the work that comes before it."""
        self.pace.read(self.clock)
        if timed.before:
            timed.before()
        return self.clock.time(timed.run)

    def take(self, things: Sequence[Timed], seconds: float, should_stop: Callable[[], bool]) -> Iterator[int]:
        """Rounds over all things; gives the number of rounds so far after each.

        Ends after `seconds` once MIN_REPEATS rounds were made, sooner when every median is known well, and later, up
        to PATIENCE times as late, while something is not steady; at once, without another word, when told to stop.
        """
        start = time.perf_counter()
        while len(self.loads) < MAX_REPEATS:
            spent = time.perf_counter() - start
            if len(self.loads) >= MIN_REPEATS and self._enough(things, spent / seconds):
                return
            load = OtherLoad()
            self.pace.multiply(self.clock)
            for thing in things if len(self.loads) % 2 == 0 else reversed(things):
                if should_stop():
                    return
                thing.times.append(self.once(thing))
            # a GPU's work is not slowed by what the processor does meanwhile
            self.loads.append(load.taken() if self.device == "cpu" else QUIET)
            yield len(self.loads)

    def _enough(self, things: Sequence[Timed], spent: float) -> bool:
        if spent >= PATIENCE:
            return True
        counted = [self.counted(thing) for thing in things]
        if any(why_unsteady(times, self.loads) for times in counted):
            return False
        return spent >= 1 or all(interval(times).half_width <= ENOUGH for times in counted)

    def counted(self, thing: Timed) -> list[float]:
        """Seconds of the rounds that count; those of things timed together belong to the same rounds."""
        whole = min(len(self.loads), len(thing.times))
        return [thing.times[n] for n in quiet_rounds(self.loads[:whole])]

    def rates(self, things: Sequence[Timed]) -> tuple[float, float]:
        """(bytes per second, operations per second) that the machine can do: as tried between the rounds, or as one
        of the things itself reached, where that is more. Nothing is faster than the machine can be."""
        known = [(thing, median(times)) for thing in things if (times := self.counted(thing))]
        moved = max((thing.n_bytes / seconds for thing, seconds in known), default=0.0)
        computed = max((thing.n_flops / seconds for thing, seconds in known), default=0.0)
        return max(self.pace.bytes_per_s, moved), max(self.pace.flops_per_s, computed)
