"""Worker job "bench": time the cases of the payload, one result at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attention.kernels.case import Case
from attention.timing import benchmark, host, inputs, speed
from attention.timing.payload import cases_of, options_of
from attention.timing.steadiness import STILL_TIMED

MOST = 500
"""Most cases of one run."""


def run(payload: dict[str, Any], emit: Callable[[dict], None], should_stop: Callable[[], bool]) -> dict[str, Any]:
    """payload: {"cases": [Case fields …], "seconds_per_case": 0.6, "memory_bytes": null}.

    Emits Results. The last one of a case counts; those before it are provisional. Returns the host and its calibration.

    Raises:
        ValueError: a wrong payload, or a case that does not fit the memory; the message names it.
    """
    cases = cases_of(payload, Case.from_json, MOST)
    timed = benchmark.run_cases(cases, should_stop=should_stop, **options_of(payload, seconds=0.6))
    emit({"progress": 0.0, "message": f"Timing 1 of {len(cases)}"})
    begun: set[Case] = set()
    finished = 0
    for result in timed:
        emit(result.to_json())
        begun.add(result.case)
        finished += result.unsteady != STILL_TIMED
        emit({"progress": (len(begun) + finished) / (2 * len(cases)), "message": _progress(finished, begun, cases)})
    device = inputs.resolve_device(cases[0].device)
    return {"host": host.describe().to_json(), "calibration": speed.calibrate(device).to_json()}


def _progress(finished: int, begun: set[Case], cases: list[Case]) -> str:
    if finished:
        return f"{finished} of {len(cases)} timed"
    return f"{len(begun)} of {len(cases)} tried, then all in turn"


def estimate_bytes(payload: dict[str, Any]) -> int:
    """Bytes that the largest case needs, for the check before the run."""
    return max(inputs.memory_needed(case) for case in cases_of(payload, Case.from_json, MOST))
