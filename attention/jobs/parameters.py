"""Worker job "parameters": count a configuration's parameters in the model's own code.

``attention/oracle/parameters.py`` does it. Payload: ``config`` (an object). Returns the count as plain values
(``Parameters.to_json``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def run(
    payload: dict[str, Any], emit: Callable[[dict[str, Any]], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """See the module.

    Raises:
        ValueError: a refused configuration, or a model that its own code cannot build.
    """
    from attention.oracle.parameters import count

    config = payload.get("config")
    if not isinstance(config, dict):
        raise ValueError(f"config must be an object, got {type(config).__name__}")
    emit({"progress": 0.1, "message": "building the model without weights"})
    return count(config).to_json()
