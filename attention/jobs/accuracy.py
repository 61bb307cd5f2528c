"""Worker job "accuracy": repeat rows of the accuracy file now, on this host.

Payload: ``models``, a list of catalogue ids. Emits one ``accuracy.Check`` as an object per model whose configuration is
published.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any


def run(
    payload: dict[str, Any], emit: Callable[[dict[str, Any]], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """See the module. Returns the number of models that were checked.

    Raises:
        ValueError: `models` is not a list of 1 to 500 catalogue names.
    """
    from attention.catalog import published
    from attention.oracle import accuracy

    names = payload.get("models")
    if not isinstance(names, list) or not names or len(names) > 500:
        raise ValueError("models must be a list of 1 to 500 catalogue names")
    done = 0
    for row in [published.model(name) for name in names]:
        if should_stop():
            break
        if row.config is not None and row.spec is not None:
            emit(asdict(accuracy.check(accuracy.Subject(row.id, row.family, "catalogue", row.config, row.spec))))
        done += 1
        emit({"progress": done / len(names), "message": row.label})
    return {"checked": done}
