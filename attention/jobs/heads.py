"""Worker job "heads": what the published model's heads look at in a reader's text, layer by layer.

Payload: "text"; "first_layer", the layer to emit first, from 0. Emits {"kind": "model", …}, {"kind": "predictions", …}
and {"kind": "layer", "layer": i, "maps": …} for each layer, which ``attention.llm.looked`` reads. Returns the seconds
and the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attention.llm.plan import check_prompt
from attention.spec import check_size


def run(
    payload: dict[str, Any], emit: Callable[[dict[str, Any]], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """See the module.

    Raises:
        ValueError: a field that is not accepted; there is no model here, or it does not run.
    """
    text = check_prompt(payload.get("text"))
    first = check_size("first_layer", payload.get("first_layer", 0), 0, 1000)
    from attention.llm import heads, loaded
    from attention.timing import host

    seconds = heads.tell_of(loaded.get(), text, first, emit, should_stop)
    return {"seconds": seconds, "host": host.describe().to_json()}


def prepare(tell: Callable[[str, float], None]) -> None:
    """Load the model. ``tell(words, share)`` reports the progress."""
    from attention.llm import loaded

    loaded.get(tell)
