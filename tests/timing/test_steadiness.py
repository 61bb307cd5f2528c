"""What may be concluded from timings: intervals, ratios by round, and noticing other processes."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import pytest

from attention.kernels.case import Case
from attention.timing import benchmark, speed
from attention.timing.steadiness import (
    QUIET,
    Interval,
    Load,
    disturbance,
    interval,
    quiet_rounds,
    ratio_interval,
    why_unsteady,
)
from tests.made_up_host import calibrated

BURN = "while True: pass"
STREAM = "import numpy as np\na = np.ones(2**26)\nwhile True: a.sum()"
"""Keeps one core busy: it reads half a GiB of memory again and again."""


@contextmanager
def beside(code: str, count: int = 2) -> Iterator[None]:
    """Run `count` other processes with `code` meanwhile, and end them by their process ids."""
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_the_interval_of_a_median() -> None:
    assert interval([3.0]) == (3.0, 3.0, 3.0)
    assert interval([5.0, 1.0, 3.0]) == (1.0, 3.0, 5.0)
    # 25 values: ranks 12.5 ∓ 4.9, so the 8th from either end
    assert interval([float(n) for n in range(25)]) == (7.0, 12.0, 17.0)
    assert Interval(0.9, 1.0, 1.1).half_width == pytest.approx(0.1)
    with pytest.raises(ValueError, match="at least one number"):
        interval([])


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    draw = random.Random(7)
    held = 0
    for _ in range(1000):
        low, _, high = interval([draw.gauss(0, 1) for _ in range(21)])
        held += low <= 0 <= high
    # 95 % of 1000; the standard deviation is 7
    assert 925 <= held <= 990


def test_ratios_are_taken_round_by_round() -> None:
    drift = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    found = ratio_interval([3 * d for d in drift], drift)
    assert found == (3.0, 3.0, 3.0)
    assert found.differs
    back = ratio_interval(drift, drift[::-1])
    assert back is not None
    assert not back.differs
    assert ratio_interval(drift, drift[:-1]) is None
    assert ratio_interval([1.0] * 4, [2.0] * 4) is None


def test_quiet_rounds_count_if_there_are_enough() -> None:
    busy = Load(0.5, 0.0)
    assert quiet_rounds([QUIET] * 5 + [busy] * 3) == [0, 1, 2, 3, 4]
    assert disturbance([QUIET] * 5 + [busy] * 3) == ""
    assert quiet_rounds([QUIET] * 4 + [busy] * 3) == list(range(7))
    assert disturbance([QUIET] * 4 + [busy] * 3) == "other processes took 21% of the processor"
    assert disturbance([Load(0.5, 0.4)] * 6) == "the host of this virtual machine gave 40% of the processor to others"
    assert disturbance([]) == ""


def test_what_is_steady() -> None:
    assert why_unsteady([1.0, 1.01, 0.99, 1.0, 1.02], [QUIET] * 5) == ""
    assert why_unsteady([1.0] * 4, [QUIET] * 4) == "it was timed 4 times only"
    assert "differ too much (median ± 50%)" in why_unsteady([1.0, 1.0, 2.0, 1.0, 1.0], [QUIET] * 5)
    assert "other processes" in why_unsteady([1.0] * 5, [Load(0.3, 0.0)] * 5)


@pytest.mark.parametrize("code", [BURN, STREAM], ids=["burns a core", "streams memory"])
def test_a_busy_machine_is_noticed(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = dict.fromkeys(("float32", "bfloat16", "float16"), 1e11)
    made_up = speed.Calibration("cpu", "test", 1, 1e10, 1e10, rates, 2**25, 2**20, ())
    calibrated(monkeypatch, made_up)
    cases = [Case("folded_matmul", 32, n, 128, 2048, device="cpu") for n in (32, 1)]
    with beside(code):
        results = list(benchmark.run_cases(cases, seconds_per_case=0.3))
    assert results
    for result in results:
        # either half of the machine was busy all the time, and the result says so; or enough rounds were undisturbed
        assert result.median_s == pytest.approx(median(result.times_s))
        assert result.unsteady.startswith(("other processes took", "the host of this virtual machine")), result
        assert result.times_floor is not None
        assert result.times_floor >= 1
