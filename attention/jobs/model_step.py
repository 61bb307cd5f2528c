"""Worker job "model_step": time a decoder layer with a model's real sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from attention.timing import host, model_step, speed
from attention.timing.inputs import resolve_device
from attention.timing.payload import cases_of, options_of
from attention.timing.step_cases import StepShape

MOST = 200
"""Most cases of one run."""


def run(payload: dict[str, Any], emit: Callable[[dict], None], should_stop: Callable[[], bool]) -> dict[str, Any]:
    """payload: {"cases": [StepCase fields …], "seconds_per_case": 1.5, "memory_bytes": null}.

    Emits StepResults. The last one of a case counts; those before it are provisional. Returns the host and its
    calibration.

    Raises:
        ValueError: a wrong payload, or a case that does not fit the memory; the message names it.
    """
    cases = cases_of(payload, model_step.StepCase.from_json, MOST)
    timed = model_step.run_steps(cases, should_stop=should_stop, **options_of(payload, seconds=1.5))
    emit({"progress": 0.0, "message": f"Timing 1 of {len(cases)}"})
    seen: Counter[StepShape] = Counter()
    most = 3 if cases[0].prefill else 2  # results of a case; the first case has one more
    for result in timed:
        emit(result.to_json())
        seen[result.case] += 1
        done = sum(seen.values()) / (most * len(cases))
        emit({"progress": min(1.0, done), "message": f"{len(seen)} of {len(cases)} steps begun, each timed in turn"})
    device = resolve_device(cases[0].device)
    return {"host": host.describe().to_json(), "calibration": speed.calibrate(device).to_json()}


def estimate_bytes(payload: dict[str, Any]) -> int:
    """Bytes that the largest case needs, for the check before the run."""
    return max(case.memory_bytes for case in cases_of(payload, model_step.StepCase.from_json, MOST))
