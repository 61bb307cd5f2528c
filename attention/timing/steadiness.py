"""Whether a measurement can be trusted: intervals of medians, ratios taken round by round, and disturbances.

Free of torch, so that pages can judge the worker's measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import median
from typing import NamedTuple

MIN_REPEATS = 5
BUSY = 0.1
"""Share of the processor that others may take before a timing counts as disturbed."""
NARROW = 0.1
"""Largest half width of a steady median's 95 % interval, as a share of the median."""
STILL_TIMED = "still being timed"


class Interval(NamedTuple):
    """A median and the 95 % interval around it."""

    low: float
    mid: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval as a share of the median; 0 for a median of 0."""
        return (self.high - self.low) / (2 * self.mid) if self.mid else 0.0

    @property
    def differs(self) -> bool:
        """Of a ratio: whether 1 is outside the interval."""
        return self.low > 1 or self.high < 1


def interval(values: Sequence[float]) -> Interval:
    """The median and its 95 % interval by order statistics, which assume nothing about the distribution.

    The interval ends at the values of rank n/2 ∓ 0.98 √n (binomial distribution, normal approximation). Below eight
    values it is their whole range.

    Raises:
        ValueError: no value.
    """
    if not values:
        raise ValueError("values must hold at least one number, got none")
    ordered = sorted(values)
    out = max(0, int(len(ordered) / 2 - 0.98 * sqrt(len(ordered))))
    return Interval(ordered[out], median(ordered), ordered[-1 - out])


def ratio_interval(slower: Sequence[float], faster: Sequence[float]) -> Interval | None:
    """How many times `faster` is faster. Each round gives a ratio, so that a drift of the machine changes both times.

    Args:
        slower, faster: seconds, round by round.

    Returns:
        None if the two have different lengths or fewer than MIN_REPEATS rounds.
    """
    if len(slower) != len(faster) or len(slower) < MIN_REPEATS:
        return None
    return interval([a / b for a, b in zip(slower, faster, strict=True)])


class Load(NamedTuple):
    """How busy the processor was with other things, as shares of it from 0 to 1."""

    others: float
    """The share of processes other than this one, `stolen` included."""
    stolen: float
    """The share that the host of this virtual machine gave to others (steal time)."""


QUIET = Load(0.0, 0.0)


def quiet_rounds(loads: Sequence[Load]) -> list[int]:
    """Numbers of the rounds to count: the undisturbed ones if they are at least MIN_REPEATS, else all."""
    quiet = [n for n, load in enumerate(loads) if load.others <= BUSY]
    return quiet if len(quiet) >= MIN_REPEATS else list(range(len(loads)))


def disturbance(loads: Sequence[Load]) -> str:
    """What disturbed the counted rounds, in words; empty if nothing did."""
    counted = [loads[n] for n in quiet_rounds(loads)]
    if not counted:
        return ""
    others = sum(load.others for load in counted) / len(counted)
    stolen = sum(load.stolen for load in counted) / len(counted)
    if others <= BUSY:
        return ""
    if stolen > others / 2:
        return f"the host of this virtual machine gave {stolen:.0%} of the processor to others"
    return f"other processes took {others:.0%} of the processor"


def why_unsteady(times: Sequence[float], loads: Sequence[Load]) -> str:
    """Why nothing may be concluded from `times` (seconds of the counted rounds), in words; empty if they are steady.

    Args:
        loads: the loads of all rounds, counted or not.
    """
    if disturbed := disturbance(loads):
        return disturbed
    if len(times) < MIN_REPEATS:
        return f"it was timed {len(times)} {'time' if len(times) == 1 else 'times'} only"
    found = interval(times)
    if found.half_width > NARROW:
        return f"its repeats differ too much (median ± {found.half_width:.0%})"
    return ""
