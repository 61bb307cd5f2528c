"""Runs for tests: their figures are made up, but consistent with one another."""

from dataclasses import replace
from statistics import median

from attention.kernels.case import Case, Result, case_bytes
from attention.timing.runs import Run

HOST = {"cpu": "Test(R) CPU 3000 @ 2.00GHz", "cores": 2, "threads": 2, "system": "TestOS", "gpus": []}


def result(implementation="folded_sdpa", n_kv_heads=7, context=1024, median_s=0.013, floor_s=0.011, **sizes):
    case = Case(implementation, 7 * 11, n_kv_heads, 19, context, **{"device": "cpu", **sizes})
    return Result(
        case,
        median_s=median_s,
        iqr_s=None if median_s is None else 0.0017,
        bytes_per_s=None if median_s is None else case_bytes(case) / median_s,
        error=3e-7,
        floor_s=floor_s,
        times_floor=None if median_s is None else median_s / floor_s,
        bound="memory",
        repeats=5,
        tolerance=1e-5,
        read_bytes_per_s=case_bytes(case) / floor_s,
        flops_per_s=1.3e11,
    )


def timed(times, unsteady="", together=1, **sizes):
    """A result with these times of its rounds."""
    made = result(median_s=median(times), **sizes)
    return replace(made, times_s=tuple(times), repeats=len(times), together=together, unsteady=unsteady)


def run(*results, **values):
    results = results or (result(n_kv_heads=77, median_s=0.13, floor_s=0.12), result(), result(n_kv_heads=1))
    fields = {
        "host": HOST,
        "calibration": {
            "name": "Test CPU 3000",
            "threads": 2,
            "read_bytes_per_s": 17e9,
            "flops_per_s": {"float32": 1e11},
        },
        "created": "2026-03-05T07:11:13+00:00",
        "versions": {"torch": "2.13.0"},
        "source": "server",
        "title": "a test",
    }
    return Run(results=tuple(results), **{**fields, **values})
