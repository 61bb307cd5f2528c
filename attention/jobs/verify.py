"""Worker job "verify": compare a model's computed cache with the cache that its own code keeps.

``attention/oracle/verify.py`` does it. Payload: ``context``, and either ``model`` (a catalogue name) or ``config`` (an
object) with ``name``. Emits the verification as one object, and returns the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attention.spec import check_size


def run(
    payload: dict[str, Any], emit: Callable[[dict[str, Any]], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """See the module.

    Raises:
        ValueError: a wrong payload, a refused configuration, or a model that its own code cannot build.
    """
    from attention.catalog import published
    from attention.oracle.verify import verify

    context = check_size("context", payload.get("context"), 2)
    spec = None
    if payload.get("model") is not None:
        row = published.model(payload["model"])
        config, name, spec = row.config, row.id, row.spec
        if config is None:
            raise ValueError(
                f"{row.label}: {row.unpublished or 'the catalogue holds no configuration to build it from'}"
            )
    else:
        config, name = payload.get("config"), str(payload.get("name", "config.json"))[:200]
        if not isinstance(config, dict):
            raise ValueError(f"config must be an object, got {type(config).__name__}")
    emit({"progress": 0.1, "message": f"building {name} without weights"})
    found = verify(config, context, name, spec)
    emit({"progress": 1.0, "message": "compared"})
    result = found.to_dict()
    emit(result)
    return result
