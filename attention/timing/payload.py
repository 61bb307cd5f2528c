"""Reads the payload of jobs that time something: a list of cases, and the seconds to spend on each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

C = TypeVar("C")


def cases_of(payload: dict[str, Any], read: Callable[[Any], C], most: int) -> list[C]:
    """The payload's "cases", each read by `read`.

    Raises:
        ValueError: not a list of 1 to `most` cases, or a case that `read` refuses.
    """
    raw = payload.get("cases")
    if not isinstance(raw, list) or not 1 <= len(raw) <= most:
        raise ValueError(f"cases must be a list of 1 to {most} cases")
    return [read(case) for case in raw]


def options_of(payload: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Keyword arguments of ``run_cases`` and ``run_steps``: "seconds_per_case", "memory_bytes", and "provisional" True.

    Args:
        seconds: "seconds_per_case" where the payload does not give it.

    Raises:
        ValueError: seconds_per_case is not above 0 and at most 60.
    """
    seconds = payload.get("seconds_per_case", seconds)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 60:
        raise ValueError(f"seconds_per_case must be above 0 and at most 60, got {seconds!r}")
    return {"seconds_per_case": seconds, "memory_bytes": payload.get("memory_bytes"), "provisional": True}
