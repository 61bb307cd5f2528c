"""Worker job "ready_model": load the published model and compile its kernels before a reader needs them.

The server submits it when a page that needs the model is opened (``worker.client.prepare``). Returns the model's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def run(
    payload: dict[str, Any], emit: Callable[[dict[str, Any]], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """See the module.

    Raises:
        ValueError: there is no model here, or it does not run.
    """
    from attention.llm import loaded

    found = loaded.make_ready(lambda words, share: emit({"progress": share, "message": words}))
    return {"model": found.name}
