"""Times several things in turn, round after round, until their medians are known or the time is up."""

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
SHOWN_AFTER_S = 1.0
"""Seconds between results so far."""
PATIENCE = 2.0
"""A disturbed measurement may take so many times as long, then it ends as unsteady."""
ENOUGH = 0.03
"""A median known to this share of itself is not measured further."""


@dataclass
class Timed:
    """One thing to time.

    Attributes:
        run: the work.
        n_bytes, n_flops: the least that the work must move and compute, for its floor.
        before: other work, done untimed just before `run`, or None.
        times: the seconds of each round.
    """

    run: Callable[[], object]
    n_bytes: int
    n_flops: int
    before: Callable[[], object] | None = None
    times: list[float] = field(default_factory=list)


class Rounds:
    """Times all things in turn, in alternating order. Between them it reads memory and multiplies (:class:`Pace`).

    Each round notes how busy other processes were. Once enough rounds were quiet, only these count.
    """

    def __init__(self, device: str, dtype: str, calibration: speed.Calibration) -> None:
        self.device = device
        self.clock = Clock(device)
        self.pace = Pace(device, dtype, calibration)
        self.loads: list[Load] = []

    def once(self, timed: Timed) -> float:
        """Time one thing once, after reading the memory and after its untimed work; in seconds."""
        self.pace.read(self.clock)
        if timed.before:
            timed.before()
        return self.clock.time(timed.run)

    def take(self, things: Sequence[Timed], seconds: float, should_stop: Callable[[], bool]) -> Iterator[int]:
        """Make rounds over all things and yield the number of rounds after each.

        It ends after `seconds` once MIN_REPEATS rounds are made. It ends sooner when every median is known well, and
        later, up to PATIENCE times as late, while something is unsteady. When told to stop it ends at once.
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
            # other work of the processor does not slow a GPU
            self.loads.append(load.taken() if self.device == "cpu" else QUIET)
            yield len(self.loads)

    def pauses(
        self, things: Sequence[Timed], seconds: float, should_stop: Callable[[], bool], *, wanted: bool
    ) -> Iterator[None]:
        """Make all rounds, see :meth:`take`, with new rates of the machine. Yield at a pause for results so far.

        Args:
            wanted: whether there are pauses, one every SHOWN_AFTER_S seconds.
        """
        self.pace.forget()
        shown = time.perf_counter()
        for _ in self.take(things, seconds, should_stop) if things else ():
            if wanted and time.perf_counter() - shown > SHOWN_AFTER_S:
                yield
                shown = time.perf_counter()

    def _enough(self, things: Sequence[Timed], spent: float) -> bool:
        if spent >= PATIENCE:
            return True
        counted = [self.counted(thing) for thing in things]
        if any(why_unsteady(times, self.loads) for times in counted):
            return False
        return spent >= 1 or all(interval(times).half_width <= ENOUGH for times in counted)

    def counted(self, thing: Timed) -> list[float]:
        """Seconds of the rounds that count. They are the same rounds for all things."""
        whole = min(len(self.loads), len(thing.times))
        return [thing.times[n] for n in quiet_rounds(self.loads[:whole])]

    def rates(self, things: Sequence[Timed]) -> tuple[float, float]:
        """(bytes per second, operations per second) that the machine can do.

        Each is the rate tried between the rounds, or the rate of the fastest thing if that is higher: nothing is faster
        than its machine.
        """
        known = [(thing, median(times)) for thing in things if (times := self.counted(thing))]
        moved = max((thing.n_bytes / seconds for thing, seconds in known), default=0.0)
        computed = max((thing.n_flops / seconds for thing, seconds in known), default=0.0)
        return max(self.pace.bytes_per_s, moved), max(self.pace.flops_per_s, computed)
