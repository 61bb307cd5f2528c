"""Worker job "kinds": time steps over kinds of cache in the same rounds, each by all implementations that suit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from attention.kernels.kinds import registry
from attention.kernels.kinds.case import KindCase
from attention.timing import host, kinds, speed
from attention.timing.inputs import resolve_device
from attention.timing.payload import cases_of, options_of
from attention.timing.steadiness import STILL_TIMED

MOST = 40
"""Most shapes of one run."""
LEFT_OUT = ("flex",)
"""Implementations that are not timed: they take longer to compile than a visitor waits."""


def run(payload: dict[str, Any], emit: Callable[[dict], None], should_stop: Callable[[], bool]) -> dict[str, Any]:
    """payload: {"cases": [KindCase fields …], "seconds_per_case": 0.3}.

    A case's own implementation is ignored: its shape is timed by all implementations that suit it. Emits KindResults.
    The last one of a case counts; those before it are provisional. Returns the host and its calibration.

    Raises:
        ValueError: a wrong payload, cases of several devices or dtypes, a case that does not fit the memory, or one
            that nothing here can time; the message names it.
    """
    cases = _cases(payload)
    seconds = options_of(payload, seconds=0.3)["seconds_per_case"]
    emit({"progress": 0.0, "message": f"Checking 1 of {len(cases)} against float64"})
    begun: set[KindCase] = set()
    finished = 0
    for result in kinds.run_set(cases, seconds_per_case=seconds, should_stop=should_stop, provisional=True):
        emit(result.to_json())
        begun.add(result.case)
        finished += result.unsteady != STILL_TIMED
        words = f"{len(begun)} of {len(cases)} tried, then all in turn" if not finished else f"{finished} timed"
        emit({"progress": min(1.0, (len(begun) + finished) / (2 * len(cases))), "message": words})
    return {"host": host.describe().to_json(), "calibration": speed.calibrate(cases[0].device).to_json()}


def estimate_bytes(payload: dict[str, Any]) -> int:
    """Bytes that the shapes need together, for the check before the run."""
    return kinds.set_memory(_cases(payload))


def _cases(payload: dict[str, Any]) -> list[KindCase]:
    found = []
    for shape in cases_of(payload, KindCase.from_json, MOST):
        own = replace(shape, device=resolve_device(shape.device))
        names = [name for name in registry.suited(own) if name not in LEFT_OUT]
        if not names:
            raise ValueError(f"kind {own.kind}: nothing here can time it on {own.device}")
        found += [replace(own, implementation=name) for name in names]
    return found
