"""Puts the wall clock of a Python process off by as many seconds as the file SHIFTED_CLOCK says at that moment.

Put this folder on PYTHONPATH. Monotonic clocks are left as they are, as on a host whose clock is set.
"""

import os
import time

_seconds, _nanoseconds = time.time, time.time_ns


def shift_s() -> int:
    """Seconds by which the wall clock is off at this moment."""
    with open(os.environ["SHIFTED_CLOCK"]) as file:
        return int(file.read() or 0)


def shifted() -> float:
    return _seconds() + shift_s()


def shifted_ns() -> int:
    return _nanoseconds() + shift_s() * 10**9


if __name__ == "sitecustomize":
    time.time, time.time_ns = shifted, shifted_ns
