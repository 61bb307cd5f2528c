"""Worker job "generate": the published model writes, in columns that differ only in sharing.

Payload: the fields of ``attention.llm.plan.Plan``. Emits messages that ``attention.llm.written`` reads, about ten times
a second. Returns each column's figures, the host and its calibration. The model stays in this process for the next run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attention.llm.plan import Plan


def run(
    payload: dict[str, Any], emit: Callable[[dict[str, Any]], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """See the module.

    Raises:
        ValueError: a field that is not accepted; there is no model here, or it does not run.
    """
    plan = Plan.from_json(payload)
    from attention.llm import generate, loaded
    from attention.timing import host, speed

    found = generate.run(loaded.get(), plan, emit, should_stop)
    return {**found, "host": host.describe().to_json(), "calibration": speed.calibrate("cpu").to_json()}


def prepare(tell: Callable[[str, float], None]) -> None:
    """Load the model. ``tell(words, share)`` reports the progress."""
    from attention.llm import loaded

    loaded.get(tell)


def estimate_bytes(payload: dict[str, Any]) -> int:
    """Bytes that the run needs, for the check before it. The model is loaded by then."""
    plan = Plan.from_json(payload)
    from attention.llm import generate, loaded

    return generate.memory_needed(loaded.get(), plan)
