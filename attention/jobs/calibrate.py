"""Worker job "calibrate": measure the machine, or report the calibration that is known already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attention.timing import host, speed
from attention.timing.inputs import resolve_device


def run(payload: dict[str, Any], emit: Callable[[dict], None], should_stop: Callable[[], bool]) -> dict[str, Any]:
    """payload: {"device": "auto"|"cpu"|"cuda", "again": false} -> {"host": …, "calibration": …}.

    Raises:
        ValueError: there is no such device here.
    """
    device = resolve_device(str(payload.get("device", "auto")))
    calibration = speed.calibrate(device, again=bool(payload.get("again", False)))
    return {"host": host.describe().to_json(), "calibration": calibration.to_json()}
