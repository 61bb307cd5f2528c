"""Worker job "bench": time the cases asked for, one result at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attention import benchmark, host
from attention.cases import Case


def run(payload: dict[str, Any], emit: Callable[[dict], None], should_stop: Callable[[], bool]) -> dict[str, Any]:
    """payload: {"cases": [Case fields …], "seconds_per_case": 0.6, "memory_bytes": null}; emits one Result per case.

    Returns the host and its calibration.

    Raises:
        ValueError: naming what is wrong with the payload, or a case that does not fit the memory.
    """
    cases = _cases(payload)
    seconds = payload.get("seconds_per_case", 0.6)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 60:
        raise ValueError(f"seconds_per_case must be above 0 and at most 60, got {seconds!r}")
    timed = benchmark.run_cases(
        cases, should_stop=should_stop, seconds_per_case=seconds, memory_bytes=payload.get("memory_bytes")
    )
    emit({"progress": 0.0, "message": f"Timing 1 of {len(cases)}"})
    for number, result in enumerate(timed, 1):
        emit(result.to_json())
        emit({"progress": number / len(cases), "message": f"{number} of {len(cases)} timed"})
    device = benchmark.resolve_device(cases[0].device)
    return {"host": host.describe().to_json(), "calibration": host.calibrate(device).to_json()}


def estimate_bytes(payload: dict[str, Any]) -> int:
    """Memory the largest case needs, for the check before the run."""
    return max(benchmark.memory_needed(case) for case in _cases(payload))


def _cases(payload: dict[str, Any]) -> list[Case]:
    raw = payload.get("cases")
    if not isinstance(raw, list) or not 1 <= len(raw) <= 500:
        raise ValueError("cases must be a list of 1 to 500 cases")
    return [Case.from_json(case) for case in raw]
