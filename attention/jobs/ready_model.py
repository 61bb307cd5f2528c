"""Worker job "ready_model": load the published model and compile its kernels before somebody asks for words.

The server submits it, in its turn, when a page that needs the model is opened (``worker.client.prepare``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def run(
    payload: dict[str, Any], emit: Callable[[dict[str, Any]], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """See the module.

    Raises:
        ValueError: no model here, or one that does not run.
    """
    from attention.llm import loaded

    found = loaded.make_ready(lambda words, share: emit({"progress": share, "message": words}))
    return {"model": found.name}
